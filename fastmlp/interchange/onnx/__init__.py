"""ONNX, the format of networks that most runtimes read.

`nodes.py` has what a network computes, as nodes of ONNX. `export.py` makes a model of them, and `pipelines.py` gives
them to skl2onnx, which converts whole pipelines. For reading, `files.py` opens files of any origin, `values.py` has
what a node may compute of the rows, `operators.py` follows the nodes, and `read.py` makes a network of what it found.
"""

"""ONNX, the form of networks that most runtimes read.

`nodes.py` has what a network computes, as nodes of ONNX. `export.py` makes a model of them; `skl2onnx.py` gives them to
skl2onnx, which converts whole pipelines. `files.py` opens files of any origin, `values.py` is what their nodes may
compute, `nodes_read.py` follows them, and `read.py` makes a network of what it found.
"""

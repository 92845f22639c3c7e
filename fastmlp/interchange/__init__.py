"""Networks in the formats of other programs: ONNX, PyTorch, Keras, scikit-learn, C.

Each form has a module, which imports the other program inside its functions. The methods ``to_...`` and ``from_...``
are in `networks.py` and `estimators.py`. To add a form, write its module and a method there.
"""

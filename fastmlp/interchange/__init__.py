"""Networks in the forms of other programs: ONNX, PyTorch, Keras, scikit-learn, C.

One module holds one form, and imports the other program inside its functions. `methods.py` gives networks and
estimators their ``to_...`` and ``from_...`` methods. To add a form, write its module and a method there.
"""

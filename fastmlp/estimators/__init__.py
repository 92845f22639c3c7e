"""scikit-learn's multilayer perceptrons, many times faster: `MLPClassifier` and `MLPRegressor`.

Parameters, attributes, methods, warnings and messages are those of scikit-learn 1.9. `docs/scikit-learn.md` lists the
deliberate differences.
"""

from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.regressor import MLPRegressor
from fastmlp.interchange import mlflow
from fastmlp.interchange.onnx import pipelines

__all__ = ["MLPClassifier", "MLPRegressor"]

mlflow.register([MLPClassifier, MLPRegressor])
pipelines.register(MLPClassifier, MLPRegressor)

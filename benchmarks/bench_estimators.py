"""The scikit-learn compatible classifier compared with scikit-learn's own."""

import warnings

from .suite import OnMnist, check_accuracy, part


class Classifier(OnMnist):
    param_names = ["library"]
    params = [["fastmlp", "sklearn"]]
    rounds, number, repeat, warmup_time = 1, 1, (1, 5, 10.0), 0
    settings = {
        "hidden_layer_sizes": (128,), "solver": "sgd", "alpha": 0.0, "momentum": 0.0, "nesterovs_momentum": False,
        "batch_size": 64, "learning_rate_init": 0.1, "max_iter": 1, "random_state": 0,
    }  # fmt: skip

    def setup(self, data, library):
        X, y, X_test, y_test = data
        self.X, self.y, self.X_test, self.y_test = X, y, X_test, y_test
        if library == "fastmlp":
            MLPClassifier = part("estimators").MLPClassifier
        else:
            from sklearn.neural_network import MLPClassifier
        self.make = MLPClassifier
        self.time_fit_of_an_epoch(data, library, 512)

    def time_fit_of_an_epoch(self, data, library, n_rows=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it has not converged
            self.model = self.make(**self.settings).fit(self.X[:n_rows], self.y[:n_rows])

    def teardown(self, data, library):
        if hasattr(self, "model"):
            check_accuracy(self.model.score(self.X_test, self.y_test), 0.5 if self.model.t_ < 10_000 else 0.9)

"""Predictions of a trained network, for one row and for the 10,000 test rows of MNIST."""

from .suite import IMPLEMENTATIONS, OnMnist, check_accuracy


class Predict(OnMnist):
    param_names = ["implementation", "rows"]
    params = [list(IMPLEMENTATIONS), [1, 10_000]]
    rounds = 1

    def setup(self, data, implementation, n_rows):
        X, y, X_test, self.y_test = data
        self.net = IMPLEMENTATIONS[implementation]((784, 128, 10))
        self.net.fit(X[:10_000], y[:10_000], epochs=2)
        self.X_test, self.rows = X_test, X_test[:n_rows]
        self.net.predict_proba(self.rows)

    def time_predict_proba(self, data, implementation, n_rows):
        self.net.predict_proba(self.rows)

    def teardown(self, data, implementation, n_rows):
        check_accuracy(self.net.score(self.X_test, self.y_test), 0.85)

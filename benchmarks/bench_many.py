"""Many networks at the same time."""

import fastmlp

from .suite import OnMnist, check_accuracy, only


class Many(OnMnist):
    """Eight networks, one epoch each."""

    rounds, number, repeat, warmup_time = 1, 1, (1, 5, 10.0), 0

    def setup(self, data):
        only(hasattr(fastmlp, "fit_many"))
        X, y, *_ = data
        self.networks()
        fastmlp.fit_many(self.nets, X[:256], y[:256], epochs=1)
        self.networks()

    def networks(self):
        self.nets = [fastmlp.MLP([784, 128, 10], seed=seed) for seed in range(8)]

    def time_fit_many(self, data):
        X, y, *_ = data
        fastmlp.fit_many(self.nets, X, y, epochs=1)

    def teardown(self, data):
        _, _, X_test, y_test = data
        for net in self.nets:
            check_accuracy(net.score(X_test, y_test), 0.85)

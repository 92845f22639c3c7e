"""What the epochs are for: the accuracy they come to, and the seconds to accuracies that people name."""

from .suite import IMPLEMENTATIONS, OnMnist, WrongAccuracy, only, warm_up

RATE, MOST_EPOCHS = 0.3, 30  # 97 % after 4 epochs and 98 % after 11


class Accuracy(OnMnist):
    unit = "test accuracy"
    param_names = ["implementation"]
    params = [list(IMPLEMENTATIONS)]

    def track_after_5_epochs(self, data, implementation):
        X, y, X_test, y_test = data
        net = IMPLEMENTATIONS[implementation]((784, 128, 10))
        net.fit(X, y, epochs=5)
        return net.score(X_test, y_test)


class SecondsTo(OnMnist):
    """Seconds of the epochs, without validation, until test accuracy is there."""

    unit = "seconds"
    param_names = ["implementation", "test accuracy"]
    params = [list(IMPLEMENTATIONS), [0.97, 0.98]]

    def setup(self, data, implementation, accuracy):
        only(implementation == "fastmlp" or accuracy < 0.98)  # NumPy would take a minute

    def track_seconds(self, data, implementation, accuracy):
        X, y, X_test, y_test = data
        make = lambda: IMPLEMENTATIONS[implementation]((784, 128, 10))  # noqa: E731
        warm_up(make, X, y)
        net = make()
        for _ in range(MOST_EPOCHS):
            history = net.fit(X, y, epochs=1, learning_rate=RATE)
            if net.score(X_test, y_test) >= accuracy:
                return sum(history.seconds)
        raise WrongAccuracy(f"{accuracy} is not reached in {MOST_EPOCHS} epochs")

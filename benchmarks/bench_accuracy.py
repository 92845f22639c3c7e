"""Test accuracy after some epochs, and the seconds of training until a test accuracy is reached."""

from .suite import IMPLEMENTATIONS, OnMnist, WrongAccuracy, at_least, part, warm_up


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
    """Seconds of training with the preset "fast" until a test accuracy is reached; validation is not counted."""

    unit = "seconds"
    param_names = ["implementation", "test accuracy"]
    params = [list(IMPLEMENTATIONS), [0.97, 0.98]]
    version = "2"  # the first trained without a schedule

    def setup(self, data, implementation, accuracy):
        preset = part("cli.presets", "presets").PRESETS["fast"]
        self.layers = (784, *preset.hidden, 10)
        self.settings = preset.settings | {"activation": preset.activation}
        self.fit = {"batch_size": preset.batch_size, "optimizer": preset.optimizer, "schedule": preset.schedule}
        self.fit["epochs"] = preset.epochs

    def track_seconds(self, data, implementation, accuracy):
        X, y, X_test, y_test = data
        make = lambda: IMPLEMENTATIONS[implementation](self.layers, **self.settings)  # noqa: E731
        warm_up(make, X, y, **self.fit)
        seen = UntilAccuracy(X_test, y_test, at_least(accuracy))
        history = make().fit(X, y, callbacks=[seen], **self.fit)
        if not seen.reached:
            raise WrongAccuracy(f"accuracy {accuracy} was not reached in {len(history.seconds)} epochs")
        return sum(history.seconds)


class UntilAccuracy:
    """A callback that ends a fit once an accuracy is reached."""

    def __init__(self, X, y, accuracy):
        self.X, self.y, self.accuracy, self.reached = X, y, accuracy, False

    def on_epoch_end(self, net, fit):
        self.reached = fit.stop = net.score(self.X, self.y) >= self.accuracy

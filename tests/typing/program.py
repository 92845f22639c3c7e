"""A program that uses the whole public interface. Type checkers read it in their strict modes; it is not run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastmlp
from fastmlp import (
    MLP,
    Ensemble,
    History,
    MLPClassifier,
    MLPRegressor,
    callbacks,
    check_gradients,
    data,
    datasets,
    fit_many,
    metrics,
    optimizers,
    plots,
    presets,
    reference,
    schedules,
    search,
    warm_up,
)

Labels = NDArray[np.int64]
Rows = NDArray[np.float32]


def main() -> None:
    X, y, X_test, y_test = datasets.load_mnist(n_samples=1000, seed=1)
    assert_type(X, Rows)
    assert_type(y_test, Labels)
    warm_up([784, 32, 10], optimizer="adam", rows=["dense"], clip_norm=1.0)

    net = MLP([784, 32, 10], activation=["gelu"], output="softmax", init="he", seed=0, dropout=0.1, l2=1e-5)
    history = net.fit(
        X,
        y,
        epochs=3,
        batch_size=32,
        optimizer=optimizers.AdamW(learning_rate=1e-3),
        schedule=schedules.OneCycle(),
        clip_norm=1.0,
        class_weight={0: 2.0},
        validation_data=(X_test, y_test),
        metrics=["f1_macro", absolute_error],
        callbacks=[callbacks.EarlyStopping("val_loss", patience=2), callbacks.Table(every=2), Stop()],
        progress=False,
    )
    assert_type(history, History)
    assert_type(history.loss, list[float])
    assert_type(history.interrupted, bool)
    assert_type(net.score(X_test, y_test), float)
    assert_type(net.evaluate(X_test, y_test), dict[str, float])
    assert_type(net.layers, tuple[int, ...])
    assert_type(net.n_parameters, int)
    assert_type(net.feature_names, list[str] | None)
    labels: NDArray[Any] = net.predict(X_test)
    probabilities: NDArray[Any] = net.predict_proba(X_test)
    print(labels.shape, probabilities[0].argmax())
    loss, dW, db = net.gradients(X[:8], y[:8])
    print(loss + 1.0, dW[0].shape, db[0].shape)
    assert_type(net.train_batch(X[:8], y[:8], learning_rate=0.1), float)
    net.weights[0] = np.zeros((784, 32), np.float32)
    net.n_threads = 2
    net.save("net.npz", training=True)
    again = MLP.load("net.npz")
    assert_type(again, MLP)
    again.load_state_dict(net.state_dict())
    net.fit(data.Blocks("x.npy", "y.npy", rows=100), epochs=1, optimizer="sgd", schedule="cosine")

    twin = reference.MLP([4, 3, 2], activation="tanh")
    print(check_gradients(twin, X[:4, :4], y[:4] % 2))

    nets = [presets.PRESETS["fast"].network(784, 10, seed=seed) for seed in range(3)]
    histories = fit_many(nets, X, y, epochs=2)
    print(histories[0].loss)
    ensemble = Ensemble(nets[0], n=3, bootstrap=True)
    assert_type(ensemble.fit(X, y, epochs=2), list[History])
    print(ensemble.score(X_test, y_test))
    found = search({"learning_rate": [0.1, 0.2]}, X, y, layers=[784, 16, 10])
    print(found)

    classifier = MLPClassifier((32,), alpha=1e-4, random_state=1).fit(X, y)
    assert_type(classifier, MLPClassifier)
    print(classifier.predict(X_test), classifier.classes_)
    regressor = MLPRegressor(max_iter=10).fit(X, y)
    print(regressor.predict(X_test), float(regressor.score(X_test, y_test)))

    plots.confusion_matrix(net, X_test, y_test).save("confusion.png")
    fastmlp.report(net, X_test, y_test, "report.html")
    print(metrics.r2, fastmlp.__version__)


def absolute_error(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    return float(np.abs(y_true - y_pred).mean())


class Stop:
    """A callback of one's own."""

    def on_epoch_end(self, net: Any, fit: Any) -> None:
        fit.stop = True


if __name__ == "__main__":
    main()

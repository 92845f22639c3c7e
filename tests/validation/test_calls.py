"""Wrong arguments of public calls: the error says what was meant."""

import inspect
import re

import numpy as np
import pytest
from support.nets import refused

import fastmlp
from fastmlp import MLP, callbacks, datasets, optimizers, reference, schedules
from fastmlp.validation.calls import advised

X, Y = np.zeros((3, 4), np.float32), [0, 1, 2]
SPACE = {"layers": [[4, 3]]}
EARLY = "did you mean callbacks=[fastmlp.callbacks.EarlyStopping(patience=10)]?"

WRONG = {
    "MLP takes its layers as one list: MLP([784, 128, 10])": lambda: MLP(784, 128, 10),
    "MLP needs layers": lambda: MLP(),
    "warm_up needs layers": lambda: fastmlp.warm_up(),
    "unknown argument 'random_state'; did you mean 'seed'?": lambda: MLP([4, 3], random_state=1),
    "unknown argument 'lr'; did you mean 'learning_rate', an argument of fit?": lambda: MLP([4, 3], lr=0.1),
    "unknown argument 'epochs'; it is an argument of fit": lambda: reference.MLP([4, 3], epochs=1),
    "unknown argument 'lr'; did you mean 'learning_rate'?": lambda: MLP([4, 3]).fit(X, Y, lr=0.1),
    "unknown argument 'verbose'; did you mean 'progress'?": lambda: MLP([4, 3]).fit(X, Y, verbose=1),
    "unknown argument 'validation_split'; did you mean 'validation_fraction'?": lambda: MLP([4, 3]).fit(
        X, Y, validation_split=0.1
    ),
    "unknown argument 'max_iter'; did you mean 'epochs'?": lambda: reference.MLP([4, 3]).fit(X, Y, max_iter=3),
    "unknown argument 'epoch'; did you mean 'epochs'?": lambda: MLP([4, 3]).fit(X, Y, epoch=3),
    "unknown argument 'dropout'; it is an argument of MLP": lambda: MLP([4, 3]).fit(X, Y, dropout=0.1),
    "fit_many needs y": lambda: fastmlp.fit_many([MLP([4, 3])], X),
    "unknown argument 'n_jobs'; did you mean 'n_threads', an argument of MLP?": lambda: MLP([4, 3]).fit(X, Y, n_jobs=2),
    "unknown argument 'scoring'; did you mean 'metrics'?": lambda: MLP([4, 3]).fit(X, Y, scoring="f1"),
    "unknown argument 'n_networks'; did you mean 'n'?": lambda: fastmlp.Ensemble(MLP([4, 3]), n_networks=3),
    "unknown argument 'n_iter'; did you mean 'n_trials'?": lambda: fastmlp.search(SPACE, X, Y, n_iter=5),
    "unknown argument 'cv'; did you mean 'folds'?": lambda: fastmlp.search(SPACE, X, Y, cv=5),
    "unknown argument 'scoring'; did you mean 'metric'?": lambda: fastmlp.search(SPACE, X, Y, scoring="f1_macro"),
    f"unknown argument 'patience'; {EARLY}": lambda: MLP([4, 3]).fit(X, Y, patience=3),
    f"unknown argument 'early_stopping'; {EARLY}": lambda: fastmlp.fit_many([MLP([4, 3])], X, Y, early_stopping=True),
    "fit needs y": lambda: MLP([4, 3]).fit(X),
    "fit needs X and y": lambda: fastmlp.Ensemble(MLP([4, 3]), n=2).fit(epochs=1),
    "fit takes X and y by position; name the others: fit(X, y, epochs=...)": lambda: MLP([4, 3]).fit(X, Y, 10),
    "fit got X twice, by position and by name": lambda: MLP([4, 3]).fit(X, Y, X=X),
    "unknown argument 'verbose'; predict takes X, out": lambda: MLP([4, 3]).predict(X, verbose=0),
    "unknown argument 'filepath'; did you mean 'path'?": lambda: MLP.load(filepath="net.npz"),
    "unknown argument 'epsilon'; did you mean 'eps'?": lambda: optimizers.Adam(epsilon=1e-8),
    "Adam takes its arguments by name: Adam(learning_rate=...)": lambda: optimizers.Adam(0.1),
    "Step needs every": lambda: schedules.Step(),
    "unknown argument 'factor'; did you mean 'gamma'?": lambda: schedules.Exponential(factor=0.5),
    "unknown argument 'restore_best_weights'; did you mean 'restore_best'?": lambda: callbacks.EarlyStopping(
        restore_best_weights=True
    ),
    "unknown argument 'path'; load_digits takes no arguments": lambda: datasets.load_digits(path="digits"),
}


@pytest.mark.parametrize("message", WRONG)
def test_the_error_of_a_wrong_call_says_what_was_meant(message):
    with refused(TypeError, message) as caught:
        WRONG[message]()
    assert "Network" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


MADE_BY_FIT = ("Duration", "FitState")


def public_calls():
    for name in ("MLP", "callbacks", "datasets", "optimizers", "reference", "schedules"):
        module = getattr(fastmlp, name)
        members = [module] if inspect.isclass(module) else [getattr(module, public) for public in module.__all__]
        for member in members:
            if inspect.isclass(member) and not inspect.isabstract(member) and member.__name__ not in MADE_BY_FIT:
                yield member
    net = MLP([4, 3])
    for name in dir(MLP):
        if not name.startswith("_") and callable(getattr(net, name)):
            yield getattr(net, name)


@pytest.mark.parametrize("call", public_calls(), ids=lambda call: call.__qualname__)
def test_no_error_names_an_internal_class(call):
    with pytest.raises(TypeError, match="lrate") as caught:
        call(lrate=1)
    assert not {"Network", "Model"} & set(re.findall(r"\w+", str(caught.value)))
    assert "__init__" not in str(caught.value)


def test_what_a_call_raises_itself_stays_as_it_is():
    @advised
    def call(inner):
        return inner()

    with pytest.raises(TypeError, match="takes no keyword") as caught:
        call(lambda: dict.fromkeys([], sample=1))
    assert caught.traceback[-1].name == "<lambda>"
    assert call(lambda: 3) == 3


@pytest.mark.parametrize("call", [MLP, MLP.fit, optimizers.Adam, datasets.load_idx])
def test_the_signature_stays_that_of_the_call(call):
    assert "kwargs" not in inspect.signature(call).parameters
    assert len(inspect.signature(call).parameters) >= 2


def test_warnings_name_the_line_of_the_user():
    settings = {"epochs": 1, "resume": True}
    for kind in (MLP, reference.MLP):
        net = kind([4, 3])
        net.fit(X, Y, epochs=1)
        with pytest.warns(UserWarning, match="trained nothing") as caught:
            net.fit(X, Y, **settings)
        assert caught[0].filename == __file__
        with pytest.warns(UserWarning, match="trained nothing") as caught:
            kind.fit(net, X, Y, **settings)
        assert caught[0].filename == __file__

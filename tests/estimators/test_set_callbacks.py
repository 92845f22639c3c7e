"""Callbacks of scikit-learn 1.9, which `set_callbacks` sets."""

import copy
import pickle
import signal

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.fitted import IRIS, brief, network, one_thread, same_bits  # noqa: F401
from support.nets import AtEpochEnd, refused

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.callbacks import EarlyStopping

monitors = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 introduced callbacks")
pytestmark = brief


class Notes:
    """A callback of scikit-learn that notes its calls; `stop` says at which end of a task to return True."""

    def __init__(self, stop=0, fail=""):
        self.calls, self.stop, self.fail, self.estimators = [], stop, fail, []

    def _note(self, hook, context):
        self.calls.append((hook, context.task_name, context.task_id))
        if hook == self.fail:
            raise RuntimeError("no more disk")

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        self._note("begin", context)
        self.data = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.estimators.append(fitted_estimator)
        self._note("end", context)
        return [hook for hook, *_ in self.calls].count("end") == self.stop

    def hooks(self):
        return [hook for hook, *_ in self.calls]


def estimator(*set_callbacks, kind=MLPClassifier, **settings):
    est = kind(**{"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0} | settings)
    return est.set_callbacks(*set_callbacks)


def test_tasks_are_the_epochs():
    notes = Notes()
    estimator(notes).fit(*IRIS, sample_weight=np.ones(150))
    epochs = [(hook, "epoch", i) for i in range(3) for hook in ("begin", "end")]
    fit = [(hook, "fit", 0) for hook in ("setup", "begin", "end", "teardown")]
    assert notes.calls == [*fit[:2], *epochs, *fit[2:]]
    X, y, metadata = notes.data
    assert X is IRIS[0]
    assert y is IRIS[1]
    assert list(metadata) == ["sample_weight"]


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "sgd"}, {"solver": "lbfgs"}])
def test_training_is_the_same_with_callbacks(settings):
    assert same_bits(estimator(Notes(), **settings).fit(*IRIS), estimator(**settings).fit(*IRIS))


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True, "max_iter": 20}, {"solver": "lbfgs"}])
def test_fitted_estimators_are_those_of_a_shorter_fit(settings):
    notes = Notes()
    est = estimator(notes, **settings).fit(*IRIS)
    for n, seen in enumerate(notes.estimators[:3], 1):
        shorter = estimator(**settings).set_params(max_iter=n).fit(*IRIS)
        assert same_bits(seen, shorter)
        assert (seen.predict(IRIS[0]) == shorter.predict(IRIS[0])).all()
    assert same_bits(notes.estimators[-1], est)
    seen.fit(*IRIS)  # is another estimator
    assert same_bits(notes.estimators[-1], est)


def test_regression():
    notes = Notes()
    estimator(notes, kind=MLPRegressor).fit(*IRIS)
    assert notes.hooks().count("end") == 4
    assert notes.estimators[0].predict(IRIS[0]).shape == (150,)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_ends_the_fit(solver):
    notes = Notes(stop=2)
    est = estimator(notes, solver=solver, max_iter=50).fit(*IRIS)
    assert est.n_iter_ == 2
    assert notes.hooks() == ["setup", "begin", *["begin", "end"] * 2, "end", "teardown"]
    assert same_bits(est, estimator(solver=solver, max_iter=2).fit(*IRIS))


def test_lbfgs_ends_each_iteration_that_it_began():
    notes = Notes()
    estimator(notes, solver="lbfgs").fit(*IRIS)
    assert notes.hooks().count("begin") == notes.hooks().count("end") == 5  # scikit-learn, too, begins one in vain
    assert {name for _, name, _ in notes.calls} == {"fit", "lbfgs-iter"}


def test_partial_fit():
    notes = Notes()
    est = estimator(notes)
    for _ in range(2):
        est.partial_fit(*IRIS, classes=[0, 1, 2])
    assert notes.hooks() == ["setup", "begin", "begin", "end", "end", "teardown"] * 2


def test_ctrl_c_ends_the_epoch():
    notes = Notes()
    press = AtEpochEnd(lambda net, fit: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="interrupted by user"):
        estimator(notes, callbacks=[press]).fit(*IRIS)
    assert notes.hooks().count("begin") == notes.hooks().count("end")
    assert notes.hooks()[-1] == "teardown"


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("fail", ["setup", "begin", "end"])
def test_an_error_is_raised_and_torn_down(solver, fail):
    notes = Notes(fail=fail)
    est = estimator(solver=solver).fit(*IRIS)
    before = copy.deepcopy(est)
    with refused(RuntimeError, "no more disk"):
        est.set_callbacks(notes).fit(*IRIS)
    assert notes.hooks()[-1] == "teardown"
    assert not hasattr(est, "_callback_fit_ctx")
    if fail != "end":
        assert same_bits(est, before)
    est.set_callbacks().fit(*IRIS)
    assert same_bits(est, before)


def test_wrong_data_is_torn_down():
    notes = Notes()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator(notes).fit(IRIS[0], IRIS[1][:7])
    assert notes.hooks() == ["setup", "teardown"]


def test_copies_and_clones_keep_the_callbacks():
    notes = Notes()
    est = estimator(notes).fit(*IRIS)
    for twin in (clone(est), copy.copy(est)):
        del notes.calls[:]
        twin.fit(*IRIS)
        assert notes.hooks()[-1] == "teardown"
    assert pickle.loads(pickle.dumps(est)).fit(*IRIS).n_iter_ == 3


def test_scoring_monitor():
    pandas = pytest.importorskip("pandas")
    monitor = monitors.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    X = pandas.DataFrame(IRIS[0], columns=list("abcd"))
    est = estimator(monitor, early_stopping=True).fit(X, IRIS[1])
    log = monitor.get_logs().data
    assert [row["task_name"] for row in log] == ["fit", *["epoch"] * 3]
    assert log[0]["accuracy"] == est.score(X, IRIS[1])


def test_pipelines_and_searches_pass_them_on(capsys):
    pytest.importorskip("rich")
    make_pipeline(StandardScaler(), estimator()).set_callbacks(monitors.ProgressBar()).fit(*IRIS)
    GridSearchCV(estimator(), {"alpha": [0.1, 1]}, cv=2).set_callbacks(monitors.ProgressBar()).fit(*IRIS)
    shown = capsys.readouterr().out
    assert shown.count("100%") >= 2 + 7
    assert shown.count("MLPClassifier - fit") >= 6


def test_each_kind_of_callback_has_its_place():
    with refused(TypeError, "EarlyStopping is not a callback of scikit-learn; use set_params(callbacks=[...])"):
        estimator(EarlyStopping())
    with refused(TypeError, "is a callback of scikit-learn; give it to estimator.set_callbacks"):
        estimator(callbacks=[Notes()]).fit(*IRIS)


class Follower(Notes):
    max_propagation_depth = 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", [Notes, Follower])
def test_the_networks_are_tasks_of_scikit_learns_callbacks(kind, solver):
    notes = kind()
    model = MLPClassifier((5,), solver=solver, max_iter=2, n_networks=2, random_state=0).set_callbacks(notes)
    for _ in range(2):
        del notes.calls[:]
        model.fit(*IRIS)
        of_fit = [("setup", "fit", 0), ("begin", "fit", 0), ("end", "fit", 0), ("teardown", "fit", 0)]
        assert notes.calls[:2] + notes.calls[-2:] == of_fit
        assert notes.data[0] is IRIS[0]
        assert notes.estimators[-1].estimators_ is not model.estimators_
        within = notes.calls[2:-2]
        if kind is Notes:
            assert within == [
                ("begin", "network", 0),
                ("begin", "network", 1),
                ("end", "network", 1),
                ("end", "network", 0),
            ]
        else:
            names = [name for _, name, _ in within]
            assert names.count("fit") == 4
            assert set(names) == {"fit", "epoch" if solver == "adam" else "lbfgs-iter"}
        for member in model.estimators_:
            assert not {"_skl_callbacks", "_callback_fit_ctx", "_parent_callback_ctx"} & vars(member).keys()
    twin = MLPClassifier((5,), solver=solver, max_iter=2, n_networks=2, random_state=0).fit(*IRIS)
    assert all(same_bits(a, b) for a, b in zip(model.estimators_, twin.estimators_, strict=True))

"""MLflow: the runs that a fit leaves, and how MLflow comes to know the estimators."""

import importlib
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from support.nets import ROOT, AtEpochEnd, X, Y, refused

from fastmlp import MLPClassifier, reference
from fastmlp.callbacks import MLflow
from fastmlp.interchange import mlflow as interchange
from fastmlp.interchange import on_import

pytestmark = pytest.mark.loops("torch")

VALIDATED = {"validation_data": (X, Y), "batch_size": 4}
brief = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def net():
    return reference.MLP([4, 5, 3])


@pytest.mark.filterwarnings("ignore")
class TestMLflow:
    @pytest.fixture
    def mlflow(self, tmp_path, monkeypatch):
        mlflow = pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())  # a folder: to create a database takes seconds
        yield mlflow
        mlflow.set_tracking_uri(before)

    def read(self, mlflow, run_id, name):
        return [(m.step, m.value) for m in mlflow.MlflowClient().get_metric_history(run_id, name)]

    def test_the_active_run(self, mlflow, net):
        tracker = MLflow()
        with mlflow.start_run() as run:
            history = net.fit(X, Y, epochs=3, learning_rate=0.5, callbacks=[tracker], **VALIDATED)
            assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        assert tracker.run_id == run.info.run_id
        assert self.read(mlflow, tracker.run_id, "val_loss") == list(enumerate(history.val_loss, 1))
        params = mlflow.get_run(tracker.run_id).data.params
        assert {"layers": "[4, 5, 3]", "learning_rate": "0.5", "epochs": "3"}.items() <= params.items()

    def test_a_run_of_its_own_ends_with_the_fit(self, mlflow, net):
        tracker = MLflow(interval=0)
        net.fit(X, Y, epochs=2, callbacks=[tracker])
        first = tracker.run_id
        assert mlflow.get_run(first).info.status == "FINISHED"
        assert mlflow.active_run() is None
        net.fit(X, Y, epochs=2, callbacks=[tracker])
        assert tracker.run_id != first

    def test_the_status_says_how_a_fit_ended(self, mlflow, net):
        def fail(net, fit):
            raise RuntimeError("no more disk")

        tracker = MLflow()
        with pytest.raises(RuntimeError):
            net.fit(X, Y, epochs=2, callbacks=[AtEpochEnd(fail), tracker])
        assert mlflow.get_run(tracker.run_id).info.status == "FAILED"
        with pytest.raises(FloatingPointError):
            net.fit(1e30 * X, Y, learning_rate=1e30, callbacks=[tracker])
        assert mlflow.get_run(tracker.run_id).info.status == "FAILED"
        net = reference.MLP([4, 5, 3])
        try:
            raise KeyError("of the caller")
        except KeyError:
            net.fit(X, Y, epochs=2, callbacks=[tracker])
        assert mlflow.get_run(tracker.run_id).info.status == "FINISHED"

    def test_any_run_and_two_fits_in_it(self, mlflow, net):
        run = mlflow.MlflowClient().create_run("0")
        net.fit(X, Y, epochs=2, callbacks=[MLflow(run)])
        net.fit(X, Y, epochs=3, learning_rate=0.5, callbacks=[MLflow(run.info.run_id, prefix="second/")])
        assert len(self.read(mlflow, run.info.run_id, "second/loss")) == 3
        assert mlflow.get_run(run.info.run_id).data.params["learning_rate"] == "0.1"  # the first one stays

    def test_names_that_mlflow_does_not_take(self, mlflow, net):
        def f1(y_true, y_pred):
            return 0.5

        f1.__name__ = "f1@50%"
        tracker = MLflow()
        net.fit(X, Y, epochs=2, metrics=[f1], callbacks=[tracker], **VALIDATED)
        assert self.read(mlflow, tracker.run_id, "val_f1_50_") == [(1, 0.5), (2, 0.5)]

    def test_a_run_that_is_not_there(self, mlflow, net):
        with pytest.warns(UserWarning, match="MLflow may not have recorded epochs 1 to 2"):
            assert len(net.fit(X, Y, epochs=2, callbacks=[MLflow("f" * 32)]).loss) == 2

    def test_wrong_runs(self, mlflow):
        with refused(TypeError, "run must be a run of MLflow or its id, not 3"):
            MLflow(3)

    @brief
    def test_models_are_logged_and_loaded(self, mlflow, tmp_path, monkeypatch):
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from fastmlp.optimizers import AdamW
        from fastmlp.schedules import Cosine

        pytest.importorskip("skops")
        monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
        est = MLPClassifier((5,), max_iter=2, random_state=0, solver=AdamW(), learning_rate=Cosine())
        for i, model in enumerate((est, make_pipeline(StandardScaler(), est))):
            model.fit(X, Y)
            path = tmp_path / str(i)
            mlflow.sklearn.save_model(model, path, pip_requirements=["fastmlp"])  # to find them takes half a minute
            assert (mlflow.sklearn.load_model(path).predict_proba(X) == model.predict_proba(X)).all()
            assert (mlflow.pyfunc.load_model(path).predict(X) == model.predict(X)).all()
        assert "fastmlp.optimizers.AdamW" in (path / "MLmodel").read_text()

    @brief
    @pytest.mark.slow
    def test_another_process_loads_a_model_that_was_logged_by_default(self, mlflow, monkeypatch, tmp_path):
        monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
        est = MLPClassifier((5,), max_iter=2).fit(X, Y)
        with mlflow.start_run():
            uri = mlflow.sklearn.log_model(est, name="model").model_uri
        np.savez(tmp_path / "data.npz", X=X, labels=est.predict(X))
        program = (
            "import sys, mlflow, numpy as np\n"
            "_, tracking, uri, path = sys.argv\n"
            "mlflow.set_tracking_uri(tracking)\n"
            "data = np.load(path)\n"
            "for load in (mlflow.sklearn.load_model, mlflow.pyfunc.load_model):\n"
            "    assert (load(uri).predict(data['X']) == data['labels']).all()\n"
        )
        arguments = [mlflow.get_tracking_uri(), uri, str(tmp_path / "data.npz")]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=ROOT)

    @brief
    def test_autolog_records_fits(self, mlflow, monkeypatch):
        monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
        mlflow.sklearn.autolog(log_models=False, silent=True)
        try:
            with mlflow.start_run() as run:
                MLPClassifier((5,), max_iter=2, callbacks=[MLflow()]).fit(X, Y)
        finally:
            mlflow.sklearn.autolog(disable=True, silent=True)
        data = mlflow.get_run(run.info.run_id).data
        assert data.params["hidden_layer_sizes"] == "(5,)"
        assert "training_accuracy_score" in data.metrics
        assert len(self.read(mlflow, run.info.run_id, "loss")) == 2

    @brief
    @pytest.mark.parametrize("elsewhere", [False, True], ids=["the active run", "another run"])
    def test_autolog_records_parameters_even_if_the_callback_writes_first(self, mlflow, monkeypatch, elsewhere):
        from mlflow.utils.autologging_utils import MlflowAutologgingQueueingClient as Client

        written, write, flush = threading.Event(), MLflow._write, Client._flush_pending_operations

        def write_first(*args):
            write(*args)
            written.set()

        def flush_later(*args, **kwargs):
            assert written.wait(60)
            return flush(*args, **kwargs)

        monkeypatch.setattr(MLflow, "_write", write_first)
        monkeypatch.setattr(Client, "_flush_pending_operations", flush_later)
        monkeypatch.setattr(MLPClassifier, "_network_class", reference.MLP)
        tracker = MLflow(mlflow.MlflowClient().create_run("0") if elsewhere else None)
        mlflow.sklearn.autolog(log_models=False, silent=True)
        try:
            with mlflow.start_run() as run:
                MLPClassifier((5,), max_iter=2, callbacks=[tracker]).fit(X, Y)
        finally:
            mlflow.sklearn.autolog(disable=True, silent=True)
        autologged = mlflow.get_run(run.info.run_id).data.params
        assert {"batch_size": "auto", "hidden_layer_sizes": "(5,)", "max_iter": "2"}.items() <= autologged.items()
        settings = mlflow.get_run(tracker.run_id).data.params
        assert {"layers": "[4, 5, 3]", "epochs": "2"}.items() <= settings.items()
        assert settings["batch_size"] == (str(len(X)) if elsewhere else "auto")


class TestRegistration:
    """How MLflow comes to know the estimators, on a module in its place."""

    SOURCE = "def save_model(sk_model, path, skops_trusted_types=None): return skops_trusted_types\n"

    @pytest.fixture
    def stand_in(self, tmp_path, monkeypatch):
        """Return a function that writes `mlflow.sklearn`; it can then be imported."""
        (tmp_path / "mlflow").mkdir()
        (tmp_path / "mlflow/__init__.py").touch()
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, on_import._Finder)])
        monkeypatch.syspath_prepend(tmp_path)
        yield (tmp_path / "mlflow/sklearn.py").write_text
        for name in ("mlflow", "mlflow.sklearn"):
            sys.modules.pop(name, None)

    @pytest.mark.parametrize("first", ["mlflow", "fastmlp"])
    def test_either_may_be_imported_first(self, stand_in, first):
        pytest.importorskip("skops")
        stand_in(self.SOURCE)
        if first == "mlflow":
            importlib.import_module("mlflow.sklearn")
        interchange.register([MLPClassifier])
        module = importlib.import_module("mlflow.sklearn")
        assert module.save_model(MLPClassifier(), "path") == ["fastmlp.estimators.classifier.MLPClassifier"]
        assert module.save_model(MLPClassifier(), "path", skops_trusted_types=["a.B"])[0] == "a.B"
        assert module.save_model(object(), "path") is None
        assert not any(isinstance(finder, on_import._Finder) for finder in sys.meta_path)

    def test_a_version_without_skops_stays_as_it_is(self, stand_in):
        stand_in("def save_model(sk_model, path): pass\n")
        interchange.register([MLPClassifier])
        assert importlib.import_module("mlflow.sklearn").save_model.__module__ == "mlflow.sklearn"

    def test_parameters_are_left_to_autolog_while_it_records_an_estimator(self, monkeypatch):
        interchange.register([MLPClassifier])
        session = SimpleNamespace(integration="sklearn")
        safety = ModuleType("safety")
        monkeypatch.setitem(sys.modules, "mlflow.utils.autologging_utils.safety", safety)
        assert interchange.left_to_autolog() == set()  # a version without sessions
        safety._AutologgingSessionManager = SimpleNamespace(active_session=lambda: session)
        assert interchange.left_to_autolog() >= MLPClassifier().get_params().keys()
        session.integration = "keras"
        assert interchange.left_to_autolog() == set()
        session = None
        assert interchange.left_to_autolog() == set()

    def test_a_version_that_is_unknown_is_imported_with_a_warning(self, stand_in):
        stand_in("def _gen_estimators_to_patch(): pass\n")
        interchange.register([MLPClassifier])
        with pytest.warns(UserWarning, match="mlflow will not know the estimators of fastmlp: AttributeError"):
            importlib.import_module("mlflow.sklearn")

    def test_an_import_that_fails_may_be_tried_again(self, stand_in):
        stand_in("raise ImportError('scikit-learn is missing')\n")
        interchange.register([MLPClassifier])
        for _ in range(2):
            with pytest.raises(ImportError, match="scikit-learn is missing"):
                importlib.import_module("mlflow.sklearn")

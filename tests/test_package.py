"""What `import fastmlp` shows, and the presets."""

import subprocess
import sys
import typing
from importlib.util import find_spec

import numpy as np
import pytest
from support.nets import refused

import fastmlp
from fastmlp import optimizers, options, presets, schedules
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.model import FIRST_LAYERS
from fastmlp.random import INITS

HIDDEN = "import sys; sys.modules['distributed'] = None; import fastmlp; "  # as where it is not installed


def printed(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_only_public_names_are_listed():
    assert set(dir(fastmlp)) - {"dask"} == set(fastmlp.__all__)
    program = "import fastmlp; before = dir(fastmlp); fastmlp.MLP; fastmlp.reference; print(dir(fastmlp) == before)"
    assert printed(program) == "True"


def test_what_needs_a_package_is_listed_where_it_is_installed():
    assert ("dask" in dir(fastmlp)) == (find_spec("distributed") is not None)
    pytest.importorskip("distributed")
    assert printed("import fastmlp; print(fastmlp.dask.fit.__name__)") == "fit"


def test_what_needs_a_package_says_so_where_it_is_not():
    program = "\ntry: fastmlp.dask\nexcept ImportError as error: print(error)\nfrom fastmlp import *"
    assert printed(HIDDEN + program) == 'fastmlp.dask needs Dask: pip install "fastmlp[dask]"'


@pytest.mark.parametrize(("name", "meant"), [("MLPP", "MLP"), ("optimizer", "optimizers"), ("load_mnist", None)])
def test_a_name_that_does_not_exist(name, meant):
    hint = f"; did you mean {meant!r}?" if meant else ""
    with refused(AttributeError, f"module 'fastmlp' has no attribute {name!r}{hint}"):
        getattr(fastmlp, name)


def test_literal_types_are_those_of_the_tables():
    tables = {
        options.Activation: ACTIVATIONS,
        options.Output: LOSSES,
        options.Init: INITS,
        options.FirstLayer: FIRST_LAYERS,
        options.OptimizerName: optimizers.OPTIMIZERS,
        options.ScheduleName: schedules._NAMES,
    }
    for literal, table in tables.items():
        assert set(typing.get_args(literal)) == set(table)


@pytest.mark.slow  # mypy reads the whole package
def test_type_checkers_know_names_and_options(tmp_path):
    api = pytest.importorskip("mypy.api")
    path = tmp_path / "sample.py"
    path.write_text(
        "import fastmlp\n"
        "fastmlp.MLPP\n"
        "fastmlp.MLP([4, 3], activation='relu', init='he')\n"
        "fastmlp.MLP([4, 3], activation='rleu')\n"
        "fastmlp.MLP([4, 3], activation=['relu', 'tanh'], output='logistics')\n"
        "net = fastmlp.MLP([4, 3])\n"
        "net.fit([[1.0]], [1], optimizer='adma')\n"
        "net.fit([[1.0]], [1], optimizer='adam', schedule='cosine', class_weight='balanced')\n"
        "net.fit([[1.0]], [1], schedule='cosin')\n"
        "net.fit([[1.0]], [1], lr=0.1)\n"
    )
    out, _, _ = api.run([str(path), "--config-file", "", "--ignore-missing-imports", "--cache-dir", str(tmp_path)])
    wrong = [int(line.split(":")[1]) for line in out.splitlines() if line.startswith(str(path)) and ": error" in line]
    assert wrong == [2, 4, 5, 7, 9, 10], out


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_make_networks_and_train_them(name):
    preset = presets.PRESETS[name]
    net = preset.network(6, 3, seed=4)
    assert net.layers == (6, *preset.hidden, 3)
    assert net.seed == 4
    assert preset.training.keys() <= set(typing.get_type_hints(fastmlp.MLP.fit))
    assert preset.network(6, 3, dropout=0.0).dropout == 0.0


def test_a_preset_trains():
    preset = presets.PRESETS["fast"]
    X, y = np.eye(6, dtype=np.float32), np.arange(6) % 3
    net = preset.network(6, 3)
    assert len(net.fit(X, y, **preset.training | {"epochs": 2}).loss) == 2

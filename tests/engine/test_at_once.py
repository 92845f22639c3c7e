"""Fits that other libraries run at the same time, in threads or processes: each core is counted once."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import at_once
from support.nets import ROOT
from support.scripts import printed

from fastmlp.engine import compiled, cores
from fastmlp.engine.containers import NO_QUOTA
from fastmlp.engine.processes import Processes
from fastmlp.engine.team_size import TeamSize

# --- in threads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def eight_cores(monkeypatch, tmp_path):
    """A machine of eight cores, where fits wait for one another, and the folder where they meet."""
    machine = cores._Machine()
    machine.processes = Processes(str(tmp_path / "cores"))
    monkeypatch.setattr(cores, "_machine", machine)
    monkeypatch.setattr(cores, "_plain", cores._Plain(machine))
    monkeypatch.setattr(cores, "affinity", lambda: list(range(8)))
    monkeypatch.setattr(cores, "container_quota", lambda: NO_QUOTA)
    monkeypatch.setattr(TeamSize, "next", at_once.meeting(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def two_in_a_pool():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(at_once.fit, range(2)))


def two_in_asyncio():
    async def both():
        await asyncio.gather(asyncio.to_thread(at_once.fit, 0), asyncio.to_thread(at_once.fit, 1))

    asyncio.run(both())


def two_in_joblib():
    joblib = pytest.importorskip("joblib")
    joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(at_once.fit)(seed) for seed in range(2))


def two_in_optuna():
    """In the continuous integration this runs with the other programs, in the step `interchange`."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        at_once.fit(trial.number)
        return 0.0

    optuna.create_study().optimize(objective, n_trials=2, n_jobs=2)


def two_in_a_search():
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="threading"):
        at_once.search()


@pytest.mark.parametrize("two", [two_in_a_pool, two_in_asyncio, two_in_joblib, two_in_optuna, two_in_a_search])
def test_threads_share_the_cores(eight_cores, monkeypatch, two):
    """The threads of all teams that run at the same time are as many as the cores."""
    running, seen, counting = [0], [], threading.Lock()

    def counted(run):
        def run_and_count(size, *arguments, **options):
            with counting:
                running[0] += size
                seen.append(running[0])
            end = time.monotonic() + 60
            while max(seen) < 8 and time.monotonic() < end:  # both teams are there before one ends
                time.sleep(0.001)
            run(size, *arguments, **options)
            with counting:
                running[0] -= size

        return run_and_count

    for run in ("run_team", "run_brief_team"):
        monkeypatch.setattr(compiled, run, counted(getattr(compiled, run)))
    two()
    assert at_once.sizes(eight_cores) == [4, 4]
    assert (max(seen), running) == (8, [0])


# --- in processes -----------------------------------------------------------------------------------------------------

IN_PROCESSES = """
import contextlib, json, os, sys
from support import at_once

def pool():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(at_once.fit, range(2)))

def search(backend):
    import joblib
    with joblib.parallel_config(backend=backend):
        at_once.search()

def loky():
    search("loky")

def dask(**workers):
    from distributed import Client, LocalCluster
    with LocalCluster(dashboard_address=':0', **workers) as cluster, Client(cluster):
        search("dask")

def processes_of_dask():
    dask(n_workers=2, threads_per_worker=1)

def threads_of_dask():
    dask(n_workers=1, threads_per_worker=2, processes=False)

if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print(json.dumps(at_once.sizes(os.environ["AT_ONCE_FOLDER"])))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system does not say whose a file is")
@pytest.mark.parametrize(
    ("two", "n_cores"), [("pool", 4), ("loky", 4), ("processes_of_dask", 2), ("threads_of_dask", 4)],
)  # fmt: skip
def test_processes_share_the_cores(two, n_cores, tmp_path):
    """loky tells its processes through OMP_NUM_THREADS, not counted twice. Dask asks for one thread each."""
    if "dask" in two:
        pytest.importorskip("distributed")
    script = tmp_path / "at_once_in_processes.py"  # a file, which other processes can import
    script.write_text(IN_PROCESSES)
    said = printed(
        str(script), two,
        PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", AT_ONCE_FOLDER=str(tmp_path), AT_ONCE_CORES=str(n_cores),
        OMP_NUM_THREADS=None,
    )  # fmt: skip
    assert said == [n_cores // 2] * 2

"""Made-up results of asv, in a project of their own."""

import functools
import itertools
import json
import subprocess

NAME = "bench_training.BatchSize.track_epoch"
PARAMS = [["'fastmlp'", "'numpy'"], ["16", "64", "256", "1024"]]


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commits(folder, n):
    """Make a repository of some commits; return their hashes and dates in milliseconds, the oldest first."""
    folder.mkdir()
    git = functools.partial(run, "git", "-c", "user.name=a", "-c", "user.email=a@b", cwd=folder)
    git("init", "-q", "-b", "main")
    for number in range(n):
        git("commit", "-q", "--allow-empty", "-m", f"commit {number}", f"--date=2026-01-{number + 1:02}T12:00:00")
    return [line.split() for line in git("log", "--reverse", "--format=%H %at").splitlines()]


def results(folder, hashes, seconds):
    """Write made-up results of asv for the MNIST epoch in each commit; NumPy takes four times as long."""
    machine = {"machine": "m", "os": "Linux", "arch": "x86_64", "cpu": "c", "num_cpu": "2", "ram": "1"}
    (folder / "m").mkdir(parents=True)
    (folder / "m" / "machine.json").write_text(json.dumps(machine | {"version": 1}))
    for (commit, date), epoch in zip(hashes, seconds, strict=True):
        values = [epoch * factor for factor, _ in itertools.product((1, 4), PARAMS[1])]
        content = {
            "version": 2, "commit_hash": commit, "date": 1000 * int(date), "env_name": "e", "env_vars": {},
            "python": "3.12", "requirements": {}, "durations": {}, "params": machine | {"python": "3.12"},
            "result_columns": ["result", "params", "version"], "results": {NAME: [values, PARAMS, "1"]},
        }  # fmt: skip
        (folder / "m" / f"{commit[:8]}-e.json").write_text(json.dumps(content))
    benchmark = {
        "name": NAME, "type": "track", "unit": "seconds", "version": "1", "code": "", "params": PARAMS, "timeout": 120,
        "param_names": ["implementation", "batch size"], "pretty_name": NAME, "pretty_source": "",
    }  # fmt: skip
    # asv has measured the last commit in an environment of its own, while other programs were busy.
    content["env_name"], content["requirements"] = "virtualenv-py3.12-build1.6.1", {"build": "1.6.1"}
    content["params"] |= {"build": "1.6.1"}
    (folder / "m" / f"{commit[:8]}-e.json").write_text(json.dumps(content | {"load": {NAME: 1.3}}))
    (folder / "benchmarks.json").write_text(json.dumps({"version": 2, NAME: benchmark}))


def project(folder, seconds, **settings):
    """Make a project with these results, a number for each commit; return its configuration file and its commits."""
    hashes = commits(folder / "repo", len(seconds))
    results(folder / "results", hashes, seconds)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    config = {"version": 1, "project": "fastmlp", "repo": "repo", "branches": ["main"], "html_dir": "html"}
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(config | {"results_dir": "results"} | settings))
    return path, [commit for commit, _ in hashes]

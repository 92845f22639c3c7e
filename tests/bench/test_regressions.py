"""What has become slower is found in results of asv, and reported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.asv import NAME, project

from benchmarks import publish

ROOT = Path(__file__).resolve().parents[2]
SLOWER = [0.1, 0.1, 0.1, 0.1, 0.13, 0.13, 0.13, 0.13]  # seconds of an epoch in each commit

pytest.importorskip("asv", reason="needs asv, which the bench extra brings")


def report(config):
    command = (sys.executable, "-m", "benchmarks.regressions", "--config", config)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def settings_of_the_suite():
    from asv.config import Config

    config = Config.load(str(publish.HERE / "asv.conf.json"))
    names = ("regressions_thresholds", "regressions_first_commits")
    return {name: getattr(config, name) for name in names}


def test_a_step_is_reported_with_its_commits(tmp_path):
    config, commits = project(tmp_path, SLOWER, **settings_of_the_suite())
    done = report(config)
    assert done.returncode == 1, done.stderr
    lines = re.findall(r"^\| `(.+)` \| (.+) \| (\w+)(\^?) \| (\w+) \|", done.stdout, re.MULTILINE)
    assert [line[0] for line in lines] == [f"{NAME}('fastmlp', {size})" for size in (16, 64, 256, 1024)]  # not NumPy's
    for _, factor, before, parent, after in lines:
        assert factor == "1.30"
        assert after == commits[4][:8]
        assert before == commits[4 if parent else 3][:8]
    assert f"{commits[-1][:8]} {NAME}: 1.3" in done.stdout  # measured on a busy machine


@pytest.mark.parametrize(
    "seconds",
    [
        SLOWER[::-1],  # faster
        [0.1, 0.1, 0.1, 0.1, 0.105, 0.105, 0.105, 0.105],  # less than the threshold
        [0.1, 0.1, 0.1, 0.13, 0.1, 0.1, 0.1, 0.1],  # one commit, and made up for
    ],
    ids=["faster", "little", "once"],
)
def test_nothing_else_is_reported(tmp_path, seconds):
    done = report(project(tmp_path, seconds, **settings_of_the_suite())[0])
    assert (done.returncode, done.stdout) == (0, "Nothing has become slower.\n"), done.stderr


def test_an_accepted_step_is_reported_no_more(tmp_path):
    config, commits = project(tmp_path, SLOWER)
    done = report(config)
    assert done.returncode == 1
    assert "'numpy'" in done.stdout  # without the settings of the suite
    config.write_text(json.dumps(json.loads(config.read_text()) | {"regressions_first_commits": {".*": commits[4]}}))
    done = report(config)
    assert (done.returncode, done.stdout) == (0, "Nothing has become slower.\n"), done.stderr

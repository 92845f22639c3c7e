"""Programs that tests run in a process of their own."""

import json
import os
import subprocess
import sys

from .nets import ROOT


def printed(*command, timeout=300, **environment):
    """What a new Python prints, as JSON. None in the environment removes a variable."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")  # of a fork beside threads of NumPy
    ran = subprocess.run(
        [sys.executable, *warnings, *command],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)

"""Memory that `fit` takes besides the data: the peak of a fresh process."""

import subprocess
import sys
from pathlib import Path

from .suite import Benchmark, only


class Memory(Benchmark):
    unit = "bytes"
    param_names = ["rows"]
    params = [["with zeros", "without zeros", "bytes"]]

    def setup(self, rows):
        only(Path("/proc/self/clear_refs").exists())

    def track_peak_of_fit(self, rows):
        # Run by its path: with -m, Python would import the fastmlp of the working tree.
        command = [sys.executable, Path(__file__).with_name("memory.py"), "--rows", rows, "--bytes"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

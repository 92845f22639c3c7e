"""The name of the processor, without the compiler."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from pathlib import Path

__all__ = ["processor_model"]


def processor_model(root: str = "/") -> str:
    """Return the model of the processor, or its architecture. `root` is where /proc is."""
    with suppress(OSError):
        for line in (Path(root) / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return platform.processor() or platform.machine()

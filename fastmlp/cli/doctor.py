"""``fastmlp doctor``."""

from __future__ import annotations

import argparse

from fastmlp.cli.output import FAILED, say, tell

__all__ = ["doctor"]


def doctor(arguments: argparse.Namespace) -> int:
    """Look at this machine and print what is found; return the exit status."""
    from fastmlp.cli.doctor_checks import CHECKS, findings
    from fastmlp.cli.doctor_facts import observe
    from fastmlp.cli.version import version_text

    say(version_text() + "\n")
    tell("looking at this machine, for some seconds ...")
    facts = observe()
    found = findings(facts)
    for finding in found:
        say(str(finding))
    if arguments.measure and facts.broken is None:
        say(_measured())
    bad = sum(finding.kind != "note" for finding in found)
    what = f"{bad} to mend" if bad else "nothing makes fastmlp slow or wrong here"
    say(f"{len(CHECKS)} checks: {what}")
    return FAILED if bad else 0


def _measured() -> str:
    """Measure what the cores and the memory can do, and return it in one line."""
    from fastmlp.bench.machine import fma_peak, read_bandwidth
    from fastmlp.engine.cores import available_threads

    counts = sorted({1, available_threads()})
    rates = [f"{fma_peak(n_threads=n) / 1e9:.0f}" for n in counts]
    reads = [f"{read_bandwidth(n) / 1e9:.1f}" for n in counts]
    threads = f"with {' and '.join(map(str, counts))} thread{'s' if counts[-1] > 1 else ''}"
    return f"rates {threads}: {' and '.join(rates)} GFLOP/s in float32, {' and '.join(reads)} GB/s read from memory"

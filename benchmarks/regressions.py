"""Report what has become slower, from the results of the asv suite: a table in Markdown, for an issue or an e-mail.

python -m benchmarks.regressions [--config FILE]

asv looks for steps in each curve. One counts if it is higher than `regressions_thresholds` of asv.conf.json, if at
least two commits confirm it, and if the last commit has not made up for it. `regressions_first_commits` says where to
start, or that larger is not worse. A step that is accepted is reported no more once that setting names its commit.

The exit status is 1 if something has become slower, and 0 if not.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from . import publish

SHORT = 8  # digits of a commit, as in the names of asv's files
CONFIRM = "\nMeasured again, pair by pair: `python -m benchmarks.commits BEFORE AFTER`, on a quiet machine."


def regressions(html):
    """Yield (benchmark, factor, last commit before, first commit after, where) of what asv found, the worst first."""
    found = json.loads((html / "regressions.json").read_text(encoding="utf-8"))["regressions"]
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))
    commits = {int(revision): commit[:SHORT] for revision, commit in index["revision_to_hash"].items()}
    for name, _, where, _, last, best, jumps in sorted(found, key=lambda each: -each[4] / each[5]):
        before, after, *_ = jumps[-1]
        # asv leaves out the commit before a step where a single commit made it: git knows it as the parent
        first = f"{commits[after]}^" if before is None else commits[before]
        yield name, last / best, first, commits[after], ", ".join(str(value) for value in where.values())


def table(rows):
    """Return the rows as a table in Markdown."""
    lines = ["| benchmark | times as slow | before | after | where |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {factor:.2f} | {before} | {after} | {where} |" for name, factor, before, after, where in rows
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = publish.HERE / "asv.conf.json"
    parser.add_argument("--config", default=default, type=Path, help="of asv (default: the one in this folder)")
    config = parser.parse_args().config.resolve()
    with tempfile.TemporaryDirectory() as html:
        busy = publish.asv_pages(config, Path(html))
        found = list(regressions(Path(html)))
    if not found:
        print("Nothing has become slower.")
        return
    print(table(found), CONFIRM, sep="\n")
    if busy:
        print(f"\nNot to be trusted, since other programs used {publish.BUSY} cores or more:", *busy, sep="\n- ")
    sys.exit(1)


if __name__ == "__main__":
    main()

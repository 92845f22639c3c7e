"""Give fastmlp a new version, in every file that states it.

python .ci/bump.py VERSION [--date YYYY-MM-DD]

What is unreleased in CHANGELOG.md becomes the section of this version, dated today in UTC unless --date is given. The
version is also written to fastmlp/__init__.py, CITATION.cff and recipe/recipe.yaml; pyproject.toml and the
documentation read it from the package. Nothing is written if a file is not as expected. tests/test_release.py checks
that all agree. The last lines of output are the commands that publish the release.
"""

import argparse
import contextlib
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:(a|b|rc)([1-9]\d*))?")
UNRELEASED = "## [Unreleased]\n"
NEXT_STEPS = """\
fastmlp {version}. Review it with `git diff`, then:
    git commit -m "Release {version}" {paths}
    git tag -a v{version} -m "fastmlp {version}"
    rm -rf dist && python -m build && twine check --strict dist/* && twine upload dist/*
    git push --follow-tags"""


def key(version):
    """Return what versions are ordered by, or raise ValueError for one of another form."""
    found = VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r} is no version; write 1.2.3, or 1.2.3rc1 for one before it")
    *numbers, phase, n = found.groups()
    return [*map(int, numbers)], phase or "z", int(n or 0)  # a < b < rc < the release


def replaced(path, pattern, new, texts):
    """Replace what `pattern` finds, which must be there once, in a text of `texts`, read from the file if missing."""
    texts.setdefault(path, (ROOT / path).read_text(encoding="utf-8"))
    texts[path], n = re.subn(pattern, lambda _: new, texts[path], flags=re.MULTILINE)
    if n != 1:
        raise ValueError(f"{path} has {n} lines of the form {pattern}, not one")


def bumped(version, date):
    """Return the new texts of all files that state the version, by their paths."""
    texts = {}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    start = changes.find(UNRELEASED)
    if start < 0:
        raise ValueError(f"CHANGELOG.md has no section {UNRELEASED.strip()!r}")
    end = changes.find("\n## [", start)
    if not re.search(r"^- ", changes[start : end if end >= 0 else None], re.MULTILINE):
        raise ValueError("CHANGELOG.md lists no change as unreleased")
    old = re.search(r'^__version__ = "(.+)"$', (ROOT / "fastmlp/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    if old is None:
        raise ValueError("fastmlp/__init__.py has no __version__")
    released = f"\n## [{old[1]}]" in changes
    if key(version) < key(old[1]) or (released and key(version) == key(old[1])):
        raise ValueError(f"{version} does not come after {old[1]}")
    replaced("CHANGELOG.md", r"^## \[Unreleased\]\n", f"{UNRELEASED}\n## [{version}] - {date}\n", texts)
    replaced("fastmlp/__init__.py", r"^__version__ = .*$", f'__version__ = "{version}"', texts)
    replaced("recipe/recipe.yaml", r"^  version: \".*$", f'  version: "{version}"', texts)
    cited = f'version: "{version}"\ndate-released: "{date}"'
    replaced("CITATION.cff", r"^version: .*(?:\ndate-released: .*)?$", cited, texts)
    return texts


def write(texts):
    """Write all files or, if one cannot be written, none."""
    old = {path: (ROOT / path).read_bytes() for path in texts}
    try:
        for path, text in texts.items():
            (ROOT / path).write_text(text, encoding="utf-8")
    except BaseException as error:  # also Ctrl-C
        for path, content in old.items():
            with contextlib.suppress(OSError):
                (ROOT / path).write_bytes(content)
        sys.exit(f"bump.py: nothing is changed: {error or type(error).__name__}")


def main():
    """Read the command line, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    today = datetime.datetime.now(datetime.UTC).date()
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=today)
    options = parser.parse_args()
    try:
        texts = bumped(options.version, options.date)
    except (OSError, ValueError) as error:
        sys.exit(f"bump.py: {error}")
    write(texts)
    print(NEXT_STEPS.format(version=options.version, paths=" ".join(texts)))


if __name__ == "__main__":
    main()

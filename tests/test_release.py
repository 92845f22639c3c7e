"""What states the version agrees, and one command changes it everywhere."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastmlp
from fastmlp.cli.arguments import parsers

ROOT = Path(__file__).resolve().parents[1]
STATE_IT = ("CHANGELOG.md", "CITATION.cff", "fastmlp/__init__.py", "recipe/recipe.yaml")


def text(path, root=ROOT):
    return (root / path).read_text(encoding="utf-8")


def releases(root=ROOT):
    """Version and date of each release in CHANGELOG.md, the newest first."""
    return re.findall(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md", root), re.MULTILINE)


def only(pattern, path, root=ROOT):
    (found,) = re.findall(pattern, text(path, root), re.MULTILINE)
    return found


def assert_all_state(version, root=ROOT):
    assert only(r'^__version__ = "(.+)"$', "fastmlp/__init__.py", root) == version
    assert only(r'^version: "(.+)"$', "CITATION.cff", root) == version
    assert only(r'^  version: "(.+)"$', "recipe/recipe.yaml", root) == version
    dates = re.findall(r'^date-released: "(.+)"$', text("CITATION.cff", root), re.MULTILINE)
    newest = releases(root)[:1]
    assert newest in ([], [(version, *dates)])  # none before the first release
    assert dates == [date for _, date in newest]


def test_every_file_states_the_same_version():
    assert_all_state(fastmlp.__version__)
    assert text("CHANGELOG.md").count("## [Unreleased]\n") == 1


def test_the_recipe_needs_what_the_package_needs():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    needed = [line.replace(">=", " >=") for line in project["dependencies"]]
    run = only(r"^  run:\n((?:    - .+\n)+)", "recipe/recipe.yaml")
    assert re.findall("- (.+)", run) == [f"python {project['requires-python']}", *needed]
    assert f"license: {project['license']}" in text("recipe/recipe.yaml")
    assert project["license-files"] == re.findall("- (.+)", text("recipe/recipe.yaml").partition("license_file:")[2])


def test_the_image_is_built_of_what_the_package_needs():
    lines = text("Dockerfile").splitlines()
    copied = {name for line in lines if re.match("COPY (?!--from)", line) for name in line.split()[1:-1]}
    allowed = {line.removeprefix("!") for line in text(".dockerignore").splitlines() if line.startswith("!")}
    project = tomllib.loads(text("pyproject.toml"))
    needed = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["setuptools"]["package-dir"].values(),
    }
    assert copied == allowed == {"pyproject.toml", *(name.partition("/")[0] for name in needed)}
    assert all((ROOT / name).exists() for name in copied)
    (command,) = re.findall(r"^RUN fastmlp (compile .+?) &&", text("Dockerfile"), re.MULTILINE)
    assert parsers()[0].parse_args(command.split()).optimizer == ["sgd", "adam"]
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["train"]


@pytest.fixture
def copy(tmp_path):
    """Give a copy of the files that state the version, and of the command, as after the release of 0.1.0."""
    for path in (*STATE_IT, ".ci/bump.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    changes = "# Changelog\n\n## [Unreleased]\n### Added\n- A thing.\n\n## [0.1.0] - 2026-01-02\n- The first.\n"
    (tmp_path / "CHANGELOG.md").write_text(changes)
    for path, old, new in (
        ("CITATION.cff", r"^version: .*\n(date-released: .*\n)?", 'version: "0.1.0"\ndate-released: "2026-01-02"\n'),
        ("fastmlp/__init__.py", "^__version__ = .*$", '__version__ = "0.1.0"'),
        ("recipe/recipe.yaml", '^  version: ".*$', '  version: "0.1.0"'),
    ):
        (tmp_path / path).write_text(re.sub(old, new, text(path, tmp_path), flags=re.MULTILINE))
    assert_all_state("0.1.0", tmp_path)
    return tmp_path


def bump(root, *arguments):
    command = (sys.executable, root / ".ci" / "bump.py", *arguments)
    return subprocess.run(command, capture_output=True, text=True, cwd=root.parent, timeout=120)


def test_one_command_changes_it_everywhere(copy):
    done = bump(copy, "0.2.0rc1", "--date", "2026-03-04")
    assert (done.returncode, done.stderr) == (0, "")
    assert "git tag -a v0.2.0rc1" in done.stdout
    assert_all_state("0.2.0rc1", copy)
    assert releases(copy) == [("0.2.0rc1", "2026-03-04"), ("0.1.0", "2026-01-02")]
    assert "## [Unreleased]\n\n## [0.2.0rc1] - 2026-03-04\n### Added\n- A thing.\n" in text("CHANGELOG.md", copy)
    left = {path: text(path, copy) for path in STATE_IT}
    again = bump(copy, "0.2.0")
    assert (again.returncode, again.stderr) == (1, "bump.py: CHANGELOG.md lists no change as unreleased\n")
    assert {path: text(path, copy) for path in STATE_IT} == left


def test_a_first_release_keeps_its_version(copy):
    path = copy / "CHANGELOG.md"
    path.write_text("# Changelog\n\n## [Unreleased]\n- All of it.\n")
    citation = copy / "CITATION.cff"
    citation.write_text(citation.read_text().replace('date-released: "2026-01-02"\n', ""))
    assert_all_state("0.1.0", copy)
    assert bump(copy, "0.1.0", "--date", "2026-01-05").returncode == 0
    assert_all_state("0.1.0", copy)
    assert releases(copy) == [("0.1.0", "2026-01-05")]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.1.0", "0.1.0 does not come after 0.1.0"),
        ("0.1.0rc1", "0.1.0rc1 does not come after 0.1.0"),
        ("0.0.9", "0.0.9 does not come after 0.1.0"),
        ("v0.2.0", "'v0.2.0' is no version; write 1.2.3, or 1.2.3rc1 for one before it"),
        ("0.2", "'0.2' is no version"),
    ],
)
def test_other_versions_are_refused(copy, version, message):
    left = {path: text(path, copy) for path in STATE_IT}
    done = bump(copy, version)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bump.py: {message}")
    assert {path: text(path, copy) for path in STATE_IT} == left


def test_a_file_that_cannot_be_written_changes_none(copy, monkeypatch):
    """The last file of four; a full disk or Ctrl-C would do the same."""
    program = runpy.run_path(str(copy / ".ci" / "bump.py"))
    texts = program["bumped"]("0.2.0", "2026-03-04")
    left = {path: text(path, copy) for path in STATE_IT}

    def write_text(path, content, **how):
        path.write_bytes(content.encode()[:9])
        if path.name == Path(list(texts)[-1]).name:
            raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(SystemExit, match="bump.py: nothing is changed: no space left"):
        program["write"](texts)
    assert {path: text(path, copy) for path in STATE_IT} == left


@pytest.mark.parametrize("path", STATE_IT)
def test_a_file_without_its_line_changes_none(copy, path):
    (copy / path).write_text("")
    left = {path: text(path, copy) for path in STATE_IT}
    done = bump(copy, "0.2.0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"bump.py: {path} has ")
    assert {path: text(path, copy) for path in STATE_IT} == left


def test_versions_are_ordered():
    key = runpy.run_path(str(ROOT / ".ci" / "bump.py"))["key"]
    ordered = ["0.1.0", "0.1.1a1", "0.1.1a2", "0.1.1b1", "0.1.1rc1", "0.1.1", "0.2.0", "0.10.0", "1.0.0"]
    assert sorted(ordered, key=key) == ordered

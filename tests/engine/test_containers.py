"""How many cores a container grants, read from the files of control groups in a folder that stands for /."""

from pathlib import Path

import pytest

from fastmlp.engine.containers import NO_QUOTA, quota_granted

V2 = "30 23 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuset rw,relatime - cgroup cgroup rw,cpuset,cpu\n"
    "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)
AT = "/sys/fs/cgroup"


def system(root, memberships, mounts, **files):
    """Write the files of a system, with their paths below /sys/fs/cgroup; return the cores that it grants, or 0."""
    quota = quota_of(root, memberships, mounts, **files)
    return 0 if quota == NO_QUOTA else quota.n_cores


def quota_of(root, memberships, mounts, **files):
    texts = {"/proc/self/cgroup": memberships, "/proc/self/mountinfo": f"23 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}"}
    for path, text in (texts | {f"{AT}/{path}": text for path, text in files.items()}).items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return quota_granted(str(root))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", 0), ("300000 100000\n", 3), ("50000 100000\n", 1), ("250000 100000\n", 2),
        ("", 0), ("one\n", 0), ("one two\n", 0), ("200000 0\n", 0),
    ],
)  # fmt: skip
def test_version_2(tmp_path, text, expected):
    """In a container, the group of the process is the top of what it sees."""
    assert system(tmp_path, "0::/\n", V2, **{"cpu.max": text}) == expected


@pytest.mark.parametrize(
    ("inner", "middle", "outer", "expected"),
    [("max", "200000", "400000", 2), ("300000", "max", "max", 3), ("max", "max", "100000", 1), ("max",) * 3 + (0,)],
)
def test_nested_groups_of_version_2(tmp_path, inner, middle, outer, expected):
    """The smallest limit of all groups around the process counts; the top has no file outside of a container."""
    folders = {
        "user.slice/app.scope/job": inner,
        "user.slice/app.scope": middle,
        "user.slice": outer,
        "other": "100000",
    }
    files = {f"{folder}/cpu.max": f"{quota} 100000\n" for folder, quota in folders.items()}
    assert system(tmp_path, "0::/user.slice/app.scope/job\n", V2, **files) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("-1", "100000", 0), ("100000", "100000", 1), ("350000", "100000", 3)]
)
@pytest.mark.parametrize(
    ("root", "path", "folder"),
    [("/", "/", ""), ("/docker/1f", "/docker/1f", ""), ("/", "/docker/1f", "docker/1f/"), ("/..", "/", "")],
    ids=["own", "the mount shows the group", "the mount shows all", "namespace"],
)
def test_version_1(tmp_path, root, path, folder, quota, period, expected):
    memberships = f"9:name=systemd:/a\n5:cpuset,cpu:{path}\n4:memory:/b\n2:cpuacct:/c\n0::/\n"
    files = {f"cpu,cpuset/{folder}cpu.cfs_quota_us": quota, f"cpu,cpuset/{folder}cpu.cfs_period_us": period}
    assert system(tmp_path, memberships, V1.format(root=root), **files) == expected


def test_nested_groups_of_version_1(tmp_path):
    files = {f"cpu,cpuset/{folder}cpu.cfs_period_us": "50000\n" for folder in ("", "a/", "a/b/")}
    files |= {f"cpu,cpuset/{name}": f"{quota}\n" for name, quota in (
        ("cpu.cfs_quota_us", -1), ("a/cpu.cfs_quota_us", 100_000), ("a/b/cpu.cfs_quota_us", 400_000)
    )}  # fmt: skip
    assert system(tmp_path, "1:cpuset,cpu:/a/b\n", V1.format(root="/"), **files) == 2


def test_both_versions_at_once(tmp_path):
    """As systemd mounts them in its hybrid mode."""
    mounts = V1.format(root="/") + V2.replace(" /sys/fs/cgroup ", " /sys/fs/cgroup/unified ")
    files = {"unified/job/cpu.max": "400000 100000\n"}
    files |= {"cpu,cpuset/cpu.cfs_quota_us": "300000", "cpu,cpuset/cpu.cfs_period_us": "100000"}
    assert system(tmp_path, "1:cpuset,cpu:/\n0::/job\n", mounts, **files) == 3


def test_a_mount_elsewhere(tmp_path):
    """With a space, which the kernel writes as an octal number."""
    mounts = V2.replace("/sys/fs/cgroup", f"{AT}/my\\040groups")
    assert system(tmp_path, "0::/a:b\n", mounts, **{"my groups/a:b/cpu.max": "200000 100000"}) == 2


def test_a_group_with_a_space_in_its_name(tmp_path):
    """It is written as it is among the groups of the process, and as an octal number among the mounts."""
    mounts = V2.replace(" / /sys/fs/cgroup ", " /my\\040job /sys/fs/cgroup ")
    assert system(tmp_path, "0::/my job/step\n", mounts, **{"step/cpu.max": "300000 100000"}) == 3
    assert system(tmp_path, "0::/my job/step\n", V2, **{"my job/cpu.max": "200000 100000"}) == 2


def test_the_group_that_shares_the_quota(tmp_path):
    """It is the one with the smallest quota, not the innermost."""
    files = {"a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000", "a/b/c/cpu.max": "max 100000"}
    quota = quota_of(tmp_path, "0::/a/b/c\n", V2, **files)
    status = (tmp_path / AT[1:] / "a").stat()
    assert quota == (2, (status.st_dev, status.st_ino))
    assert quota_of(tmp_path, "0::/a/b\n", V2) == quota
    assert quota_of(tmp_path, "0::/\n", V2) == NO_QUOTA  # it has moved


def test_groups_that_only_say_which_cores(tmp_path):
    """The kernel takes them out of the affinity, so that nothing is to be read."""
    mounts = V2 + V1.format(root="/").replace("cpuset,cpu ", "cpuset ")
    files = {"cpuset.cpus.effective": "0-1\n", "cpu,cpuset/cpuset.cpus": "0\n"}
    assert system(tmp_path, "3:cpuset:/\n0::/\n", mounts, **files) == 0


def test_a_file_that_cannot_be_read(tmp_path):
    files = {"a/cpu.max": "200000 100000", "a/b/cpu.max": "100000 100000"}
    assert system(tmp_path, "0::/a/b\n", V2, **files) == 1
    inner = tmp_path / AT[1:] / "a/b/cpu.max"
    inner.unlink()
    inner.mkdir()
    assert quota_granted(str(tmp_path)).n_cores == 2


def test_a_group_outside_of_what_is_mounted(tmp_path):
    """After a process has moved out of the root of its namespace, the top of the mount is all that it can read."""
    files = {"cpu.max": "200000 100000", "other/cpu.max": "100000 100000"}
    assert system(tmp_path, "0::/../other\n", V2, **files) == 2


def test_the_mount_of_another_container(tmp_path):
    mounts = V2 + V2.replace(" / /sys/fs/cgroup ", " /docker/2e /sys/fs/cgroup/its ")
    files = {"docker/1f/cpu.max": "300000 100000", "its/cpu.max": "100000 100000"}
    assert system(tmp_path, "0::/docker/1f\n", mounts, **files) == 3


def test_limits_that_change_are_seen(tmp_path):
    assert system(tmp_path, "0::/\n", V2, **{"cpu.max": "200000 100000"}) == 2
    assert system(tmp_path, "0::/\n", V2, **{"cpu.max": "500000 100000"}) == 5


def test_a_system_without_control_groups(tmp_path):
    assert quota_granted(str(tmp_path)) == NO_QUOTA
    assert quota_granted(str(Path(tmp_path, "nothing"))) == NO_QUOTA


@pytest.mark.parametrize(("memberships", "mounts"), [("0::/", "no such line"), ("nothing", V2), ("", "")])
def test_files_of_another_form(tmp_path, memberships, mounts):
    assert system(tmp_path, memberships, mounts, **{"cpu.max": "200000 100000"}) == 0

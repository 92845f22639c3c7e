"""How much memory blocks take, and the thread that reads them ahead."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import FIT, network, state

import fastmlp
from fastmlp import MLP
from fastmlp.data import Blocks
from fastmlp.data.checked import CheckedBlocks
from fastmlp.data.read_ahead import ReadAhead
from fastmlp.engine import free_memory
from fastmlp.names import Names

pytestmark = [pytest.mark.loops("blocks"), pytest.mark.filterwarnings("ignore:this fit has learned nothing")]


def test_memory_does_not_grow_with_the_rows():
    small, large = (np.broadcast_to(np.zeros(100, np.float32), (n, 100)) for n in (2_000_000, 8_000_000))
    assert Blocks(small).memory() == Blocks(large).memory() < 2**27


def test_few_rows_are_kept_and_mixed_by_their_width():
    wide = np.broadcast_to(np.zeros(100_000, np.float32), (600, 100_000))
    net, y = MLP([100_000, 2]), np.arange(600) % 2
    assert CheckedBlocks(net, Blocks(wide, y), Names()).first_rows().X.nbytes < 2**23
    narrow = np.broadcast_to(np.zeros(1, np.uint8), (2**26, 1))
    assert Blocks(narrow).memory() < 2**28


def test_memory_counts_wide_targets_and_numbers():
    X, y = (np.broadcast_to(np.zeros(100, np.float32), (1_000_000, 100)) for _ in range(2))
    one, wide = Blocks(X, y[:, 0]).memory(), Blocks(X, y).memory()
    assert wide > one + 2**25
    assert Blocks(X, y[:, 0]).memory(dtype=np.float64) > 1.5 * one
    items = Blocks([(X[:1000], y[:1000])] * 1000)
    assert items.memory() > Blocks([(X[:1000], y[:1000, 0])] * 1000).memory() + 2**25


def test_a_map_larger_than_memory_warns(files, monkeypatch):
    monkeypatch.setattr("fastmlp.data.maps.free_memory", lambda: 1000)
    with pytest.warns(UserWarning, match=r"fit\(fastmlp.data.Blocks\(X, y\)\)"):
        network().fit(np.load(files[0], mmap_mode="r"), np.load(files[1]), **FIT)


def test_rows_are_packed_only_where_that_fits(rows, monkeypatch):
    X = np.where(rows[0] > 1, rows[0], 0)
    expected = network(first_layer="sparse")
    expected.fit(X, rows[1], **FIT)
    monkeypatch.setattr("fastmlp.engine.rows._ALWAYS_FITS", 0)
    monkeypatch.setattr("fastmlp.engine.rows.free_memory", lambda: 0)
    net = network(first_layer="sparse")
    net.fit(X, rows[1], **FIT)
    assert state(net) == state(expected)
    assert net._engine.prepare(X, fastmlp.optimizers.SGD(), fastmlp.engine.base.NO_CLIPPING).rows.format == "dense"


def test_free_memory_of_groups_and_limits(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert free_memory.free_memory(tmp_path) == 5000 * 1024
    write("proc/self/cgroup", "0::/a\n")
    write("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    write("sys/fs/cgroup/a/memory.max", "1000000\n")
    write("sys/fs/cgroup/a/memory.current", "700000\n")
    write("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 200000\n")
    assert free_memory.free_memory(tmp_path) == 500_000


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(0, 6))
def test_reading_ahead(n_items, n_taken):
    def items():
        yield from range(1, n_items + 1)

    before = threading.active_count()
    ahead = ReadAhead(items())
    taken = [ahead.next(lambda: True) for _ in range(n_taken)]
    ahead.close()
    assert taken == [*range(1, n_items + 1), *[None] * n_taken][:n_taken]
    assert threading.active_count() == before

"""How many threads work: the choice with a clock of its own, and equal bits whatever is chosen during a fit."""

import random
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.nets import parameters

from fastmlp import MLP
from fastmlp.engine import inference, team_size
from fastmlp.engine.team_size import Segment, TeamSize

POLL = 0.02


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    monkeypatch.setattr(team_size, "_records", {})


class World:
    """A machine whose clock moves only as steps are taken. `each` gives the seconds of a step for a size."""

    def __init__(self, each, available, start=60e-6):
        self.each, self.available, self.start = each, available, start
        self.now, self.segments = 1.0, []

    def fit(self, seconds=None, n_steps=None, size=None, key="net", guess=1e-4):
        """Take steps for about some seconds of the fastest team; return the seconds that they took."""
        n_steps = n_steps or int(seconds / min(self.each(s) for s in self.sizes))
        share = lambda: self.available  # noqa: E731
        team = TeamSize(key, size or self.available, guess, share=share, clock=lambda: self.now)
        began, done = self.now, 0
        while done < n_steps:
            segment = team.next(n_steps - done)
            self.segments.append(segment)
            self.now += self.start * segment.size * (segment.size > 1)
            for rank in range(segment.size):
                team.enter(rank)
            polled, taken = self.now, 0
            while taken < segment.n_steps:
                self.now += self.each(segment.size)
                taken += 1
                if self.now - polled > POLL:
                    polled = self.now
                    if team.is_to_end(taken):
                        break
            team.end(taken)
            done += taken
        return self.now - began

    @property
    def sizes(self):
        return team_size.Record(self.available).sizes

    def size(self):
        """The size of the last segment, which is not a trial."""
        return next(segment.size for segment in reversed(self.segments) if not segment.is_trial)


def world_of(each, **options):
    return World(each.__getitem__, max(each), **options)


MNIST = {1: 73e-6, 2: 67e-6, 4: 50e-6, 8: 68e-6, 16: 63e-6}
TABULAR = {1: 87e-6, 2: 84e-6, 4: 65e-6, 8: 59e-6, 16: 53e-6}
WIDE = {1: 16e-3, 2: 9e-3, 4: 4.8e-3, 8: 3.2e-3, 16: 2.4e-3}
SMALL = {1: 10e-6, 2: 25e-6, 4: 40e-6, 8: 80e-6, 16: 160e-6}
TWELVE = {1: 80e-6, 2: 60e-6, 4: 40e-6, 8: 30e-6, 12: 20e-6}


@pytest.mark.parametrize("first", [1, 16])
@pytest.mark.parametrize("each", [MNIST, TABULAR, WIDE, SMALL, TWELVE])
def test_the_fastest_size_is_found_and_remembered(each, first):
    world, fastest = world_of(each), min(each.values())
    world.fit(2.0, size=first, guess=fastest)
    assert each[world.size()] == fastest
    del world.segments[:]
    seconds = world.fit(1.0, size=first, guess=fastest)
    assert world.segments[0].is_trial or each[world.segments[0].size] == fastest
    assert seconds < 1.03


@pytest.mark.parametrize("first", [1, 16])
@pytest.mark.parametrize("each", [MNIST, TABULAR, WIDE])
def test_trials_cost_little_of_a_first_fit(each, first):
    """Against the size that was measured best so far: nobody can know a better one before it was tried."""
    for seconds in (0.1, 0.3, 1.0):
        team_size._records.clear()
        world = world_of(each)
        took = world.fit(seconds, size=first, guess=min(each.values()))
        n_steps = sum(segment.n_steps for segment in world.segments[:-1])
        assert took <= 1.1 * max(seconds, int(seconds / min(each.values())) * each[min(first, max(each))]), n_steps


def test_the_first_steps_decide_nothing():
    """Their data are not in the caches yet, and their threads have just begun."""
    world = World(lambda size: 100e-6 / size * (5 if size == 2 and world.now < 1.001 else 1), 2)
    assert world.fit(n_steps=6000, guess=1e-3) < 1.1 * 0.3
    assert world.size() == 2


def test_a_short_fit_tries_nothing():
    world = world_of(MNIST)
    for _ in range(3):
        world.fit(0.01, size=4)
    assert world.segments == [Segment(4, world.segments[0].n_steps, is_trial=False)] * 3


def test_many_short_fits_learn_together():
    world = world_of(MNIST)
    for _ in range(200):
        world.fit(0.01, size=16)
    assert world.size() == 4
    trials = [segment for segment in world.segments if segment.is_trial]
    assert 3 <= len(trials) <= 40


def test_starting_a_team_counts_in_short_fits():
    world = World(lambda size: 1e-3 / size, 4, start=60e-6)
    world.fit(3.0)
    assert world.size() == 4
    world.fit(n_steps=1)
    assert world.size() == 4
    assert TeamSize("net", 4, 1e-3, share=lambda: 4, clock=lambda: world.now).next(1).size == 4
    small = World(lambda size: 80e-6 / size, 4)
    small.fit(3.0, key="small")
    assert small.size() == 4
    assert TeamSize("small", 4, 1e-3, share=lambda: 4, clock=lambda: small.now).next(1).size == 1


def test_a_smaller_team_takes_over_where_other_programs_use_the_cores_and_the_larger_one_returns():
    crowded = [False]

    def each(size):
        return (400e-6 if crowded[0] and size == 2 else 100e-6) / size

    world = World(each, 2)
    world.fit(1.0)
    assert world.size() == 2
    crowded[0] = True
    del world.segments[:]
    seconds = world.fit(n_steps=100_000)  # 10 s of one thread
    assert world.size() == 1
    assert seconds < 10.4
    trials = [segment for segment in world.segments if segment.is_trial]
    assert 2 <= len(trials) <= 8  # ever more seldom
    crowded[0] = False
    world.fit(20.0)
    assert world.size() == 2
    assert world.fit(1.0) < 1.02


def test_a_trial_that_takes_too_long_is_ended():
    world = World({1: 100e-6, 2: 10e-3}.__getitem__, 2)
    assert world.fit(2.0, size=1) < 2.0 + 0.1
    assert world.size() == 1


def test_steps_of_another_kind_are_measured_anew():
    world = world_of(MNIST)
    world.fit(2.0)
    assert world.size() == 4
    world.fit(0.01, size=8, key="other")
    assert world.size() == 8


@pytest.mark.parametrize("other", [2, 8])
def test_a_team_ends_when_its_share_changes(other):
    now, share = [1.0], [4]
    team = TeamSize("net", 8, 1e-4, share=lambda: share[0], clock=lambda: now[0])
    assert team.next(12) == Segment(4, 12, is_trial=False)
    team.begin()
    now[0] += 0.06
    assert not team.is_to_end(10)
    share[0] = other
    assert not team.is_to_end(10)  # nobody asks more often than 20 times a second
    now[0] += 0.06
    assert team.is_to_end(11)
    team.end(11)
    assert team.next(1).size == other


@pytest.mark.parametrize("available", [1, 2, 4])
def test_no_team_is_larger_than_what_is_available(available):
    team = TeamSize("long", 1000, 1e-4, share=lambda: available)
    assert team.next(10**6).size <= available


def test_a_fixed_number_of_threads_is_never_changed():
    team = TeamSize(None, 3, 0.0, is_fixed=True)
    for n_left in (1, 10**9):
        assert team.next(n_left) == Segment(3, n_left, is_trial=False)
        team.begin()
        assert not team.is_to_end(1)
        team.end(n_left)
        assert not team.lost()
    assert team_size._records == {}


def test_threads_learn_at_the_same_time():
    def learn(seed):
        world = World(lambda size: MNIST[size] * generator.uniform(0.8, 1.2), 16)
        generator = random.Random(seed)
        for _ in range(20):
            world.fit(n_steps=3_000)

    threads = [threading.Thread(target=learn, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    (record,) = team_size._records.values()
    assert set(record.seconds) <= set(MNIST)
    assert all(0.5 * MNIST[size] < seconds < 2 * MNIST[size] for size, seconds in record.seconds.items())


# --- fits that change their team --------------------------------------------------------------------------------------


class Restless:
    """In place of `TeamSize`: every segment has another size and length."""

    def __init__(self, generator, most, longest=10**9):
        self.generator, self.most, self.longest, self.segments = generator, most, longest, []

    def next(self, n_left):
        most = min(n_left, self.longest)
        n_steps = self.generator.choice([1, 2, self.generator.randint(1, most), most])
        self.segments.append(Segment(self.generator.randint(1, self.most), min(n_steps, n_left), is_trial=True))
        return self.segments[-1]

    def enter(self, rank):
        pass

    is_to_end = end = enter

    def begin(self):
        pass

    def late(self):
        return 0.0

    def lost(self):
        return self.generator.random() < 0.5


OPTIMIZERS = [
    {"optimizer": "sgd"},
    {"optimizer": "adam", "l2": 0.05},
    {"optimizer": "adam", "clip_norm": 0.5},
]


@settings(max_examples=20, derandomize=True, deadline=None)
@given(
    layers=st.sampled_from([[30, 130, 5], [9, 40, 65, 3], [20, 6, 4]]),
    batch_size=st.sampled_from([7, 16, 50, 600]),
    optimizer=st.sampled_from(OPTIMIZERS),
    form=st.sampled_from(["dense", "packed", "csr"]),
    seed=st.integers(0, 10_000),
)
def test_bits_are_equal_for_every_sequence_of_sizes(layers, batch_size, optimizer, form, seed):
    rng, n_rows = np.random.default_rng(seed), 700 if batch_size > 512 else 60
    X = rng.standard_normal((n_rows, layers[0])).astype(np.float32)
    X[rng.random(X.shape) < 0.7] = 0
    y = rng.integers(0, layers[-1], n_rows)
    optimizer = dict(optimizer)
    given_rows = sparse.csr_array(X) if form == "csr" else X
    teams = []

    def trained(most):
        options = {"l2": optimizer["l2"]} if "l2" in optimizer else {}
        fit = {name: value for name, value in optimizer.items() if name != "l2"}
        net = MLP(layers, seed=1, first_layer="sparse" if form == "packed" else "dense", **options)
        teams.append(Restless(random.Random(seed), most))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(net._engine, "_team_size", lambda *_, **__: teams[-1])
            history = net.fit(given_rows, y, epochs=3, batch_size=batch_size, learning_rate=0.05, **fit)
            return [*parameters(net), np.array([history.loss, history.accuracy]), net.predict_proba(given_rows)]

    alone = MLP(layers, seed=1, n_threads=1, first_layer="dense", l2=optimizer.get("l2", 0.0))
    fit = {name: value for name, value in optimizer.items() if name != "l2"}
    history = alone.fit(X, y, epochs=3, batch_size=batch_size, learning_rate=0.05, **fit)
    expected = [*parameters(alone), np.array([history.loss, history.accuracy]), alone.predict_proba(X)]
    for got, wanted in zip(trained(most=16 if seed % 8 == 0 else 3), expected, strict=True):
        np.testing.assert_array_equal(got.view(np.uint8), wanted.view(np.uint8))
    assert sum(segment.n_steps for segment in teams[-1].segments) >= 3 * -(-n_rows // batch_size)


def test_workspaces_of_sizes_that_lost_are_dropped(monkeypatch):
    net, rng = MLP([30, 40, 5]), np.random.default_rng(0)
    X, y = rng.random((400, 30), np.float32), rng.integers(0, 5, 400)
    net.fit(X, y, epochs=1, batch_size=4)
    team = Restless(random.Random(0), 4)
    team.lost = lambda: team.segments[-1].size != 3
    monkeypatch.setattr(net._engine, "_team_size", lambda *_, **__: team)
    for _ in range(10):
        net.fit(X, y, epochs=1, batch_size=4)
    assert {segment.size for segment in team.segments} == {1, 2, 3, 4}
    spaces = [space for idle in net._engine._idle.values() for space in idle if space.needs.chunk == 4]
    assert [len(space.layers) for space in spaces] == [3]


def test_a_pause_ends_a_call_after_a_step_and_changes_no_bit(monkeypatch):
    """As when the team is to change in the midst of a long segment."""
    X, y = np.random.default_rng(0).random((200, 30), np.float32), np.arange(200) % 5
    nets = [MLP([30, 40, 5], seed=1, n_threads=1) for _ in range(2)]
    nets[0].fit(X, y, epochs=2, batch_size=8)

    class Paused(inference.Workspace):
        def reset(self, first_step=0):
            super().reset(first_step)
            self.pause()

    class EverOther(Restless):
        def next(self, n_left):
            self.segments.append(Segment(1 + len(self.segments) % 3, n_left, is_trial=False))
            return self.segments[-1]

    team = EverOther(random.Random(0), 3)
    monkeypatch.setattr(nets[1]._engine, "_team_size", lambda *_, **__: team)
    monkeypatch.setattr(inference, "Workspace", Paused)
    nets[1].fit(X, y, epochs=2, batch_size=8)
    assert [segment.n_steps for segment in team.segments] == list(range(50, 0, -1))
    for got, wanted in zip(parameters(nets[1]), parameters(nets[0]), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert nets[1].history.loss == nets[0].history.loss


class PressesCtrlC:
    """A callback that presses Ctrl-C after some steps."""

    def on_step(self, net, fit):
        if fit.step > 0:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_the_team_changes(monkeypatch):
    """Parameters, state and history are those after the steps that were counted."""
    X, y = np.random.default_rng(0).random((400, 30), np.float32), np.arange(400) % 5
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for seed in range(6):
            net = MLP([30, 40, 5], seed=1)
            patch = Restless(random.Random(seed), 3, longest=9)
            monkeypatch.setattr(net._engine, "_team_size", lambda *_, team=patch, **__: team)
            with pytest.warns(UserWarning, match="Ctrl-C stopped training"):
                history = net.fit(X, y, epochs=3, batch_size=8, shuffle=False, callbacks=[PressesCtrlC()])
            assert history.interrupted
            assert 0 < history.steps < 150
            same, (epochs, steps) = MLP([30, 40, 5], seed=1, n_threads=1), divmod(history.steps, 50)
            for n_epochs, rows in ((epochs, slice(0, 400)), (1, slice(0, 8 * steps))):
                if n_epochs and rows.stop:
                    same.fit(X[rows], y[rows], epochs=n_epochs, batch_size=8, shuffle=False)
            for got, wanted in zip(parameters(net), parameters(same), strict=True):
                np.testing.assert_array_equal(got, wanted)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_thread_that_fails_before_its_first_step_leaves_everything_as_it_was(monkeypatch, rank):
    """The others pass every barrier then, but change nothing."""
    net, rng = MLP([30, 40, 5], n_threads=3), np.random.default_rng(0)
    X, y = rng.random((60, 30), np.float32), rng.integers(0, 5, 60)
    net.fit(X, y, epochs=1, batch_size=8)
    before = [p.copy() for p in parameters(net)]

    def enter(_, entering):
        if entering == rank:
            raise MemoryError("no memory")

    monkeypatch.setattr(TeamSize, "enter", enter)
    with pytest.raises(MemoryError, match="no memory"):
        net.fit(X, y, epochs=3, batch_size=8)
    for got, wanted in zip(parameters(net), before, strict=True):
        np.testing.assert_array_equal(got, wanted)

"""Subnormal numbers count as zero while a kernel runs, and the caller's floating-point settings are put back."""

import threading

import numba
import numpy as np
import pytest

import fastmlp
from fastmlp.kernels import subnormals
from fastmlp.kernels.jit import CHECKED, entry

TINY = 1e-40  # subnormal in float32


@numba.njit
def control_word():
    return subnormals.control_word()


@entry
def halve(x, at):
    """Multiply all elements by 1/2, and read one, which may lie outside."""
    for i in range(len(x)):
        x[i] = x[i] * np.float32(0.5)
    x[0] += x[at] * np.float32(0.0)


@pytest.fixture
def unchanged():
    """Check that a test leaves the control word of this thread as it is."""
    before = control_word()
    if before == 0:
        pytest.skip("no control word is known on this processor")
    yield before
    assert control_word() == before


@pytest.mark.usefixtures("unchanged")
def test_results_and_operands_are_flushed():
    x = np.array([1.5e-38, TINY, 1.0], np.float32)
    halve(x, 0)
    np.testing.assert_array_equal(x, np.float32([0, 0, 0.5]))
    assert np.float32(TINY) * np.float32(0.5) > 0  # NumPy still computes with them


@pytest.mark.skipif(not CHECKED, reason="only the checked build notices")
@pytest.mark.usefixtures("unchanged")
def test_the_setting_is_put_back_after_an_error():
    with pytest.raises(IndexError):
        halve(np.ones(3, np.float32), 10**6)


def fitted(optimizer, n_threads):
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    net = fastmlp.MLP([6, 40, 3], seed=1, n_threads=n_threads)
    net.fit(x, np.arange(40) % 3, epochs=2, batch_size=8, optimizer=optimizer)
    return net, x


@pytest.mark.parametrize("n_threads", [1, 2])
def test_public_calls_leave_the_control_word_alone(unchanged, n_threads):
    net, x = fitted(fastmlp.optimizers.Adam(), n_threads)
    words = []

    def beside():
        words.extend(control_word() for _ in range(20))

    thread = threading.Thread(target=beside)
    thread.start()
    for call in (lambda: net.predict(x), lambda: net.predict_proba(x), lambda: net.evaluate(x, np.arange(40) % 3)):
        call()
        assert control_word() == unchanged
    thread.join()
    assert set(words) == {unchanged}
    with pytest.raises(ValueError, match="X"):
        net.predict(np.full((1, 6), np.nan, np.float32))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("first_layer", ["dense", "sparse"])
def test_subnormal_inputs_and_weights_are_zeros(first_layer):
    x = np.random.default_rng(0).standard_normal((20, 9)).astype(np.float32)
    x[:, ::3] = 0
    tiny = x.copy()
    tiny[:, ::3] = TINY
    nets = []
    for rows, weight in ((x, 0.0), (tiny, TINY)):
        net = fastmlp.MLP([9, 8, 3], seed=1, first_layer=first_layer)
        net.weights[0][2, :4] = weight
        net.fit(rows, np.arange(20) % 3, epochs=3, batch_size=4)
        nets.append(net)
    for one, other in zip(nets[0].weights, nets[1].weights, strict=True):
        np.testing.assert_array_equal(np.where(np.abs(other) < 1.2e-38, 0, other), one)
    np.testing.assert_array_equal(nets[0].predict_proba(x), nets[1].predict_proba(tiny))


def test_an_optimizer_state_does_not_stay_subnormal():
    x = np.zeros((8, 4), np.float32)
    x[0, 0], x[1:, 1:] = 1.0, 1.0
    net = fastmlp.MLP([4, 3], seed=1)
    momentum = fastmlp.optimizers.SGD(learning_rate=0.1, momentum=0.5)
    net.fit(x, np.arange(8) % 3, epochs=1, batch_size=8, optimizer=momentum)
    x[0, 0] = 0.0  # this feature's momentum now halves at each step, for more steps than a normal number has halvings
    net.fit(x, np.arange(8) % 3, epochs=200, batch_size=8, resume=True)
    state = net.state_dict()
    for array in (
        value for name, value in state.items() if isinstance(value, np.ndarray) and value.dtype == np.float32
    ):
        magnitudes = np.abs(array)
        assert not np.any((magnitudes > 0) & (magnitudes < np.finfo(np.float32).tiny))

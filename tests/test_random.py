"""What is drawn from the seed."""

import numpy as np
import pytest

from fastmlp import reference
from fastmlp.random import (
    INITS,
    NOISE_LAYER,
    batch_generator,
    initial_parameters,
    keep_threshold,
    kept,
    normal_noise,
    permutations,
    random_bits,
    regularization_seed,
    row_keys,
)

# --- first weights and orders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("init", "std"), [("he", (2 / 300) ** 0.5), ("xavier", (2 / 500) ** 0.5), ("normal", 0.01)])
def test_first_weights_have_their_standard_deviation(init, std):
    (w,), (b,) = initial_parameters([300, 200], init, seed=0)
    assert w.shape == (300, 200)
    assert w.dtype == b.dtype == np.float64
    # 60000 draws: the mean strays by std / 245, the standard deviation by std / 346
    assert abs(w.mean()) < 5 * std / 245
    assert abs(w.std() - std) < 5 * std / 346
    np.testing.assert_array_equal(b, np.zeros(200))


@pytest.mark.parametrize("init", INITS)
def test_same_seed_same_bits(init):
    first, second, other = (initial_parameters([5, 4, 3], init, seed)[0] for seed in (7, 7, 8))
    for a, b, c in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_no_seed_draws_afresh():
    first, second = (initial_parameters([5, 4], "he", None)[0][0] for _ in range(2))
    assert not np.array_equal(first, second)
    orders = [permutations(batch_generator(None), 1, 50, shuffle=True) for _ in range(2)]
    assert not np.array_equal(*orders)


def test_more_layers_do_not_change_the_first():
    short, long = initial_parameters([5, 4], "he", 0)[0], initial_parameters([5, 4, 3], "he", 0)[0]
    np.testing.assert_array_equal(short[0], long[0])


def test_unknown_init():
    with pytest.raises(ValueError, match="init must be one of 'he', 'xavier', 'normal', not 'zero'"):
        reference.MLP([3, 2], init="zero")


def test_every_order_is_a_new_permutation():
    orders = permutations(batch_generator(0), 3, 20, shuffle=True)
    assert orders.dtype == np.int64
    assert orders.flags.c_contiguous
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(20), (3, 1)))
    assert len(np.unique(orders, axis=0)) == 3


def test_orders_do_not_depend_on_how_epochs_are_grouped():
    one, many = batch_generator(3), batch_generator(3)
    together = permutations(one, 5, 17, shuffle=True)
    apart = np.concatenate([permutations(many, n, 17, shuffle=True) for n in (1, 3, 1)])
    np.testing.assert_array_equal(together, apart)


def test_without_shuffle_nothing_is_drawn():
    generator = batch_generator(0)
    orders = permutations(generator, 2, 4, shuffle=False)
    np.testing.assert_array_equal(orders, [[0, 1, 2, 3], [0, 1, 2, 3]])
    assert generator.bit_generator.state == batch_generator(0).bit_generator.state


# --- dropout and noise ------------------------------------------------------------------------------------------------

ROWS = np.arange(2000)


def keys(seed=1, epoch=0, rows=ROWS, layer=1):
    return row_keys(seed, epoch, rows, layer)


def mix(h):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ (h >> shift)) * factor % 2**32
    return h ^ (h >> 16)


@pytest.mark.parametrize(("seed", "epoch", "row", "layer", "unit"), [(0, 0, 0, 0, 0), (2**32 - 1, 7, 59_999, 2, 127)])
def test_the_formula(seed, epoch, row, layer, unit):
    key = mix((mix((mix(mix(seed) ^ epoch) + row) % 2**32) + 0x9E3779B9 * (layer + 1)) % 2**32)
    bits = mix(mix((key + 0x9E3779B9 * unit) % 2**32) ^ key)
    assert row_keys(seed, epoch, np.array([row]), layer)[0] == key
    assert random_bits(row_keys(seed, epoch, np.array([row]), layer), unit + 1)[0, unit] == bits


def test_bits_are_even():
    bits = random_bits(keys(), 100)
    assert bits.dtype == np.uint32
    assert len(np.unique(bits)) > 0.9999 * bits.size  # 200,000 of 2**32: about 5 pairs are equal by chance
    ones = np.unpackbits(bits.reshape(-1, 1).view(np.uint8), axis=1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(bits.size)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_of_rows_of_units_and_of_all(rate):
    mask = kept(keys(), 300, rate)
    deviation = np.sqrt(rate * (1 - rate))
    for axis, n in ((None, mask.size), (0, len(ROWS)), (1, 300)):
        assert np.abs(mask.mean(axis=axis) - (1 - rate)).max() < 5 * deviation / np.sqrt(n)


def test_masks_are_independent():
    """Between neighbouring units, rows, epochs, layers and seeds, half of the places agree."""
    mask = kept(keys(), 300, 0.5)
    others = [mask[:, 1:], mask[1:], *(kept(keys(**other), 300, 0.5) for other in OTHERS)]
    for other in others:
        same = mask[: len(other), : other.shape[1]] == other if other.shape[1] == 300 else mask[:, :-1] == other
        assert abs(same.mean() - 0.5) < 5 * 0.5 / np.sqrt(same.size)


OTHERS = [{"epoch": 1}, {"layer": 2}, {"layer": 0}, {"seed": 2}, {"rows": ROWS + 2000}]


def test_a_place_has_its_number():
    whole = random_bits(keys(), 30)
    some = np.array([3, 1999, 0, 77])
    np.testing.assert_array_equal(random_bits(keys(rows=some), 10), whole[some, :10])


def test_thresholds():
    assert keep_threshold(0.5) == 2**31
    assert keep_threshold(0) == 0
    assert keep_threshold(np.nextafter(1, 0)) == 2**32 - 1


def test_noise_is_normal():
    noise = normal_noise(keys(layer=NOISE_LAYER), 101)
    assert noise.shape == (2000, 101)
    n = np.sqrt(noise.size)
    assert abs(noise.mean()) < 5 / n
    assert abs(noise.var() - 1) < 5 * np.sqrt(2) / n
    assert abs((noise**3).mean()) < 5 * np.sqrt(15) / n
    assert abs((noise**4).mean() - 3) < 5 * np.sqrt(96) / n
    assert abs((noise[:, 0:100:2] * noise[:, 1:101:2]).mean()) < 5 / np.sqrt(100_000)
    assert 4 < np.abs(noise).max() < 7
    np.testing.assert_array_equal(normal_noise(keys(layer=NOISE_LAYER), 7), noise[:, :7])


def test_seeds():
    assert regularization_seed(0) == regularization_seed(0) != regularization_seed(1)
    assert regularization_seed(None) != regularization_seed(None)
    assert 0 <= regularization_seed(10**30) < 2**32

"""What is drawn from the seed."""

import numpy as np
import pytest

from fastmlp.random import INITS, batch_generator, initial_parameters, permutations


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
    with pytest.raises(ValueError, match="init must be one of he, xavier, normal, not 'zero'"):
        initial_parameters([3, 2], "zero", 0)


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

"""Batches: each example once per epoch, an order that (seed, epoch) decide, resuming, prefetch."""

import itertools

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import data
from jaxcnn.data.sources import permutation

SIZES = st.integers(1, 40)
BATCH_SIZES = st.integers(1, 50)
SEEDS = st.none() | st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 1000)


def numbered(size):
    """A source in which image, label and position tell each other."""
    index = np.arange(size)
    images = np.broadcast_to(index[:, None, None, None], (size, 2, 3, 1)).astype(np.uint8)
    return data.from_arrays(images, size - 1 - index)


@given(size=SIZES, batch_size=BATCH_SIZES, seed=SEEDS, epoch=EPOCHS)
def test_every_example_once_per_epoch(size, batch_size, seed, epoch):
    source = numbered(size)
    epochs = data.batches(source, batch_size, seed=seed)
    batches = list(epochs.epoch(epoch))
    assert len(batches) == len(epochs) == -(-size // batch_size)
    for batch in batches:
        chex.assert_shape(batch.image, (batch_size, 2, 3, 1))
        chex.assert_shape([batch.label, batch.mask, batch.index], (batch_size,))
        chex.assert_shape(batch.epoch, ())
        chex.assert_type(list(batch), [np.uint8, np.int32, bool, np.int32, np.int32])
        assert batch.epoch == epoch
        # Image and label belong to the index, in padding rows too.
        np.testing.assert_array_equal(batch.image, source.images[batch.index])
        np.testing.assert_array_equal(batch.label, source.labels[batch.index])
    seen = np.concatenate([batch.index[batch.mask] for batch in batches])
    np.testing.assert_array_equal(np.sort(seen), np.arange(size))


@given(size=SIZES, batch_size=BATCH_SIZES, seed=SEEDS)
def test_only_the_last_batch_is_padded_with_its_own_first_rows(size, batch_size, seed):
    *full, last = data.batches(numbered(size), batch_size, seed=seed)
    assert all(batch.mask.all() for batch in full)
    real = size - len(full) * batch_size
    assert last.mask.tolist() == [True] * real + [False] * (batch_size - real)
    repeated = itertools.islice(itertools.cycle(last.index[:real].tolist()), batch_size)
    assert last.index.tolist() == list(repeated)


@given(size=SIZES, batch_size=BATCH_SIZES, seed=SEEDS, epoch=EPOCHS, start=st.integers(0, 45))
def test_resuming_gives_the_tail_of_the_epoch(size, batch_size, seed, epoch, start):
    epochs = data.batches(numbered(size), batch_size, seed=seed)
    resumed, whole = list(epochs.epoch(epoch, start=start)), list(epochs.epoch(epoch))
    assert len(resumed) == max(len(whole) - start, 0)
    for batch, expected in zip(resumed, whole[start:], strict=True):
        chex.assert_trees_all_equal(batch, expected)


@given(size=SIZES, seed=SEEDS, epoch=EPOCHS, batch_sizes=st.tuples(BATCH_SIZES, BATCH_SIZES))
def test_the_order_is_a_function_of_seed_and_epoch_alone(size, seed, epoch, batch_sizes):
    orders = [
        [
            index
            for b in data.batches(source, size_of, seed=seed).epoch(epoch)
            for index in b.index[b.mask]
        ]
        for source, size_of in zip([numbered(size)] * 2, batch_sizes, strict=True)
    ]
    expected = np.arange(size) if seed is None else permutation(size, seed, epoch)
    assert orders[0] == orders[1] == expected.tolist()


def test_epochs_and_seeds_are_shuffled_differently():
    epochs = [data.batches(numbered(32), 32, seed=seed) for seed in range(4)]
    orders = {tuple(next(e.epoch(number)).index.tolist()) for e in epochs for number in range(4)}
    assert len(orders) == 16
    assert tuple(range(32)) not in orders


def test_iteration_is_epoch_0_again_and_again():
    epochs = data.batches(numbered(7), 3, seed=5)
    for batch, again, expected in zip(epochs, epochs, epochs.epoch(0), strict=True):
        chex.assert_trees_all_equal(batch, expected)
        chex.assert_trees_all_equal(again, expected)


@pytest.mark.parametrize(
    ("address", "order"),
    [
        ((10, 0, 0), [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]),
        ((10, 0, 1), [3, 7, 4, 2, 9, 8, 1, 6, 5, 0]),
        ((10, 1, 0), [2, 0, 1, 4, 5, 6, 7, 8, 3, 9]),
        ((6, 2**32 - 1, 123), [1, 0, 3, 5, 4, 2]),
        ((1, 7, 7), [0]),
    ],
)
def test_golden_orders(address, order):
    """If this ever fails, every experiment sees its examples in another order than before."""
    assert permutation(*address).tolist() == order
    chex.assert_type(permutation(*address), np.int32)


def test_the_golden_order_of_the_embedded_slice():
    batch = next(data.batches(data.load("fashion_mnist_slice"), 8, seed=0).epoch(0))
    assert batch.index.tolist() == [3600, 1153, 8005, 4790, 2635, 6261, 3363, 4270]


@given(size=SIZES, batch_size=BATCH_SIZES, depth=st.integers(0, 5))
def test_prefetch_changes_nothing_but_the_place(size, batch_size, depth):
    epochs = data.batches(numbered(size), batch_size, seed=1)
    on_device = list(data.prefetch(epochs, depth=depth))
    for batch, expected in zip(on_device, epochs, strict=True):
        assert all(isinstance(leaf, jax.Array) for leaf in batch)
        chex.assert_trees_all_equal(batch, expected)
        chex.assert_trees_all_equal_shapes_and_dtypes(batch, expected)


def test_prefetch_is_depth_ahead_and_no_further():
    taken = []

    def watched():
        for batch in data.batches(numbered(8), 1):
            taken.append(int(batch.index[0]))
            yield batch

    ahead = data.prefetch(watched(), depth=2)
    assert taken == []
    for number in range(8):
        assert next(ahead).index.tolist() == [number]
        assert taken == list(range(min(number + 3, 8)))
    assert next(ahead, None) is None


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0, "8", None])
def test_a_wrong_batch_size_is_refused(batch_size):
    with pytest.raises(
        ValueError, match=rf"batch_size must be an integer >= 1, got {batch_size!r}"
    ):
        data.batches(numbered(4), batch_size)


# From 2**32 on, NumPy splits a seed in two words: (2**32 + 5, 0) would be the order of (5, 1).
@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**32])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be"):
        data.batches(numbered(4), 2, seed=seed)


@pytest.mark.parametrize(("argument", "position"), [("epoch", (-1, 0)), ("start", (0, -1))])
def test_a_wrong_position_is_refused(argument, position):
    with pytest.raises(ValueError, match=argument):
        next(data.batches(numbered(4), 2, seed=0).epoch(*position))


def test_an_empty_source_is_refused():
    _, nothing = data.hold_out(numbered(4), 0.0)
    with pytest.raises(ValueError, match="source must hold at least one example"):
        data.batches(nothing, 2)

"""Batches: each example once per epoch, order determined by (seed, epoch), resuming, prefetch."""

import dataclasses
import itertools
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import data, image, train
from jaxcnn.data import permutation

SIZES = st.integers(1, 40)
BATCH_SIZES = st.integers(1, 50)
SEEDS = st.none() | st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 1000)


def numbered(size):
    """Make a source whose images and labels encode their positions."""
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
        chex.assert_type(jax.tree.leaves(batch), [np.uint8, np.int32, bool, np.int32, np.int32])
        assert batch.epoch == epoch
        # Image and label match the index, even in padding rows.
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
    """Check fixed orders; if this fails, every experiment will see its examples in a new order."""
    assert permutation(*address).tolist() == order
    chex.assert_type(permutation(*address), np.int32)


def test_the_golden_order_of_the_embedded_slice():
    batch = next(data.batches(data.load("fashion_mnist_slice"), 8, seed=0).epoch(0))
    assert batch.index.tolist() == [3600, 1153, 8005, 4790, 2635, 6261, 3363, 4270]


@pytest.fixture(params=["cpu", "gpu"])
def backend(request):
    """The default backend as seen by `prefetch`; batches stay on the CPU either way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: request.param)
        yield request.param


@pytest.mark.parametrize("depth", [0, 1, 5])
@pytest.mark.parametrize(("size", "batch_size"), [(1, 1), (7, 3), (12, 4)])
def test_prefetch_changes_only_the_device(backend, size, batch_size, depth):
    epochs = data.batches(numbered(size), batch_size, seed=1)
    found = list(data.prefetch(epochs, depth=depth))
    for batch, expected in zip(found, epochs, strict=True):
        leaves = jax.tree.leaves(batch)
        assert all(isinstance(leaf, jax.Array) == (backend == "gpu") for leaf in leaves)
        chex.assert_trees_all_equal(batch, expected)
        chex.assert_trees_all_equal_shapes_and_dtypes(batch, expected)


def test_prefetch_is_depth_ahead_and_no_further(backend):
    taken = []

    def watched():
        for batch in data.batches(numbered(8), 1):
            taken.append(int(batch.index[0]))
            yield batch

    ahead = data.prefetch(watched(), depth=2)
    depth = 2 if backend == "gpu" else 0
    assert taken == []
    for number in range(8):
        assert next(ahead).index.tolist() == [number]
        assert taken == list(range(min(number + 1 + depth, 8)))
    assert next(ahead, None) is None


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0, "8", None])
def test_a_wrong_batch_size_is_rejected(batch_size):
    with pytest.raises(
        ValueError, match=rf"batch_size must be an integer >= 1, got {batch_size!r}"
    ):
        data.batches(numbered(4), batch_size)


# NumPy splits seeds >= 2**32 into two words: (2**32 + 5, 0) would get the same order as (5, 1).
@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**32])
def test_a_wrong_seed_is_rejected(seed):
    with pytest.raises(ValueError, match="seed must be"):
        data.batches(numbered(4), 2, seed=seed)


@pytest.mark.parametrize(("argument", "position"), [("epoch", (-1, 0)), ("start", (0, -1))])
def test_a_wrong_position_is_rejected(argument, position):
    with pytest.raises(ValueError, match=argument):
        next(data.batches(numbered(4), 2, seed=0).epoch(*position))


def test_an_empty_source_is_rejected():
    _, nothing = data.hold_out(numbered(4), 0.0)
    with pytest.raises(ValueError, match="source must hold at least one example"):
        data.batches(nothing, 2)


@given(
    size=SIZES,
    parts=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6)),
    seed=SEEDS,
    epoch=EPOCHS,
    drop_last=st.booleans(),
    start=st.integers(0, 8),
)
@settings(max_examples=200)
def test_every_example_once_over_processes_and_devices(size, parts, seed, epoch, drop_last, start):
    processes, devices, rows = parts
    batch_size = processes * devices * rows
    if drop_last and size < batch_size:
        return
    source = numbered(size)
    each = [
        data.batches(
            source,
            batch_size,
            seed=seed,
            drop_last=drop_last,
            process_index=process,
            process_count=processes,
        )
        for process in range(processes)
    ]
    whole = data.batches(source, batch_size, seed=seed, drop_last=drop_last)
    resumed = [list(batches.epoch(epoch, start=start)) for batches in each]
    expected = list(whole.epoch(epoch))
    assert {len(batches) for batches in each} == {len(expected)}
    # Concatenated, the processes' rows equal the rows of a single process.
    for number, batch in enumerate(expected[start:]):
        shards = [batches[number] for batches in resumed]
        assert all(len(shard.mask) == devices * rows for shard in shards)
        for name in ("image", "label", "mask", "index"):
            joined = np.concatenate([getattr(shard, name) for shard in shards])
            np.testing.assert_array_equal(joined, getattr(batch, name))
    seen = np.concatenate([batch.index[batch.mask] for batch in expected])
    count = size // batch_size * batch_size if drop_last else size
    assert len(seen) == len(set(seen.tolist())) == count
    assert sum(int(batch.mask.sum()) for batch in expected) == count


@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(lambda c: sum(c) > 0),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 50),
)
def test_balanced_batches_show_every_class_equally_often(counts, seed, epoch):
    labels = np.repeat(np.arange(len(counts)), counts)
    source = data.from_arrays(
        np.zeros((len(labels), 1, 1, 1), np.uint8), labels, classes=list(map(str, counts))
    )
    epochs = data.batches(source, 4, seed=seed, balanced=True)
    seen = np.concatenate([batch.index[batch.mask] for batch in epochs.epoch(epoch)])
    assert len(seen) == len(labels)
    present = np.flatnonzero(counts)
    shown = np.bincount(labels[seen], minlength=len(counts))
    assert shown[present].max() - shown[present].min() <= 1
    # No example is repeated before all examples of its class have been used.
    for label in present:
        times = np.bincount(seen[labels[seen] == label], minlength=len(labels))
        members = times[labels == label]
        assert members.max() - members.min() <= 1
    again = data.batches(source, 7, seed=seed, balanced=True)
    order = np.concatenate([batch.index[batch.mask] for batch in again.epoch(epoch)])
    np.testing.assert_array_equal(order, seen)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_evaluation_is_the_same_for_every_batch_size(batch_size):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (100, 8, 8, 1), np.uint8), rng.integers(0, 3, 100)
    memory = data.from_arrays(images, labels)
    decoded = data.from_source(memory, size=(8, 8), channels=1)
    model = train.from_functions(
        lambda key, images: {"kernel": jax.random.normal(key, (64, 3))},
        lambda params, images, *, train, key: images.reshape(len(images), -1) @ params["kernel"],
    )
    preprocess = image.Preprocess(size=(8, 8), channels=1)
    state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), preprocess(images[:1]))
    step = train.make_eval_step(model, preprocess=preprocess)
    whole = train.evaluate(step, state, data.batches(memory, 100))
    for source, size in ((memory, batch_size), (decoded, batch_size), (decoded, 100)):
        parts = train.evaluate(step, state, data.batches(source, size))
        assert parts.keys() == whole.keys()
        for name, value in whole.items():
            assert parts[name] == pytest.approx(value, rel=1e-6)
        assert parts["accuracy"] == whole["accuracy"]


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_threads_end_with_the_iterator():
    source = data.from_source(numbered(200), size=(3, 4), channels=1)
    for stop in ("end", "close", "error"):
        source.images._shared.is_readable[:] = False
        epoch = data.batches(source, 8).epoch(0)
        next(epoch)
        assert decoding_threads()
        if stop == "end":
            assert len(list(epoch)) == 24
        elif stop == "close":
            epoch.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                epoch.throw(KeyboardInterrupt)
        assert not decoding_threads()


def test_threads_end_when_training_fails():
    source = data.from_source(numbered(200), size=(3, 4), channels=1)

    def step(state, batch):
        raise RuntimeError("the step failed")

    state = train.TrainState(
        **{field.name: jnp.zeros((), jnp.int32) for field in dataclasses.fields(train.TrainState)}
    )
    with pytest.raises(RuntimeError, match="the step failed"):
        train.fit(state, step, data.batches(source, 8, seed=0), epochs=1)
    assert not decoding_threads()


def test_grain_and_tfds_style_sources_are_accepted():
    images = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), np.uint8)

    class Plain:
        """A source with only ``__len__`` and ``__getitem__``."""

        def __len__(self):
            return 10

        def __getitem__(self, index):
            return {"image": images[index], "label": index % 3, "id": str(index)}

    class Several(Plain):
        """A source that also has ``__getitems__``."""

        def __getitems__(self, indices):
            return [self[int(index)] for index in indices]

    for kind in (Plain, Several):
        source = data.from_source(kind(), size=(6, 5), channels=3, classes=["a", "b", "c"])
        batch = next(iter(data.batches(source, 10, seed=4)))
        np.testing.assert_array_equal(batch.image, images[batch.index])
        np.testing.assert_array_equal(batch.label, batch.index % 3)
    ours = data.from_arrays(images, np.arange(10) % 3)
    assert len(ours.__getitems__([3, 1])) == 2
    np.testing.assert_array_equal(ours.__getitems__([3, 1])[0]["image"], images[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"drop_last": True, "batch_size": 6},
            r"at most the number of examples \(5\) with drop_last, got 6",
        ),
        ({"process_count": 0}, "process_index must be in .*, got 0 with process_count 0"),
        (
            {"process_index": 2, "process_count": 2},
            "process_index must be in .*, got 2 with process_count 2",
        ),
        (
            {"process_count": 2, "batch_size": 3},
            r"batch_size must be a multiple of process_count \(2\), got 3",
        ),
        ({"balanced": True}, "balanced requires a seed and one class per image"),
    ],
)
def test_wrong_options_of_batches_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        data.batches(numbered(5), **({"batch_size": 4} | options))

"""The jitted steps: masks, addressed keys, one compilation, lowering for other platforms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data, image, models, ops, train

PREPROCESS = image.Preprocess(size=(28, 28), channels=1)
SOURCE = data.load("fashion_mnist_slice", split="test").take(np.arange(100))


SPEC = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)


def make(name="lenet5", optimizer=None, **options):
    model = models.create(name, 10, **options)
    optimizer = optimizer or optax.adam(1e-3)
    return model, optimizer, train.create_state(jax.random.key(0), model, optimizer, SPEC)


def test_one_compilation_for_all_batches_of_all_epochs():
    model, optimizer, state = make()
    traces = []

    def loss(logits, labels, mask):
        traces.append(logits.shape)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    task = train.multi_class()._replace(loss=loss)
    step = train.make_train_step(model, optimizer, task=task, preprocess=PREPROCESS)
    eval_step = train.make_eval_step(model, task=task, preprocess=PREPROCESS)
    batches = data.batches(SOURCE, 32, seed=0)
    for epoch in range(2):
        for batch in batches.epoch(epoch):
            state, _ = step(state, batch)
            eval_step(state, batch)
    assert state.step == 8
    assert traces == [(32, 10)] * 2, "each of the two steps must be traced once"


def test_masked_rows_do_not_move_the_parameters():
    model, optimizer, initial = make("classic_cnn", optax.sgd(0.1), dropout=0.0)
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS)
    short = next(iter(data.batches(SOURCE.take(np.arange(5)), 5)))
    padded = next(iter(data.batches(SOURCE.take(np.arange(5)), 8)))
    assert padded.mask.sum() == 5
    (state, counts), (state_padded, counts_padded) = (
        step(jax.tree.map(jnp.copy, initial), batch) for batch in (short, padded)
    )
    # Sums over 5 and 8 rows are accumulated in different orders.
    chex.assert_trees_all_close(state.params, state_padded.params, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(counts, counts_padded, rtol=1e-6)


def test_hand_computed_sgd_step():
    """Zero weights give probability 1/2 each, so the gradient is (1/2 - onehot) x pixel."""
    model = train.from_functions(
        lambda key, images: jnp.zeros((images[0].size, 2)),
        lambda params, images, *, train, key: ops.flatten(images) @ params,
    )
    source = data.from_arrays(np.full((1, 1, 2, 1), [[[51], [255]]], np.uint8), np.array([1]))
    preprocess = image.Preprocess(size=(1, 2), channels=1)
    optimizer = optax.sgd(1.0)
    state = train.create_state(jax.random.key(0), model, optimizer, preprocess(source.images))
    step = train.make_train_step(model, optimizer, preprocess=preprocess)
    state, counts = step(state, next(iter(data.batches(source, 1))))
    np.testing.assert_allclose(state.params, [[-0.1, 0.1], [-0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(counts["loss"].value(), np.log(2), rtol=1e-6)


def test_dropout_is_addressed_by_the_step():
    model, optimizer, state = make("classic_cnn", optax.sgd(0.0), dropout=0.5)
    again = jax.tree.map(jnp.copy, state)
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS)
    batch = next(iter(data.batches(SOURCE, 32)))
    losses = []
    for _ in range(2):
        state, counts = step(state, batch)
        losses.append(counts["loss"].numerator.item())
    assert step(again, batch)[1]["loss"].numerator.item() == losses[0] != losses[1]


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_augmentation_keys_belong_to_the_example(batch_size):
    """An example gets the same key in any batch within an epoch."""
    drawn = {}

    def augment(keys, batch):
        values = jax.vmap(lambda key: jax.random.uniform(key))(keys)
        return batch._replace(image=batch.image * 0 + values[:, None, None, None])

    model = train.from_functions(
        lambda key, images: jnp.zeros(()),
        lambda params, images, *, train, key: images[:, 0, 0] * jnp.ones((1, 10)) + params,
    )
    step = train.make_train_step(
        model,
        optax.sgd(0.0),
        preprocess=PREPROCESS,
        augment=augment,
        task=train.multi_class()._replace(
            metrics={"drawn": lambda logits, labels, mask: (logits[:, 0], mask)},
            train_metrics=("drawn",),
        ),
    )
    state = train.create_state(jax.random.key(5), model, optax.sgd(0.0), SPEC)
    for epoch in (0, 1):
        for batch in data.batches(SOURCE, batch_size, seed=1).epoch(epoch):
            state, counts = step(state, batch)
            for index, value in zip(
                batch.index, np.asarray(counts["drawn"].numerator), strict=True
            ):
                drawn.setdefault((epoch, int(index)), set()).add(float(value))
    assert all(len(values) == 1 for values in drawn.values())
    root = jax.random.key(5)
    for epoch, index in [(0, 0), (0, 99), (1, 42)]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(root, 3), epoch), index)
        assert drawn[epoch, index] == {jax.random.uniform(key).item()}
    assert drawn[0, 0] != drawn[1, 0]


@pytest.mark.slow
def test_batch_statistics_move_in_training_only():
    model, optimizer, state = make("small_vgg", widths=(4,))
    before = jax.device_get(state.batch_stats)
    batch = next(iter(data.batches(SOURCE, 32)))
    train.make_eval_step(model, preprocess=PREPROCESS)(state, batch)
    chex.assert_trees_all_equal(state.batch_stats, before)
    state, _ = train.make_train_step(model, optimizer, preprocess=PREPROCESS)(state, batch)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.batch_stats, before)
    assert all(jax.tree.leaves(moved))


def test_the_state_is_donated():
    model, optimizer, state = make()
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS)
    step(state, next(iter(data.batches(SOURCE, 8))))
    assert state.params["conv1"]["kernel"].is_deleted()


def test_raw_images_need_a_preprocess():
    model, optimizer, state = make()
    step = train.make_train_step(model, optimizer)
    with pytest.raises(ValueError, match="images must be floating point, got uint8; use jaxcnn"):
        step(state, next(iter(data.batches(SOURCE, 8))))


def test_images_with_the_wrong_shape_are_rejected():
    model, optimizer, state = make()
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS)
    source = data.from_arrays(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"images must be \[B, 28, 28, 1\], got shape"):
        step(state, next(iter(data.batches(source, 4))))


@pytest.mark.parametrize("name", ["classic_cnn", "small_vgg"])
def test_steps_lower_for_cuda_and_tpu(name):
    model, optimizer, state = make(name)
    batch = next(iter(data.batches(SOURCE, 4)))
    for step in (
        train.make_train_step(model, optimizer, preprocess=PREPROCESS),
        train.make_eval_step(model, preprocess=PREPROCESS),
    ):
        exported = jax.export.export(step, platforms=("cuda", "tpu"))(state, batch)
        assert exported.platforms == ("cuda", "tpu")

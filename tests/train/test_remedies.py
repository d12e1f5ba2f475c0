"""Recipe options: accumulation, averages, frozen parts, penalties, views, auxiliary heads."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data, image, models, ops, regularizers, train

PREPROCESS = image.Preprocess(size=(28, 28), channels=1)
SOURCE = data.load("fashion_mnist_slice", split="test").take(np.arange(128))
BATCH = next(iter(data.batches(SOURCE, 128)))
SPEC = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)


def one_step(model, optimizer, batch=BATCH, steps=1, ema=False, **options):
    state = train.create_state(jax.random.key(0), model, optimizer, SPEC, ema=ema)
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS, **options)
    for _ in range(steps):
        state, counts = step(state, batch)
    return state, counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "rows"),
    [(4, 101), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((4, 128), (2, 60)))],
)
def test_accumulation_equals_the_large_batch(rows, parts):
    """Compare for a full batch, and for one whose last part is partly or fully masked.

    Use SGD with momentum, because Adam amplifies rounding errors where a gradient is nearly zero.
    """
    model, optimizer = models.create("classic_cnn", 10, dropout=0.0), optax.sgd(0.1, momentum=0.9)
    batch = BATCH._replace(mask=np.arange(128) < rows)
    whole, counts = one_step(model, optimizer, batch, steps=3)
    split, split_counts = one_step(model, optimizer, batch, steps=3, accumulate=parts)
    chex.assert_trees_all_close(split.params, whole.params, atol=1e-6, rtol=0)
    chex.assert_trees_all_close(split_counts, counts, rtol=1e-5)


@pytest.mark.slow
def test_accumulation_moves_statistics_once_a_part():
    model = models.create("small_vgg", 10, widths=(4,), dropout=0.0)
    state, _ = one_step(model, optax.sgd(0.0), accumulate=4)
    expected = train.create_state(jax.random.key(0), model, optax.sgd(0.0), SPEC)
    step = train.make_train_step(model, optax.sgd(0.0), preprocess=PREPROCESS)
    for part in data.batches(SOURCE, 32):
        expected, _ = step(expected, part)
    chex.assert_trees_all_close(state.batch_stats, expected.batch_stats, rtol=1e-5)


def test_accumulation_must_divide_the_batch():
    with pytest.raises(ValueError, match=r"accumulate must divide the batch size \(128\), got 3"):
        one_step(models.create("lenet5", 10), optax.sgd(0.1), accumulate=3)


LINE = train.from_functions(
    lambda key, images: {"free": jnp.zeros(()), "held": jnp.ones(())},
    lambda params, images, *, train, key: jnp.stack(
        [params["free"] * jnp.ones(len(images)), 0 * params["held"] * jnp.ones(len(images))], 1
    ),
)


def line_states(steps, **options):
    """Train a free logit against a constant logit, all labels 0: the gradient is -(1 - p)."""
    batch = BATCH._replace(label=np.zeros(128, np.int32))
    state = train.create_state(jax.random.key(0), LINE, optax.sgd(1.0), SPEC, ema=True)
    step = train.make_train_step(LINE, optax.sgd(1.0), preprocess=PREPROCESS, **options)
    for _ in range(steps):
        state, counts = step(state, batch)
        yield jax.tree.map(np.asarray, (state.params, state.ema)), counts


@pytest.mark.slow
def test_the_average_by_hand():
    """Compute w = 0, 0.5, 0.5 + 1 - p(0.5); the decay is at most 2/11, then 3/12."""
    first, second = (float(params["free"]) for (params, _), _ in line_states(2))
    np.testing.assert_allclose(first, 0.5)
    np.testing.assert_allclose(second, 0.5 + 1 - 1 / (1 + np.exp(-0.5)), rtol=1e-6)
    averages = [
        float(average["params"]["free"]) for (_, average), _ in line_states(2, ema_decay=0.9)
    ]
    expected = [first * 9 / 11, first * 9 / 11 * 3 / 12 + second * 9 / 12]
    np.testing.assert_allclose(averages, expected, rtol=1e-6)
    averages = [
        float(average["params"]["free"]) for (_, average), _ in line_states(2, ema_decay=0.1)
    ]
    expected = [first * 0.9, first * 0.9 * 0.1 + second * 0.9]
    np.testing.assert_allclose(averages, expected, rtol=1e-6)


@pytest.mark.slow
def test_evaluation_uses_averaged_parameters_and_statistics():
    model = models.create("small_vgg", 10, widths=(4,), dropout=0.0)
    state, _ = one_step(model, optax.sgd(0.5), steps=3, ema=True, ema_decay=0.5)
    assert set(state.ema) == {"params", "batch_stats"}
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.ema, state.variables)
    assert all(jax.tree.leaves(moved))
    predict = train.make_predict_step(model, preprocess=PREPROCESS)
    plain = state.replace(ema=None, **state.ema)
    np.testing.assert_array_equal(predict(state, BATCH.image), predict(plain, BATCH.image))


def test_an_average_must_have_been_created():
    with pytest.raises(ValueError, match="created with ema=True"):
        one_step(models.create("lenet5", 10), optax.sgd(0.1), ema_decay=0.9)


@pytest.mark.slow
def test_frozen_parts_stay_and_do_not_count():
    model = models.create("small_vgg", 10, widths=(4,), dropout=0.5)
    optimizer = optax.adamw(1e-2, weight_decay=0.5)
    initial = train.create_state(jax.random.key(0), model, optimizer, SPEC)
    state, counts = one_step(model, optimizer, frozen=["convs_*", "norms_*/*", "hidden"], steps=2)
    for name in initial.params:
        same = jax.tree.map(
            lambda a, b: bool((a == b).all()), state.params[name], initial.params[name]
        )
        assert all(jax.tree.leaves(same)) == (name != "output"), name
    # Frozen batch norm layers run in evaluation mode.
    chex.assert_trees_all_equal(state.batch_stats, initial.batch_stats)
    _, free_counts = one_step(model, optimizer, steps=2)
    assert counts["gradient_norm"].value() < free_counts["gradient_norm"].value()


def test_a_frozen_pattern_that_matches_nothing():
    with pytest.raises(ValueError, match="pattern 'backbone' matches no parameter"):
        one_step(models.create("lenet5", 10), optax.sgd(0.1), frozen=["backbone"])


def test_penalty_by_hand():
    """Take two steps: the loss's gradient, plus 0.1 + 2 * 0.2 * w from the penalty."""
    penalty = functools.partial(regularizers.penalty, l1=0.1, l2=0.2, patterns=["held"])
    held = [float(params["held"]) for (params, _), _ in line_states(2, penalty=penalty)]
    np.testing.assert_allclose(held, [1 - 0.5, 0.5 - (0.1 + 0.4 * 0.5)], rtol=1e-6)
    counts = next(line_states(1, penalty=penalty))[1]
    np.testing.assert_allclose(counts["objective"].value(), np.log(2) + 0.3, rtol=1e-6)
    np.testing.assert_allclose(counts["loss"].value(), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(counts["gradient_norm"].value(), np.hypot(0.5, 0.5), rtol=1e-6)


def test_a_smaller_lr_scale_takes_smaller_steps():
    batch = BATCH._replace(label=np.zeros(128, np.int32))
    state = train.create_state(jax.random.key(0), LINE, optax.sgd(1.0), SPEC).replace(
        lr_scale=jnp.float32(0.25)
    )
    state, _ = train.make_train_step(LINE, optax.sgd(1.0), preprocess=PREPROCESS)(state, batch)
    np.testing.assert_allclose(state.params["free"], 0.125)


class TwoHeads(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = ops.flatten(images)
        aux = models.layers.Dense(10, name="aux")(x)
        if train:
            self.sow("intermediates", "aux_logits", aux)
        self.sow("intermediates", "other", x)
        return models.layers.Dense(10, name="main")(x)


@pytest.mark.slow
def test_auxiliary_heads_count_with_their_weight():
    gradients = {}
    for weight in (0.0, 0.3, 0.6):
        state, _ = one_step(TwoHeads(), optax.sgd(1.0), task=train.multi_class(aux_weight=weight))
        start = train.create_state(jax.random.key(0), TwoHeads(), optax.sgd(1.0), SPEC)
        gradients[weight] = jax.tree.map(jnp.subtract, start.params, state.params)
    assert not gradients[0.0]["aux"]["kernel"].any()
    doubled = jax.tree.map(lambda x: 2 * x, gradients[0.3]["aux"])
    chex.assert_trees_all_close(gradients[0.6]["aux"], doubled, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(
        gradients[0.6]["main"], gradients[0.0]["main"], rtol=1e-4, atol=1e-6
    )


class Misshaped(TwoHeads):
    @nn.compact
    def __call__(self, images, *, train):
        self.sow("intermediates", "aux_logits", jnp.zeros((len(images), 3)))
        return models.layers.Dense(10)(ops.flatten(images))


def test_auxiliary_outputs_of_another_shape_are_rejected():
    with pytest.raises(ValueError, match=r"aux_logits must have the shape .*\(128, 10\)"):
        one_step(Misshaped(), optax.sgd(1.0))


@pytest.mark.slow
def test_the_average_of_what_never_moves_is_exact():
    model = models.create("lenet5", 10)
    initial = train.create_state(jax.random.key(0), model, optax.sgd(0.5), SPEC)
    state, _ = one_step(model, optax.sgd(0.5), steps=3, ema=True, ema_decay=0.9, frozen=["conv1"])
    chex.assert_trees_all_equal(state.ema["params"]["conv1"], initial.params["conv1"])


def test_half_precision_outputs_are_measured_in_full():
    half = train.from_functions(
        lambda key, images: jnp.zeros((784, 10)),
        lambda params, images, *, train, key: (ops.flatten(images) @ params).astype(jnp.bfloat16),
    )
    state = train.create_state(jax.random.key(0), half, optax.sgd(1.0), SPEC)
    outputs = train.make_predict_step(half, preprocess=PREPROCESS)(state, BATCH.image)
    assert outputs.dtype == jnp.float32


def test_views_are_averaged():
    model = models.create("lenet5", 10)
    state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), SPEC)
    plain = train.make_predict_step(model, preprocess=PREPROCESS)
    both = train.make_predict_step(model, preprocess=PREPROCESS, views=[image.flip_left_right])
    mirrored = np.ascontiguousarray(BATCH.image[:, :, ::-1])
    expected = (plain(state, BATCH.image) + plain(state, mirrored)) / 2
    np.testing.assert_allclose(both(state, BATCH.image), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both(state, mirrored), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_computes_in_half_and_keeps_float32():
    model = models.create("small_vgg", 10, widths=(4,), dtype="bfloat16")
    state, counts = one_step(model, optax.adam(1e-3))
    for leaf in jax.tree.leaves((state.variables, counts["loss"].numerator)):
        assert leaf.dtype == jnp.float32
    outputs = train.make_predict_step(model, preprocess=PREPROCESS)(state, BATCH.image)
    assert outputs.dtype == jnp.float32
    maps = model.apply(state.variables, PREPROCESS(BATCH.image), train=False, method="features")
    assert maps.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate must be an integer >= 1"),
        ({"accumulate": 1.0}, "accumulate must be an integer >= 1"),
        ({"ema_decay": 1.0}, r"ema_decay must be None or in \(0, 1\)"),
        ({"ema_decay": 0.0}, r"ema_decay must be None or in \(0, 1\)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        train.make_train_step(LINE, optax.sgd(1.0), **options)

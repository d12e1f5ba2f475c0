"""Batches from generators, lists and Keras's flows, in training and evaluation."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
import pytest

from jaxcnn import data, models, train
from jaxcnn.batch import Batch, as_epochs

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 22)
IMAGES = np.float32(RNG.uniform(0, 1, (22, 12, 12, 1)) / 2 + LABELS[:, None, None, None] / 6)
MODEL, OPTIMIZER = models.create("lenet5", 3), optax.adam(1e-3)
STEP = train.make_train_step(MODEL, OPTIMIZER)
EVAL_STEP = train.make_eval_step(MODEL)


def create_state():
    return train.create_state(jax.random.key(0), MODEL, OPTIMIZER, IMAGES[:1])


def pairs(epoch=0, size=8):
    """Yield batches of an epoch's order, the last one short."""
    order = np.random.default_rng(epoch).permutation(len(LABELS))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield IMAGES[rows], LABELS[rows]


FORMS = {
    "tuples": pairs,
    "lists": lambda epoch: [list(pair) for pair in pairs(epoch)],
    "mappings": lambda epoch: ({"image": x, "label": y, "id": 1} for x, y in pairs(epoch)),
    "weights": lambda epoch: ((x, y, np.ones(len(y))) for x, y in pairs(epoch)),
    "device": lambda epoch: (jax.tree.map(jnp.asarray, pair) for pair in pairs(epoch)),
    "doubles": lambda epoch: ((x.astype(np.float64), y.tolist()) for x, y in pairs(epoch)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_batches(form):
    batches = data.stream(FORMS[form], steps_per_epoch=3)
    for epoch in range(2):
        found = list(batches.epoch(epoch))
        for step, (batch, (images, labels)) in enumerate(zip(found, pairs(epoch), strict=True)):
            count = len(labels)
            assert isinstance(batch, Batch) and batch.epoch == epoch
            assert batch.image.dtype == np.float32 and batch.label.dtype == np.int32
            chex.assert_shape(batch.image, (8, 12, 12, 1))
            np.testing.assert_array_equal(batch.image[:count], images)
            np.testing.assert_array_equal(batch.image[count:], images[: 8 - count])
            np.testing.assert_array_equal(batch.label[:count], labels)
            assert batch.mask.tolist() == [True] * count + [False] * (8 - count)
            np.testing.assert_array_equal(batch.index[:count], 8 * step + np.arange(count))
            assert (batch.weight is None) == (form != "weights")
        for start in range(1, 4):
            for one, other in zip(batches.epoch(epoch, start), found[start:], strict=True):
                chex.assert_trees_all_equal(one, other)


def test_stop_and_resume_is_bit_for_bit(tmp_path):
    batches = data.stream(pairs, steps_per_epoch=3)
    whole, history = train.fit(create_state(), STEP, batches, epochs=2)
    steps = []
    stopped, _ = train.fit(
        create_state(),
        STEP,
        batches,
        epochs=2,
        saving=train.Saving(tmp_path),
        on_step=lambda number, counts: steps.append(number),
        should_stop=lambda: len(steps) == 2,
    )
    snapshot = train.restore(tmp_path, create_state())
    assert snapshot.state.step == stopped.step == 2
    resumed, rows = train.fit(snapshot, STEP, batches, epochs=2)
    assert train.fingerprint(resumed) == train.fingerprint(whole)
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in history]


def test_lists_and_endless_generators():
    def endless(epoch):
        while True:
            yield from pairs()

    fixed = list(pairs())
    states = [
        train.fit(create_state(), STEP, batches, epochs=2)[0]
        for batches in (
            fixed,
            data.stream(lambda epoch: fixed),
            data.stream(endless, steps_per_epoch=3),
        )
    ]
    assert len({train.fingerprint(state) for state in states}) == 1
    metrics = [
        train.evaluate(EVAL_STEP, states[0], batches)
        for batches in (fixed, pairs(), data.stream(pairs, steps_per_epoch=3))
    ]
    assert metrics[0] == metrics[1]
    np.testing.assert_allclose(metrics[0]["accuracy"], metrics[2]["accuracy"])


def test_generators_are_closed():
    closed = []

    def batches(epoch):
        try:
            while True:
                yield from pairs()
        finally:
            closed.append(epoch)

    train.fit(create_state(), STEP, data.stream(batches, steps_per_epoch=2), epochs=2)
    assert closed == [0, 1]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda: pairs(), "readable once per epoch, got generator; pass jaxcnn.data.stream"),
        (lambda: iter(list(pairs())), "readable once per epoch, got list_iterator; pass"),
        (lambda: map(list, pairs()), "readable once per epoch, got map; pass"),
        (lambda: data.stream(pairs), "steps_per_epoch must be given, because generator has no len"),
        (lambda: data.stream(pairs, steps_per_epoch=0), "steps_per_epoch must be an integer >= 1"),
        (lambda: data.stream(pairs, steps_per_epoch=9), r"9 batches per epoch .* got 3 in epoch 0"),
        (lambda: [IMAGES], r"must yield \(images, labels\), .* got ndarray"),
        (lambda: ["ab"], "must yield .* got str"),
        (lambda: [{"x": 1}], "must yield .* got dict"),
        (lambda: [(IMAGES, LABELS, LABELS, LABELS)], "must yield .* got tuple"),
        (lambda: [(IMAGES, LABELS[:3])], r"same number of images, .* got \[\(3,\), \(22,\)\]"),
        (lambda: [(IMAGES[:0], LABELS[:0])], r"same number of .* got \[\(0,\)\]"),
        (lambda: [(IMAGES[:2], LABELS[:2]), (IMAGES, LABELS)], r"from 1 to 2, got \[\(22,\)\]"),
        (list, "steps_per_epoch must be an integer >= 1, got 0"),
    ],
)  # fmt: skip
def test_bad_batches(batches, message):
    with pytest.raises(ValueError, match=message):
        train.fit(create_state(), STEP, batches(), epochs=1)


@pytest.mark.parametrize("class_mode", ["categorical", "sparse"])
def test_flows_go_straight_into_training(class_mode, tmp_path):
    for label, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        for number, row in enumerate(np.flatnonzero(label == LABELS)):
            pixels = np.uint8(255 * IMAGES[row, ..., 0])
            PIL.Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    flow = data.ImageDataGenerator(rescale=1 / 255, horizontal_flip=True).flow_from_directory(
        tmp_path, (12, 12), "grayscale", class_mode=class_mode, batch_size=8, seed=1
    )
    state, history = train.fit(create_state(), STEP, flow, epochs=4)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    metrics = train.evaluate(EVAL_STEP, state, flow)
    assert 0 < metrics["f1_macro"] <= 1 and "calibration_error" in metrics
    _, predictions = train.predict(EVAL_STEP, state, flow)
    chex.assert_shape(predictions, (22, 3))
    # The batches of an epoch are a function of its number.
    again, _ = train.fit(create_state(), STEP, flow, epochs=4)
    assert train.fingerprint(again) == train.fingerprint(state)


def test_flows_of_arrays():
    one_hot = np.eye(3, dtype=np.float32)[LABELS]
    weights = np.float32(1 + LABELS)
    flow = data.ImageDataGenerator().flow(IMAGES, one_hot, 8, sample_weight=weights)
    batch = next(iter(as_epochs(flow).epoch(0)))
    np.testing.assert_array_equal(batch.weight, 1 + batch.label.argmax(1))
    _, history = train.fit(create_state(), STEP, flow, epochs=1)
    assert history[0]["step"] == 3


def test_inputs_may_be_integers():
    class Words(nn.Module):
        @nn.compact
        def __call__(self, tokens, *, train):
            return nn.Dense(2)(nn.Embed(5, 4)(tokens).mean(1))

    tokens = RNG.integers(0, 5, (16, 7))
    labels = (tokens == 3).any(1).astype(int)
    model, optimizer = Words(), optax.adam(0.1)
    state = train.create_state(jax.random.key(0), model, optimizer, jnp.asarray(tokens[:1]))
    step = train.make_train_step(model, optimizer)
    state, history = train.fit(state, step, [(tokens, labels)], epochs=30)
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    metrics = train.evaluate(train.make_eval_step(model), state, [(tokens, labels)])
    assert metrics["accuracy"] > 0.8

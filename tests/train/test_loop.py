"""The training loop: exact evaluation, bit-for-bit resuming, clean stops, divergence."""

import dataclasses
import functools
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data, image, models, ops, regularizers, train

PREPROCESS = image.Preprocess(size=(28, 28), channels=1)
SOURCE = data.load("fashion_mnist_slice", split="test").take(np.arange(150))
BATCHES = data.batches(SOURCE, 32, seed=7)  # 5 per epoch, the last one padded
MODEL = models.create("small_vgg", 10, widths=(4, 8))  # has dropout and batch norm
OPTIMIZER = optax.adam(1e-2)
STEP = train.make_train_step(MODEL, OPTIMIZER, preprocess=PREPROCESS)
EVAL_STEP = train.make_eval_step(MODEL, preprocess=PREPROCESS)


INITIAL = train.create_state(jax.random.key(3), MODEL, OPTIMIZER, PREPROCESS(SOURCE.images[:1]))
METRICS = ("loss", "accuracy")


def initial():
    """Return a copy, because `fit` donates its state."""
    return jax.tree.map(jnp.copy, INITIAL)


def without_seconds(history):
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


@pytest.fixture(scope="module")
def unbroken():
    state, history = train.fit(
        initial(),
        STEP,
        BATCHES,
        epochs=3,
        validate=lambda state: train.evaluate(EVAL_STEP, state, data.batches(SOURCE, 64)),
    )
    return train.fingerprint(state), without_seconds(history)


def test_history_has_a_row_per_epoch(unbroken):
    _, history = unbroken
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 5), (2, 10), (3, 15)]
    names = {"epoch", "step", "parameter_norm", "train_objective", "train_gradient_norm"}
    names |= {f"{p}_{m}" for p in ("train", "validation") for m in METRICS}
    assert names <= set(history[0])
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.slow  # tests of whole runs and of the fault campaign stop and resume too
@pytest.mark.parametrize("stop_after", [1, 4, 5, 7, 13])
def test_stop_and_resume_is_bit_for_bit(tmp_path, unbroken, stop_after):
    """Stop in the first batch, at the end of an epoch, and in the middle of one."""
    steps = []

    def validate(state):
        return train.evaluate(EVAL_STEP, state, data.batches(SOURCE, 64))

    saving = train.Saving(tmp_path)
    stopped, _ = train.fit(
        initial(),
        STEP,
        BATCHES,
        epochs=3,
        validate=validate,
        saving=saving,
        on_step=lambda step, counts: steps.append(step),
        should_stop=lambda: len(steps) >= stop_after,
    )
    assert stopped.step == stop_after
    snapshot = train.restore(tmp_path, jax.eval_shape(initial))
    assert train.fingerprint(snapshot.state) == train.fingerprint(stopped)
    state, history = train.fit(snapshot, STEP, BATCHES, epochs=3, validate=validate, saving=saving)
    assert (train.fingerprint(state), without_seconds(history)) == unbroken
    final = train.restore(tmp_path, jax.eval_shape(initial))
    assert without_seconds(final.history) == unbroken[1]


def everything():
    """Return the initial state of a run with every feature enabled, and a function to train it."""
    model = models.create("small_vgg", 10, widths=(4, 8), dtype="bfloat16")
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.1, mask=train.decay_mask)
    )
    task = train.multi_class(label_smoothing=0.1, focal_gamma=1.0)

    def augment(keys, batch):
        transform = image.compose(
            image.random_flip_left_right,
            functools.partial(image.random_translate, max_shift=2),
            jax.vmap(functools.partial(ops.gaussian_noise, stddev=0.1)),
        )
        return batch._replace(image=transform(keys, batch.image))

    step = train.make_train_step(
        model,
        optimizer,
        task=task,
        preprocess=PREPROCESS,
        augment=augment,
        penalty=functools.partial(regularizers.penalty, l1=1e-4, l2=1e-4),
        accumulate=4,
        ema_decay=0.9,
        frozen=["convs_0", "norms_0"],
    )
    eval_step = train.make_eval_step(
        model, task=task, preprocess=PREPROCESS, views=[image.flip_left_right]
    )
    state = train.create_state(
        jax.random.key(0), model, optimizer, PREPROCESS(SOURCE.images[:1]), ema=True
    )

    def fit(start, **options):
        return train.fit(
            start,
            step,
            BATCHES,
            epochs=4,
            validate=lambda state: train.evaluate(eval_step, state, data.batches(SOURCE, 64)),
            monitors=[
                train.EarlyStopping(2, min_delta=0.05),
                train.ReduceOnPlateau(1, factor=0.5),
            ],
            **options,
        )

    return state, fit


@pytest.mark.slow
def test_resuming_with_every_feature_on_is_bit_for_bit(tmp_path):
    initial, fit = everything()
    unbroken, history = fit(jax.tree.map(jnp.copy, initial))
    for stop_after in (3, 13):
        folder, steps = tmp_path / str(stop_after), []
        stopped, _ = fit(
            jax.tree.map(jnp.copy, initial),
            saving=train.Saving(folder),
            on_step=lambda step, counts, steps=steps: steps.append(step),
            should_stop=lambda steps=steps, n=stop_after: len(steps) >= n,
        )
        assert stopped.step == stop_after
        state, rows = fit(train.restore(folder, jax.eval_shape(lambda: initial)))
        assert without_seconds(rows) == without_seconds(history)
        assert train.fingerprint(state) == train.fingerprint(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("epochs", [4, 6])
def test_early_stopping_returns_the_best_epoch_whether_it_stopped_or_ran_out(epochs, ema_decay):
    """Prescribe a validation loss that is lowest in epoch 2, so training stops after epoch 5."""
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    seen = []

    def validate(state):
        seen.append(jax.tree.map(jnp.copy, state.eval_variables))
        return {"loss": next(losses)}

    average = ema_decay is not None
    start = train.create_state(
        jax.random.key(0), MODEL, OPTIMIZER, PREPROCESS(SOURCE.images[:1]), ema=average
    )
    state, history = train.fit(
        start,
        train.make_train_step(MODEL, OPTIMIZER, preprocess=PREPROCESS, ema_decay=ema_decay),
        BATCHES,
        epochs=epochs,
        validate=validate,
        monitors=[train.EarlyStopping(3)],
    )
    assert len(history) == min(epochs, 5)
    assert set(state.eval_variables) == {"params", "batch_stats"}
    chex.assert_trees_all_equal(state.eval_variables, seen[1])
    assert train.fingerprint(seen[1]) != train.fingerprint(seen[-1])


def test_a_plateau_takes_smaller_steps():
    losses = iter([1.0] * 4)
    state, _ = train.fit(
        initial(),
        STEP,
        BATCHES,
        epochs=4,
        validate=lambda state: {"loss": next(losses)},
        monitors=[train.ReduceOnPlateau(1, factor=0.5)],
    )
    assert state.lr_scale == 0.125


def test_early_stopping_needs_what_it_monitors():
    with pytest.raises(ValueError, match="does the run have a validation split"):
        train.fit(initial(), STEP, BATCHES, epochs=2, monitors=[train.EarlyStopping(1)])


def test_the_time_between_checkpoints_is_bounded(tmp_path):
    kept = []

    def after(snapshot):
        kept.append((int(snapshot.state.step), snapshot.counts))

    train.fit(
        initial(),
        STEP,
        BATCHES,
        epochs=1,
        saving=train.Saving(tmp_path, seconds=0, after=after),
    )
    assert [step for step, _ in kept] == [1, 2, 3, 4, 5]
    assert kept[2][1]["examples"] == 96
    assert kept[-1][1] is None


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 64, 150])
def test_evaluation_is_the_same_for_any_batch_size(batch_size):
    state = initial()
    metrics, logits = train.predict(EVAL_STEP, state, data.batches(SOURCE, batch_size))
    assert logits.shape == (150, 10)
    assert metrics["accuracy"] == np.mean(logits.argmax(-1) == SOURCE.labels)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, SOURCE.labels)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-6)
    whole = train.evaluate(EVAL_STEP, state, data.batches(SOURCE, 150))
    assert metrics["accuracy"] == whole["accuracy"]
    np.testing.assert_allclose(metrics["loss"], whole["loss"], rtol=1e-5)


def test_a_save_that_fails_ends_training_at_a_later_step(tmp_path, monkeypatch):
    steps = []

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(train.checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train.fit(
            initial(),
            STEP,
            BATCHES,
            epochs=3,
            saving=train.Saving(tmp_path, seconds=1e-9),
            on_step=lambda number, counts: steps.append(number),
        )
    assert len(steps) < 5


def test_divergence_is_an_error_and_saves_nothing_broken(tmp_path):
    optimizer = optax.sgd(1e30)
    step = train.make_train_step(MODEL, optimizer, preprocess=PREPROCESS)
    state = train.create_state(jax.random.key(0), MODEL, optimizer, PREPROCESS(SOURCE.images[:1]))
    with pytest.raises(train.DivergedError, match="the objective is nan after step 2"):
        train.fit(state, step, BATCHES, epochs=2, saving=train.Saving(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_parameters_that_explode_in_the_last_step_are_seen(tmp_path):
    """Train one step per epoch; its loss is computed before the update."""
    optimizer = optax.sgd(1e30)
    step = train.make_train_step(MODEL, optimizer, preprocess=PREPROCESS)
    state = train.create_state(jax.random.key(0), MODEL, optimizer, PREPROCESS(SOURCE.images[:1]))
    batches = data.batches(SOURCE, 150)
    with pytest.raises(train.DivergedError, match="parameter_norm became inf in epoch 1"):
        train.fit(state, step, batches, epochs=1, saving=train.Saving(tmp_path))
    assert not list(tmp_path.iterdir())


def in_calls_of_two(start, **options):
    """Fuse steps in pairs; an epoch has 5 steps, so its last call runs only one."""
    step, batches = train.fuse_steps(STEP, BATCHES, steps=2)
    return train.fit(start, step, batches, epochs=3, **options)


@pytest.mark.slow
def test_fused_steps_equal_separate_steps():
    optimizer = optax.sgd(0.1, momentum=0.9)
    model = models.create("lenet5", 10)
    step = train.make_train_step(model, optimizer, preprocess=PREPROCESS)
    results = [
        train.fit(
            train.create_state(jax.random.key(0), model, optimizer, PREPROCESS(SOURCE.images[:1])),
            *train.fuse_steps(step, BATCHES, steps=steps),
            epochs=2,
        )
        for steps in (1, 3, 64)
    ]
    (expected, rows), *others = results
    for state, history in others:
        assert state.step == expected.step
        chex.assert_trees_all_close(state.variables, expected.variables, atol=1e-5)
        np.testing.assert_allclose(history[1]["train_loss"], rows[1]["train_loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [pytest.param(4, marks=pytest.mark.slow), 7])
def test_stop_and_resume_between_calls_is_bit_for_bit(tmp_path, stop_after):
    unbroken, history = in_calls_of_two(initial())
    steps = []
    stopped, _ = in_calls_of_two(
        initial(),
        saving=train.Saving(tmp_path),
        on_step=lambda step, counts: steps.append((step, int(counts["objective"].denominator))),
        should_stop=lambda: steps[-1][0] >= stop_after,
    )
    calls = [(2, 2), (4, 4), (5, 5), (7, 2)]
    assert steps == calls[: 1 + [step for step, _ in calls].index(stop_after)]
    assert stopped.step == stop_after
    state, rows = in_calls_of_two(train.restore(tmp_path, jax.eval_shape(initial)))
    assert train.fingerprint(state) == train.fingerprint(unbroken)
    assert without_seconds(rows) == without_seconds(history)


def test_calls_cannot_begin_in_the_middle_of_others():
    snapshot = train.Snapshot(dataclasses.replace(initial(), step=jnp.int32(3)))
    with pytest.raises(
        ValueError, match=r"steps \(steps_per_call\) must divide 3, the step .* got 2"
    ):
        in_calls_of_two(snapshot)


def test_only_arrays_can_stay_on_the_device():
    class Streamed:
        def __len__(self):
            return 5

    with pytest.raises(ValueError, match=r"batches must come from .* got Streamed"):
        train.fuse_steps(STEP, Streamed(), steps=2)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_bad_number_of_fused_steps(steps):
    with pytest.raises(ValueError, match="steps must be an integer >= 1"):
        train.fuse_steps(STEP, BATCHES, steps=steps)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True])
def test_bad_epochs(epochs):
    with pytest.raises(ValueError, match="epochs must be an integer >= 1"):
        train.fit(initial(), STEP, BATCHES, epochs=epochs)


def test_evaluation_of_nothing_is_rejected():
    with pytest.raises(ValueError, match="batches must contain at least one batch"):
        train.evaluate(EVAL_STEP, initial(), [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_a_request(number):
    before = signal.getsignal(number)
    with train.stop_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
        assert should_stop.received == number
    assert signal.getsignal(number) == before


@pytest.fixture
def interruptible():
    """Install the default handler, because a suite started in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_interrupt_has_its_usual_effect(interruptible, monkeypatch):
    monkeypatch.setattr(train.signals, "REPEAT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), train.stop_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_sent_twice_at_once_counts_once(interruptible):
    with train.stop_signals() as should_stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert should_stop.received == signal.SIGINT


class WithBlanks:
    """Batches, some fully masked, as if none of their images were readable."""

    blank = (0, 3)

    def __len__(self):
        return len(BATCHES)

    def epoch(self, epoch, start=0):
        for number, batch in enumerate(BATCHES.epoch(epoch, start), start):
            nothing = number in self.blank
            yield batch._replace(mask=batch.mask & False) if nothing else batch


@pytest.mark.slow
def test_a_batch_without_a_row_that_counts_moves_nothing_but_the_position():
    seen = []

    def step(state, batch):
        seen.append((int(state.step), bool(np.any(batch.mask))))
        return STEP(state, batch)

    whole, history = train.fit(initial(), step, WithBlanks(), epochs=2)
    assert seen == [(number, True) for number in (1, 2, 4, 6, 7, 9)]
    assert int(whole.step) == 10
    first, _ = train.fit(initial(), STEP, WithBlanks(), epochs=2, should_stop=lambda: True)
    assert int(first.step) == 1
    assert train.fingerprint(first.params) == train.fingerprint(INITIAL.params)
    assert train.fingerprint(first.batch_stats) == train.fingerprint(INITIAL.batch_stats)
    resumed, again = train.fit(train.Snapshot(first), STEP, WithBlanks(), epochs=2)
    assert train.fingerprint(resumed) == train.fingerprint(whole)
    assert without_seconds(again) == without_seconds(history)


def test_batches_without_any_row_that_counts_are_rejected():
    blanks = WithBlanks()
    blanks.blank = range(5)
    with pytest.raises(ValueError, match="at least one readable example, got none"):
        train.fit(initial(), STEP, blanks, epochs=1)

"""Snapshots: exact, verified, falling back if damaged, intact after a killed process."""

import dataclasses
import gc
import shutil
import signal
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import metrics, train
from jaxcnn.train import checkpoint

OPTIMIZER = optax.adam(1e-3)

# When a read fails, Orbax does not await the coroutines of the other reads; Python warns when they
# are garbage-collected, which the fixture below forces to happen here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collect_garbage():
    yield
    gc.collect()


def make_state(step=0, value=0.0):
    model = train.from_functions(
        lambda key, images: {
            "kernel": jax.random.normal(key, (5, 3)),
            "half": jnp.ones(4, jnp.bfloat16),
        },
        lambda params, images, *, train, key: images,
    )
    state = train.create_state(jax.random.key(0), model, OPTIMIZER, jnp.zeros((1, 2)))
    params = jax.tree.map(lambda leaf: leaf + jnp.asarray(value, leaf.dtype), state.params)
    return state.replace(step=jnp.int32(step), params=params)


LIKE = jax.eval_shape(make_state)
COUNTS = {
    "loss": metrics.Ratio(np.float32(0.1) + np.float32(1 / 3), np.int32(9)),
    "examples": np.int32(9),
}
SNAPSHOT = train.Snapshot(
    make_state(7), COUNTS, [{"epoch": 1, "train_loss": 1 / 3}], {"classes": ["a", "ü"]}
)


def saved(folder, steps=(3, 7)):
    for step in steps:
        train.save(folder, dataclasses.replace(SNAPSHOT, state=make_state(step, step)))
    return folder


def test_round_trip_is_exact(tmp_path):
    train.save(tmp_path, SNAPSHOT)
    back = train.restore(tmp_path, LIKE)
    assert train.fingerprint(back.state) == train.fingerprint(SNAPSHOT.state)
    assert jax.random.key_impl(back.state.key) == jax.random.key_impl(SNAPSHOT.state.key)
    assert back.counts == COUNTS
    assert type(back.counts["loss"]) is metrics.Ratio
    assert back.counts["loss"].numerator.dtype == np.float32
    assert back.counts["examples"].dtype == np.int32
    assert (back.history, back.metadata) == (SNAPSHOT.history, SNAPSHOT.metadata)


def test_the_newest_are_kept(tmp_path):
    saved(tmp_path, range(1, 6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_a_step_saved_again_replaces_the_old_one(tmp_path):
    saved(tmp_path)
    train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(7, 99.0)))
    assert train.restore(tmp_path, LIKE).state.params["kernel"].mean() > 90
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "7"]


def test_like_may_depend_on_the_metadata(tmp_path):
    saved(tmp_path)
    seen = []
    train.restore(tmp_path, lambda metadata: seen.append(metadata) or LIKE)
    assert seen == [SNAPSHOT.metadata]


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        pytest.param(truncate, marks=pytest.mark.slow),
        pytest.param(lambda path: path.unlink(), marks=pytest.mark.slow),
    ],
)
def test_damage_never_gives_wrong_values(tmp_path, damage):
    """Damage each file of the newest snapshot in turn; restore it or the older one correctly."""
    good = saved(tmp_path / "good")
    right = {step: train.fingerprint(make_state(step, step)) for step in (3, 7)}
    fallbacks = 0
    for file in files_of(good / "7"):
        folder = tmp_path / "damaged"
        shutil.copytree(good, folder)
        damage(folder / file.relative_to(good))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state = train.restore(folder, LIKE).state
        fell_back = int(state.step) == 3
        assert train.fingerprint(state) == right[int(state.step)]
        assert fell_back == any("skipped a damaged" in str(w.message) for w in caught)
        fallbacks += fell_back
        shutil.rmtree(folder)
    assert fallbacks >= 2, "the damage did not affect the data"


def test_an_empty_folder_with_a_steps_name_is_skipped(tmp_path):
    saved(tmp_path)
    (tmp_path / "9").mkdir()
    with pytest.warns(UserWarning, match="skipped a damaged checkpoint.*step 9"):
        assert train.restore(tmp_path, LIKE).state.step == 7


def stray(name):
    """Return a function that adds a folder that no save made."""

    def add(folder):
        if name == "link":
            (folder / "999").symlink_to(folder / "7")
        elif name == "file":
            (folder / "999").write_text("not a checkpoint")
        elif name == "copy":
            shutil.copytree(folder / "7", folder / "999")
        else:
            (folder / name).mkdir()

    return add


def damage_newest(folder):
    for file in files_of(folder / "7"):
        file.write_bytes(b"")


SCENES = {
    "empty folder": stray("999"),
    "copy of a snapshot": stray("copy"),
    "link to a snapshot": stray("link"),
    "file": stray("file"),
    "digit that is not decimal": stray("²"),
    "leading zero": stray("0999"),
    "left over from a replacement": stray("replaced-8"),
    "damaged newest": damage_newest,
}
QUICK_SCENES = ("copy of a snapshot",)


@pytest.mark.filterwarnings("ignore:skipped a damaged checkpoint")
@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(scene, marks=[] if scene in QUICK_SCENES else pytest.mark.slow)
        for scene in SCENES
    ],
)
def test_every_later_save_is_made(tmp_path, scene):
    saved(tmp_path)
    SCENES[scene](tmp_path)
    state = train.restore(tmp_path, LIKE, set_aside=True).state
    assert int(state.step) == (3 if scene == "damaged newest" else 7)
    for step in range(int(state.step) + 1, int(state.step) + 11):
        train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(step, step)))
        assert (tmp_path / str(step)).is_dir()
    newest = train.restore(tmp_path, LIKE).state
    assert train.fingerprint(newest) == train.fingerprint(make_state(step, step))


def test_skipped_snapshots_are_renamed_only_to_resume(tmp_path):
    saved(tmp_path)
    (tmp_path / "9").mkdir()
    with pytest.warns(UserWarning, match="step 9: "):
        train.restore(tmp_path, LIKE)
    assert (tmp_path / "9").is_dir()
    with pytest.warns(UserWarning, match="step 9: .*; it was renamed to damaged-9"):
        train.restore(tmp_path, LIKE, set_aside=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "7", "damaged-9"]


def not_finite(value, part):
    state = make_state(8)
    best = None
    if part == "params":
        state = state.replace(params=state.params | {"kernel": state.params["kernel"] * value})
    elif part == "batch_stats":
        state = state.replace(batch_stats={"mean": jnp.array([0, value], jnp.bfloat16)})
    else:
        best = {"params": {"bias": jnp.array([value, 0.0])}}
    return dataclasses.replace(SNAPSHOT, state=state, best=best)


@pytest.mark.parametrize(
    ("part", "value"), [("params", np.nan), ("batch_stats", np.inf), ("best", np.nan)]
)
def test_variables_that_are_not_finite_are_never_saved(tmp_path, value, part):
    saved(tmp_path)
    with pytest.raises(train.DivergedError, match=f"{part}.* is not finite by step 8"):
        train.save(tmp_path, not_finite(value, part))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "7"]


def test_a_failed_save_is_one_line_and_keeps_older_ones(tmp_path, monkeypatch):
    saved(tmp_path)

    def full(*arguments, **options):
        (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "save", full)
    for step in (8, 7):
        message = rf"cannot save step {step} in .*: .*No space left on device.*last saved step is"
        with pytest.raises(OSError, match=message):
            train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(step)))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "7"]
    back = train.restore(tmp_path, LIKE).state
    assert train.fingerprint(back) == train.fingerprint(make_state(7, 7))


def test_a_save_that_does_not_read_back_is_an_error(tmp_path, monkeypatch):
    saved(tmp_path)
    write = checkpoint._write

    def write_and_damage(destination, *rest):
        write(destination, *rest)
        flip(max(files_of(destination / "state"), key=lambda path: path.stat().st_size))

    monkeypatch.setattr(checkpoint, "_write", write_and_damage)
    with pytest.raises(OSError, match="cannot save step 8"):
        train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "7"]
    assert int(train.restore(tmp_path, LIKE).state.step) == 7


@pytest.mark.slow
def test_larger_numbers_do_not_displace_new_snapshots(tmp_path):
    saved(tmp_path)
    for number in (999, 1000):
        (tmp_path / str(number)).mkdir()
    for step in (8, 9, 10):
        train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(step, step)))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [9, 10, 999, 1000]
    with pytest.warns(UserWarning, match="step (999|1000): "):
        assert int(train.restore(tmp_path, LIKE).state.step) == 10


@pytest.mark.slow
def test_a_failure_to_delete_keeps_the_new_snapshot(tmp_path, monkeypatch):
    saved(tmp_path)
    rmtree = shutil.rmtree

    def denied(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")
        rmtree(path, ignore_errors=True)

    monkeypatch.setattr(checkpoint.shutil, "rmtree", denied)
    for step in (8, 8):
        with pytest.raises(OSError, match=r"Permission denied; the last saved step is 8"):
            train.save(tmp_path, dataclasses.replace(SNAPSHOT, state=make_state(step, step)))
        assert int(train.restore(tmp_path, LIKE).state.step) == 8


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "5").mkdir()])
def test_nothing_intact_is_an_error(tmp_path, make):
    make(tmp_path)
    with pytest.raises(ValueError, match=r"no (intact )?checkpoint in"):
        train.restore(tmp_path, LIKE)


def test_another_models_checkpoint_is_rejected(tmp_path):
    saved(tmp_path, (7,))
    params = {"kernel": jax.ShapeDtypeStruct((9, 9), jnp.float32)}
    with pytest.raises(ValueError, match=r"no intact checkpoint .* that matches the model"):
        train.restore(tmp_path, LIKE.replace(params=params))


SAVE_FOR_EVER = """
import sys
import jax, jax.numpy as jnp, optax
from jaxcnn import train
model = train.from_functions(lambda key, images: jnp.zeros((400, 400)), None)
state = train.create_state(jax.random.key(0), model, optax.adam(1e-3), jnp.zeros((1, 2)))
for step in range(10_000):
    fill = state.replace(step=jnp.int32(step), params=jnp.full((400, 400), float(step)))
    train.save(sys.argv[1], train.Snapshot(fill, metadata={"step": step}))
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_whole_snapshots(tmp_path):
    model = train.from_functions(lambda key, images: jnp.zeros((400, 400)), None)
    like = jax.eval_shape(
        lambda: train.create_state(jax.random.key(0), model, OPTIMIZER, jnp.zeros((1, 2)))
    )
    for number in range(4):
        folder = tmp_path / str(number)
        command = [sys.executable, "-c", SAVE_FOR_EVER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            reported = process.stdout.readline(), process.stdout.readline()
            time.sleep(0.013 * number)  # a different point during a save each time
            process.send_signal(signal.SIGKILL)
            reported = (reported[1] + process.stdout.read()).split()
        snapshot = train.restore(folder, like)
        assert snapshot.state.step >= int(reported[-1]), "a reported save was lost"
        assert bool(jnp.all(snapshot.state.params == snapshot.state.step))
        assert snapshot.metadata == {"step": int(snapshot.state.step)}


def test_the_best_variables_and_counts_of_several_labels_round_trip(tmp_path):
    best = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), make_state().eval_variables)
    recall = metrics.Ratio(np.array([3, 0], np.int32), np.array([4, 1], np.int32), np.int32(5))
    counts = {"recall": recall, "calibration_error": metrics.Calibration(*np.ones((3, 15)))}
    train.save(tmp_path, dataclasses.replace(SNAPSHOT, best=best, counts=counts))
    back = train.restore(tmp_path, LIKE)
    assert train.fingerprint(back.best) == train.fingerprint(best)
    assert back.counts["recall"].numerator.tolist() == [3, 0]
    assert back.counts["recall"].numerator.dtype == np.int32
    assert metrics.summarize(back.counts) == metrics.summarize(counts)

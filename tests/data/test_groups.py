"""Groups: no group is on two sides of a split or fold, and sizes are close to the request."""

import chex
import jax
import numpy as np
import optax
import PIL.Image
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxcnn import data, image, metrics, models, train
from jaxcnn.data.groups import check_groups_apart
from jaxcnn.experiment import Experiment
from jaxcnn.experiment.splits import load_splits

CASES = settings(max_examples=100)


@st.composite
def grouped(draw):
    """Draw a source with groups of different sizes, in any order."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=15))
    names = draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    labels = draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    return data.from_arrays(
        np.arange(len(names), dtype=np.uint8).reshape(-1, 1, 1, 1),
        np.array(labels),
        classes="abcd",
        groups=names,
    )


def numbers(source):
    """Return the positions of examples in the source that they were taken from."""
    return source.images.ravel().tolist()


def largest(source):
    return np.bincount(source.groups).max()


@CASES
@pytest.mark.filterwarnings("ignore:all groups with an example of class")
@given(grouped(), st.floats(0.05, 0.95))
def test_held_out_groups(source, fraction):
    count = round(len(source) * fraction)
    assume(0 < count < len(source))
    try:
        parts = data.hold_out(source, fraction)
    except ValueError as error:
        # No choice of groups leaves both parts nonempty, and is close enough.
        assert "groups must be smaller, or more numerous" in str(error)
        sizes = np.bincount(source.groups)
        totals = np.zeros(1, int)
        for size in sizes:
            totals = np.concatenate([totals, totals + size])
        assert np.abs(totals[1:-1] - count).min(initial=len(source)) > sizes.max() / 2
        return
    assert sorted(numbers(parts[0]) + numbers(parts[1])) == list(range(len(source)))
    assert not set(parts[0].groups) & set(parts[1].groups)
    assert abs(len(parts[1]) - count) <= largest(source) / 2
    assert all(numbers(part) == sorted(numbers(part)) for part in parts)


@CASES
@given(grouped(), st.integers(2, 6))
def test_folds_of_groups(source, folds):
    groups = len(set(source.groups.tolist()))
    assume(folds <= len(source))
    if groups < folds:
        with pytest.raises(ValueError, match=rf"at most the number of groups \({groups}\), got"):
            data.take_fold(source, folds, 0)
        return
    held = []
    for fold in range(folds):
        parts = data.take_fold(source, folds, fold)
        assert not set(parts[0].groups) & set(parts[1].groups)
        assert len(parts[0]) + len(parts[1]) == len(source)
        assert abs(len(parts[1]) - len(source) / folds) <= largest(source)
        held += numbers(parts[1])
    assert sorted(held) == list(range(len(source)))


@CASES
@given(grouped())
def test_every_class_is_still_trained_if_possible(source):
    """With two groups of each class, one of them can stay."""
    doubled = data.from_arrays(
        np.concatenate([source.images, source.images]),
        np.concatenate([source.labels, source.labels]),
        classes="abcd",
        groups=np.concatenate([source.groups, source.groups + source.groups.max() + 1]),
    )
    training, _ = data.hold_out(doubled, 0.3)
    assert set(training.labels) == set(source.labels)


def test_a_class_in_a_single_group():
    """The groups with the only examples of a class are not chosen."""
    groups = np.repeat(np.arange(10), 10)
    labels = np.where(groups < 8, 0, groups - 7)
    source = data.from_arrays(
        np.zeros((100, 1, 1, 1), np.uint8), labels, classes="abc", groups=groups
    )
    training, held = data.hold_out(source, 0.5)
    assert len(held) == 50 and set(training.labels) == {0, 1, 2}
    # If every class is in one group, the fraction decides.
    source = data.from_arrays(np.zeros((100, 1, 1, 1), np.uint8), groups, groups=groups)
    with pytest.warns(UserWarning, match=r"class \d, \d, \d, \d, \d are held out, so none is left"):
        assert len(data.hold_out(source, 0.5)[1]) == 50


def pictures(folder, patients=8, each=3):
    """Write images named by patient, in two classes."""
    for patient in range(patients):
        for number in range(each):
            path = folder / ("cat", "dog")[number % 2] / f"p{patient}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("L", (4, 4), 20 * patient + number).save(path)


def patients(source):
    return {source.images.name(row).split("/")[-1].split("_")[0] for row in range(len(source))}


@pytest.mark.parametrize("pattern", [r"p\d+", r"/(p\d+)_", r"(p)(\d+)", r"\w(\d+)_"])
def test_groups_from_file_names(pattern, tmp_path):
    pictures(tmp_path)
    config = Experiment(data=str(tmp_path), group=pattern, image_size=(4, 4), channels=1)
    parts = [patients(part) for part in load_splits(config)]
    assert sum(map(len, parts)) == 8 and len(set().union(*parts)) == 8
    splits = data.load_splits(tmp_path, group=pattern, test_fraction=0.25)
    assert len(splits["test"]) == 6
    folds = [
        load_splits(
            Experiment(data=str(tmp_path), group=pattern, image_size=(4, 4), folds=3, fold=fold)
        )
        for fold in range(3)
    ]
    assert all(patients(parts.train) & patients(parts.validation) == set() for parts in folds)
    assert len(set().union(*(patients(parts.validation) for parts in folds))) > 5


def test_groups_from_a_column(tmp_path):
    pictures(tmp_path)
    lines = ["file,label,Patient,age"]
    for path in sorted(tmp_path.rglob("*.png")):
        name = path.relative_to(tmp_path).as_posix()
        lines.append(f"{name},{name[:3]},{path.name.split('_')[0]},{len(lines)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    splits = data.load_splits(tmp_path, group="patient", test_fraction=0.25)
    assert not patients(splits["train"]) & patients(splits["test"])
    assert len(splits["test"]) == 6
    with pytest.raises(ValueError, match=r"'Patients', which does not match cat/p0_0.png"):
        data.load_splits(tmp_path, group="Patients")
    table = (tmp_path / "labels.csv").read_text().replace("age", "split").splitlines()
    rows = [
        line.rsplit(",", 1)[0] + ",test" * (number % 2) + ",train" * (1 - number % 2)
        for number, line in enumerate(table[1:])
    ]
    (tmp_path / "labels.csv").write_text("\n".join([table[0], *rows]))
    with pytest.raises(ValueError, match="got 8 groups in both train and test"):
        data.load_splits(tmp_path, group="patient")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "group must be a column or a regular expression, got '\\('"),
        ("q", "matches each file name, got 'q', which does not match cat/p0_0.png"),
        ("p0", "does not match cat/p1_0.png"),
        ("png", "groups must be at least 2 to hold out 5 of 24 examples, got 1 group with all"),
    ],
)
def test_bad_groups(pattern, message, tmp_path):
    pictures(tmp_path)
    with pytest.raises(ValueError, match=message):
        data.load_splits(tmp_path, group=pattern)


def test_groups_are_rejected_where_they_cannot_be_kept(tmp_path):
    with pytest.raises(ValueError, match="stratified must be omitted if group is set"):
        Experiment(group="p", stratified=True)
    source = data.from_arrays(
        np.zeros((4, 1, 1, 1), np.uint8), np.arange(4) % 2, groups=[1, 1, 2, 3]
    )
    with pytest.raises(ValueError, match="stratified must be False if the source has groups"):
        data.hold_out(source, 0.5, stratified=True)
    with pytest.raises(ValueError, match="group requires a folder, archive or table of images"):
        data.load("fashion_mnist_slice", group="p")
    for groups in (np.array(["a", "b", "a", "c"], object), ["a", "b", "a", "c"], [7, 9, 7, 8]):
        assert data.from_arrays(source.images, source.labels, groups=groups).groups.tolist() == [
            0, 1, 0, 2,
        ]  # fmt: skip
    for groups in ([1, 2], [[1], [2], [3], [4]], [0.5, 1, 2, 3], np.array([None] * 4)):
        with pytest.raises(ValueError, match="groups must be 4 integers or strings"):
            data.from_arrays(source.images, source.labels, groups=groups)
    check_groups_apart({"train": np.array(["a"]), "test": np.array(["b"])})
    arrays = {
        f"{split}_{name}": value
        for split in ("train", "test")
        for name, value in (
            ("images", source.images),
            ("labels", source.labels),
            ("groups", np.arange(4)),
        )
    }
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match="got 4 groups in both train and test"):
        data.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights must be 4 numbers, one per example"),
        (["1", "2", "3", "4"], "weights must be 4 numbers"),
        ([1, 2, -1, 0], "weights must be finite and >= 0, got -1 at index 2"),
        ([1, np.nan, 1, 0], "weights must be finite and >= 0, got nan at index 1"),
        ([1, 1, 1e300, 0], "weights must be finite and >= 0, got 1e\\+300 at index 2"),
        ([0, 0, 0, 0], "weights must not all be 0"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        data.from_arrays(np.zeros((4, 1, 1, 1), np.uint8), np.arange(4) % 2, weights=weights)


def test_weights_reach_the_loss_but_not_the_metrics(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 12, 12, 1), np.uint8), np.arange(12) % 3
    weights = np.arange(12) % 4
    lines = ["file,label,weight"]
    for number, pixels in enumerate(images):
        PIL.Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number:02}.png")
        lines.append(f"{number:02}.png,{labels[number]},{weights[number]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    plain, weighted = (data.from_arrays(images, labels, weights=w) for w in (None, weights))
    np.testing.assert_array_equal(weighted.take(np.array([3, 1])).weights, [3, 1])
    decoded = data.load_splits(tmp_path, size=(12, 12), channels=1, test_fraction=None)["train"]
    preprocess = image.Preprocess((12, 12), 1)
    model, optimizer = models.create("lenet5", 3), optax.sgd(0.1)
    train_step = train.make_train_step(model, optimizer, preprocess=preprocess)

    def trained(source, *, fuse=False):
        step, batches = train_step, data.batches(source, 12, seed=1)
        shapes = jax.tree.map(np.shape, batches.shapes())
        assert shapes == jax.tree.map(np.shape, next(iter(batches)))
        if fuse:
            step, batches = train.fuse_steps(step, batches, steps=1)
        state = train.create_state(jax.random.key(0), model, optimizer, preprocess(images[:1]))
        return step(state, next(batches.epoch(0)))

    state, counts = trained(weighted)
    for other, same in (trained(decoded), trained(weighted, fuse=True)):
        chex.assert_trees_all_close(other.params, state.params, atol=1e-6)
        chex.assert_trees_all_close(same, counts, rtol=1e-6)
    _, unweighted = trained(plain)
    assert metrics.summarize(unweighted)["loss"] == metrics.summarize(counts)["loss"]
    assert unweighted["objective"].numerator != counts["objective"].numerator

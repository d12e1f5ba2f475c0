"""Configured augmentation of batches, on one device and on several."""

import os
import subprocess
import sys
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import data, image
from jaxcnn.batch import Batch
from jaxcnn.experiment import Experiment
from jaxcnn.experiment.augment import Augmentation, AugmentConfig, make_augment
from jaxcnn.train import augment_keys
from jaxcnn.view import run_figures

NAMES = typing.get_args(Augmentation)
MIXES = ("mixup", "cutmix")
ROOT = jax.random.key(7)


def batch_of(rows, channels=3):
    rng = np.random.default_rng(0)
    images = rng.random((32, 12, 10, channels)).astype(np.float32)
    rows = np.asarray(rows, np.int32)
    return Batch(images[rows], rows % 5, np.ones(len(rows), bool), rows, np.int32(2))


def augmented(names, batch):
    augment = make_augment(AugmentConfig(augment=names), 5)
    return jax.jit(lambda batch: augment(augment_keys(ROOT, batch), batch))(batch)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", NAMES)
def test_augmentation_changes_images(name, channels):
    batch = batch_of(range(32), channels)
    after = augmented((name,), batch)
    assert after.image.shape == batch.image.shape and after.image.dtype == jnp.float32
    assert not np.array_equal(after.image, batch.image)
    assert after.image.min() >= 0 and after.image.max() <= 1
    if name in MIXES:
        assert after.label.shape == (32, 5)
        np.testing.assert_allclose(after.label.sum(1), 1, rtol=1e-6)
    else:
        np.testing.assert_array_equal(after.label, batch.label)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in MIXES])
def test_augmentation_of_an_example_does_not_depend_on_its_batch(name):
    whole = augmented((name,), batch_of(range(32)))
    part = augmented((name,), batch_of([31, 4, 9]))
    np.testing.assert_allclose(part.image, whole.image[np.array([31, 4, 9])], atol=2e-6)


@pytest.mark.slow
def test_batch_is_mixed_in_one_way():
    """Within a batch, either all images are averaged, or all get a rectangle from another image."""
    kinds = set()
    for epoch in range(8):
        batch = batch_of(range(32))._replace(epoch=np.int32(epoch))
        before, after = batch.image, augmented(MIXES, batch).image
        pasted = np.isclose(after[:, None], before[None], atol=1e-6).all(-1).any(1).all((1, 2))
        assert pasted.all() or pasted.mean() < 0.3
        kinds.add(bool(pasted.all()))
    assert len(kinds) == 2


def test_augment_is_none_without_augmentation():
    assert make_augment(AugmentConfig(), 10) is None


@pytest.mark.parametrize("task", ["binary", "multi_label", "regression"])
def test_mixing_needs_the_multi_class_task(task):
    with pytest.raises(ValueError, match="augment must be free of mixup and cutmix unless"):
        Experiment(task=task, augment=("flip", "mixup"))


SHARDED = r"""
import re, sys
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.insert(0, {folder!r})
from test_augment import MIXES, NAMES, ROOT, batch_of
from jaxcnn.experiment.augment import AugmentConfig, make_augment
from jaxcnn.train import augment_keys

mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
batch = batch_of(range(32))
shardings = type(batch)(rows, rows, rows, rows, everywhere)
for name in NAMES:
    augment = make_augment(AugmentConfig(augment=(name,)), 5)
    function = lambda batch: augment(augment_keys(ROOT, batch), batch).image
    spread = jax.jit(function, in_shardings=(shardings,), out_shardings=rows)
    compiled = spread.lower(batch).compile()
    sizes = [
        np.prod([int(n) for n in found.split(",") if n])
        for found in re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", compiled.as_text())
    ]
    assert name in MIXES or max(sizes, default=0) < 1000, (name, sizes)
    found = compiled(jax.device_put(batch, shardings))
    np.testing.assert_allclose(found, jax.jit(function)(batch), atol=2e-6)
print("sharded", len(NAMES))
"""


@pytest.mark.slow
def test_several_devices_give_the_same_images_without_gathering():
    """Mixing may gather, because it draws partners from the whole batch."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    script = SHARDED.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"sharded {len(NAMES)}\n", done.stdout + done.stderr


@pytest.mark.slow
def test_augmentation_figure_shows_each_epoch():
    source = data.from_arrays(batch_of(range(32)).image, np.arange(32) % 5)
    preprocess = image.Preprocess(size=(12, 10), channels=3)
    augment = make_augment(AugmentConfig(augment=("flip", "mixup")), 5)
    figures = run_figures.augmentation_figures(ROOT, augment, source, preprocess)
    assert list(figures) == ["augmentation"]
    assert len(figures["augmentation"].axes[0].images) == 8 * 9
    assert not run_figures.augmentation_figures(ROOT, None, source, preprocess)


@pytest.mark.slow
def test_mixing_uses_separate_keys():
    batch = batch_of(range(32))
    found = augmented(("flip", "shift", "affine", "cutmix"), batch)
    before = augmented(("flip", "shift", "affine"), batch)
    keys = jax.vmap(jax.random.fold_in, (0, None))(augment_keys(ROOT, batch), 3)
    expected = image.cutmix(keys, before.image, jax.nn.one_hot(batch.label, 5))
    np.testing.assert_allclose(found.image, expected[0], atol=1e-6)
    np.testing.assert_allclose(found.label, expected[1], atol=1e-6)


def test_weights_are_mixed_like_labels():
    """A row's weight is the same mixture as its label."""
    source = data.from_arrays(
        np.zeros((8, 4, 4, 1), np.float32), np.arange(8), weights=np.arange(8.0)
    )
    batch = next(iter(data.batches(source, 8)))
    augment = make_augment(AugmentConfig(augment=("mixup",)), 8)
    mixed = augment(augment_keys(jax.random.key(0), batch), batch)
    np.testing.assert_allclose(mixed.weight, mixed.label @ np.arange(8.0), rtol=1e-6)
    assert mixed.label.shape == (8, 8)
    assert (np.asarray(mixed.weight) != batch.weight).any()

"""Grain's sources in jaxcnn, and jaxcnn's sources in Grain."""

import importlib

import numpy as np
import pytest

from jaxcnn import data

pytestmark = pytest.mark.parity

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
EXAMPLES = [{"image": image, "label": number % 3} for number, image in enumerate(IMAGES)]


@pytest.fixture(scope="module")
def grain():
    return importlib.import_module("grain")


def test_grain_sources_are_accepted(grain):
    shuffled = grain.MapDataset.source(EXAMPLES).shuffle(seed=1)
    source = data.from_source(shuffled, size=(6, 5), channels=3)
    assert len(source) == 20
    np.testing.assert_array_equal(source.labels, [shuffled[i]["label"] for i in range(20)])
    for batch in data.batches(source, 8, seed=0):
        expected = [shuffled[int(number)]["image"] for number in batch.index]
        np.testing.assert_array_equal(batch.image, expected)


def test_grain_reads_our_sources(grain):
    ours = data.from_arrays(IMAGES, np.arange(20) % 3)
    (batch,) = grain.MapDataset.source(ours).batch(20)
    np.testing.assert_array_equal(batch["image"], IMAGES)
    np.testing.assert_array_equal(batch["label"], np.arange(20) % 3)

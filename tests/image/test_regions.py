"""Region properties by hand and against NumPy, one component at a time; crops; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxcnn import image


def disc(size, radius, stretch=1.0):
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    return (rows / stretch) ** 2 + columns**2 <= radius**2


def blobs(count, size, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, size, size))
    return scipy.ndimage.gaussian_filter(values, (0, 1.5, 1.5)) > 0.1


def test_properties_equal_those_of_each_component_alone():
    mask = blobs(3, 24)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 24, 24, 2), np.uint8)
    components = image.connected_components(mask)
    found = image.region_properties(components, pixels, max_count=30)
    assert components.count.min() > 3 and components.count.max() <= 30
    for row in range(3):
        for number in range(30):
            inside = np.asarray(components.labels[row]) == number + 1
            values = jax.tree.map(lambda x, i=row, j=number: np.asarray(x[i, j]), found)
            assert values.mask == inside.any()
            if not inside.any():
                assert all(not np.any(value) for value in values)
                continue
            rows, columns = np.nonzero(inside)
            assert values.area == inside.sum()
            expected = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            assert values.box.tolist() == expected
            np.testing.assert_allclose(values.centroid, [rows.mean(), columns.mean()], rtol=1e-5)
            mean = pixels[row][inside].mean(0)
            np.testing.assert_allclose(values.mean_intensity, mean, rtol=1e-5)


@pytest.mark.slow
def test_properties_of_known_shapes():
    masks = np.zeros((4, 41, 41), bool)
    masks[0, 5:15, 7:27] = True  # a rectangle of 10 x 20
    masks[1, 20, 10:31] = True  # a line
    masks[2] = disc(41, 15)
    masks[3] = disc(41, 7, stretch=2)  # twice as tall as wide
    found = image.region_properties(image.connected_components(masks), max_count=1)
    perimeters, eccentricities = found.perimeter[:, 0], found.eccentricity[:, 0]
    # The perimeter runs through the centers of the border pixels: 9 + 19 + 9 + 19.
    assert perimeters[0] == 56
    np.testing.assert_allclose(perimeters[2], 2 * np.pi * 15, rtol=0.05)
    squares = (10**2 - 1) / 12, (20**2 - 1) / 12  # variances of 10 and 20 equally spaced positions
    np.testing.assert_allclose(eccentricities[0], np.sqrt(1 - squares[0] / squares[1]), rtol=1e-5)
    assert eccentricities[1] == 1
    assert eccentricities[2] < 1e-3
    np.testing.assert_allclose(eccentricities[3], np.sqrt(1 - 0.25), rtol=0.01)


@pytest.mark.slow
def test_touching_components_do_not_change_a_measurement():
    pixels = np.zeros((1, 12, 12, 1), np.float32)
    pixels[0, 3:9, 2:10] = 1
    touching = image.similar_components(pixels, tolerance=0.5)
    alone = image.connected_components(pixels[..., 0] > 0)
    inner = image.region_properties(touching, max_count=2)
    outer = image.region_properties(alone, max_count=1)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[:, 1:], inner), outer)


LABEL_IMAGES = {
    "negative": np.array([[1, 1, -1, 2], [-5, 0, 4, 4], [0, 0, 4, -1]], np.int32),
    "uint8": np.array([[255, 255, 0, 7], [9, 0, 7, 7], [9, 9, 0, 200]], np.uint8),
    "int8": np.array([[127, 127, -128, 3], [3, 3, 3, 0], [5, 0, 0, 5]], np.int8),
    "uint16": np.array([[300, 300, 0, 1], [1, 65_535, 0, 1], [2, 2, 2, 2]], np.uint16),
    "uint32": np.array([[2**32 - 1, 1, 0, 1], [2**31, 2, 0, 1], [2, 2, 2, 2]], np.uint32),
    "int64": np.array([[2**32 + 1, 1, 0, 1], [2**40, 2, 0, 1], [2, -(2**40), 2, 2]], np.int64),
    "gaps": np.array([[9, 9, 0, 30], [0, 0, 30, 30], [4, 4, 4, 4]], np.int16),
}


@pytest.mark.parametrize("kind", LABEL_IMAGES)
def test_label_images_of_other_programs(kind):
    labels, most = LABEL_IMAGES[kind], 310
    expected = [label for label in np.unique(labels).tolist() if 0 < label <= most]
    batch = labels[None]
    for given in (batch, image.Components(batch, jnp.array([2]))):
        found = jax.tree.map(lambda x: x[0], image.region_properties(given, max_count=most))
        assert (np.flatnonzero(found.mask) + 1).tolist() == expected
        for label in expected:
            rows, columns = np.nonzero(labels == label)
            box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            assert found.area[label - 1] == len(rows)
            assert found.box[label - 1].tolist() == box
            centroid = [rows.mean(), columns.mean()]
            np.testing.assert_allclose(found.centroid[label - 1], centroid, rtol=1e-6)


@pytest.mark.parametrize(
    "labels", [np.ones((2, 2), int), np.ones((1, 2, 2)), np.ones((1, 2, 2, 1), int), np.int32(1)]
)
def test_label_images_are_checked(labels):
    for given in (labels, image.Components(labels, np.array([1]))):
        with pytest.raises(ValueError, match=r"labels must be \[B, H, W\] integers, got .* shape"):
            image.region_properties(given, max_count=1)


@pytest.mark.slow
def test_labels_above_max_count_are_dropped():
    mask = np.zeros((1, 3, 9), bool)
    mask[0, 1, ::2] = True
    found = image.region_properties(image.connected_components(mask), max_count=3)
    assert found.area[0].tolist() == [1, 1, 1]
    assert found.box[0, :, 1].tolist() == [0, 2, 4]


@pytest.mark.slow
def test_remove_small_components_and_largest_component():
    mask = blobs(2, 24)
    labels = np.asarray(image.connected_components(mask).labels)
    areas = [np.bincount(one.ravel())[1:] for one in labels]
    kept = image.remove_small_components(mask, 10)
    assert min(area.min() for area in areas) < 10
    for row in range(2):
        stay = 1 + np.nonzero(areas[row] >= 10)[0]
        np.testing.assert_array_equal(kept[row], np.isin(labels[row], stay))
    largest = image.largest_component(mask)
    np.testing.assert_array_equal(largest[0], labels[0] == 1 + areas[0].argmax())
    assert not image.largest_component(mask & False).any()


@pytest.mark.slow
def test_crops_are_resized_boxes():
    pixels = np.random.default_rng(0).random((2, 12, 14, 3)).astype(np.float32)
    mask = np.zeros((2, 12, 14), bool)
    mask[0, 1:5, 2:8] = mask[0, 7:11, 9:13] = mask[1, :, 3:7] = True
    regions = image.region_properties(image.connected_components(mask), max_count=2)
    same = image.crop_components(pixels, regions, (4, 6))
    np.testing.assert_allclose(same[0, 0], pixels[0, 1:5, 2:8], atol=1e-5)
    larger = image.crop_components(pixels, regions, (8, 8), interpolation="nearest")
    chex.assert_shape(larger, (2, 2, 8, 8, 3))
    expected = np.repeat(np.repeat(pixels[0, 7:11, 9:13], 2, 0), 2, 1)
    np.testing.assert_array_equal(larger[0, 1], expected)
    assert not larger[1, 1].any()


@pytest.mark.slow
def test_under_jit_and_vmap():
    components = image.connected_components(blobs(3, 16))
    pixels = jnp.ones((3, 16, 16, 1))

    def measure(components, pixels):
        return image.region_properties(components, pixels, max_count=5)

    whole = jax.jit(measure)(components, pixels)
    one_each = jax.tree.map(lambda x: x[:, None], (components, pixels))
    alone = jax.vmap(measure)(*one_each)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[:, 0], alone), whole)


COMPONENTS = image.connected_components(np.ones((1, 3, 3), bool))
BAD = {
    "max_count must be an integer >= 1, got 0": (
        lambda: image.region_properties(COMPONENTS, max_count=0)
    ),
    "images must be [1, 3, 3, C], got (1, 3, 4, 1)": (
        lambda: image.region_properties(COMPONENTS, np.zeros((1, 3, 4, 1), np.float32), max_count=1)
    ),
    "mask must be boolean or integer, got float32": (
        lambda: image.largest_component(np.zeros((1, 3, 3), np.float32))
    ),
    "regions must describe 2 images, got boxes of shape (1, 1, 4)": (
        lambda: image.crop_components(
            np.zeros((2, 3, 3, 1), np.float32),
            image.region_properties(COMPONENTS, max_count=1),
            2,
        )
    ),
    "images must be [B, H, W, C] with no empty images, got (1, 3, 3)": (
        lambda: image.crop_components(
            np.zeros((1, 3, 3), np.float32), image.region_properties(COMPONENTS, max_count=1), 2
        )
    ),
    "size must be a positive integer or 2 such integers, got (0, 2)": (
        lambda: image.crop_components(
            np.zeros((1, 3, 3, 1), np.float32),
            image.region_properties(COMPONENTS, max_count=1),
            (0, 2),
        )
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_large_components_keep_their_digits():
    components = image.connected_components(jnp.ones((1, 1024, 1024), bool))
    found = image.region_properties(components, jnp.full((1, 1024, 1024, 1), 0.1), max_count=1)
    np.testing.assert_allclose(found.mean_intensity, 0.1, rtol=1e-4)
    np.testing.assert_allclose(found.centroid, 511.5, rtol=1e-6)

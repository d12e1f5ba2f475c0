"""Connected components: SciPy's labels on noise, blobs and mazes; similar components; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import image

STRUCTURES = {4: None, 8: np.ones((3, 3))}
# The example from the course.
EXAMPLE = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
)


def scipy_labels(mask, connectivity):
    found = [scipy.ndimage.label(one, STRUCTURES[connectivity]) for one in mask]
    return np.array([labels for labels, _ in found]), np.array([count for _, count in found])


def check(mask, connectivity):
    found = image.connected_components(mask, connectivity=connectivity)
    labels, count = scipy_labels(mask, connectivity)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.count, count)


def noise(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, height, width)) < rng.uniform(0.2, 0.75, (count, 1, 1))


def blobs(count, height, width, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, height, width))
    return scipy.ndimage.gaussian_filter(values, (0, 3, 3)) > 0


def spiral(size, step=2):
    """Return a mask with a single spiral path from a corner to the center."""
    mask = np.zeros((size, size), bool)
    row, column, down, right = 0, 0, 0, 1
    mask[0, 0] = True
    while True:
        for _ in range(2):
            ahead = row + step * down, column + step * right
            free = all(0 <= place < size for place in ahead) and not mask[ahead]
            if free:
                break
            down, right = right, -down
        else:
            return mask
        row, column = row + down, column + right
        mask[row, column] = True


def mazes(size):
    """Return masks that take many rounds to label."""
    rows, columns = np.indices((size, size))
    serpentine = (rows % 2 == 0) | (columns == np.where(rows % 4 == 1, size - 1, 0))
    return np.array(
        [
            spiral(size),
            spiral(size)[::-1, ::-1],
            ~spiral(size),
            serpentine,
            serpentine.T,
            serpentine[::-1],
            (columns % 2 == 0) | (rows == size - 1),  # a comb whose teeth join at the end
            (columns % 2 == 0) | (rows == 0),
            (rows + columns) % 2 == 0,
            (rows + columns) % 3 == 0,
            (rows - columns) % 4 == 0,
            np.maximum(abs(rows - size // 2), abs(columns - size // 2)) % 2 == 0,
            np.ones((size, size), bool),
            np.zeros((size, size), bool),
        ]
    )


SLOW = pytest.mark.slow
QUICK_SIZES = [(100, 1, 17), (300, 16, 15)]
OTHER_SIZES = [(40, 1, 1), (100, 13, 1), (500, 7, 9), (300, 16, 16), (40, 28, 28)]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize(
    "sizes", QUICK_SIZES + [pytest.param(size, marks=SLOW) for size in OTHER_SIZES], ids=str
)
def test_labels_of_noise_equal_scipy(sizes, connectivity):
    check(noise(*sizes), connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("size", [9, *(pytest.param(size, marks=SLOW) for size in (1, 2, 64))])
def test_labels_of_mazes_equal_scipy(size, connectivity):
    check(mazes(size), connectivity)


@SLOW
@pytest.mark.parametrize("connectivity", [4, 8])
def test_labels_of_large_masks_equal_scipy(connectivity):
    check(mazes(512), connectivity)
    check(np.concatenate([noise(8, 512, 512), blobs(8, 512, 512)]), connectivity)
    check(np.concatenate([noise(60, 127, 130), blobs(60, 127, 130)]), connectivity)


def test_the_example_of_the_course():
    counts = [
        image.connected_components(EXAMPLE[None], connectivity=connectivity).count.item()
        for connectivity in (4, 8)
    ]
    assert counts == [3, 2]


def test_nonzero_integers_are_foreground():
    mask = np.array([[[-3, 0, 7], [0, 0, 255]]])
    assert image.connected_components(mask).labels.tolist() == [[[1, 0, 2], [0, 0, 2]]]


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([4, 8]), st.sampled_from([(1, 5), (6, 7)]))
def test_similar_components_are_the_transitive_closure(seed, connectivity, size):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 5, (1, *size, 2)).astype(np.uint8)
    found = image.similar_components(pixels, tolerance=1, connectivity=connectivity)
    flat, places = pixels.reshape(-1, 2).astype(int), np.argwhere(np.ones(size))
    apart = np.abs(places[:, None] - places)
    near = apart.sum(-1) <= 1 if connectivity == 4 else apart.max(-1) <= 1
    joined = near & (np.abs(flat[:, None] - flat).max(-1) <= 1)
    for _ in range(len(flat)):
        joined = joined @ joined
    expected = np.unique(joined.argmax(1), return_inverse=True)[1] + 1
    np.testing.assert_array_equal(found.labels.ravel(), expected)
    assert found.count.item() == expected.max()


def test_similar_components_of_a_mask_include_its_background():
    mask = noise(3, 12, 15)
    found = image.similar_components(mask[..., None].astype(np.float32), tolerance=0.5)
    inside, _ = scipy_labels(mask, 8)
    outside, _ = scipy_labels(~mask, 8)
    for row in range(3):
        both = np.stack([found.labels[row], (inside - outside)[row]]).reshape(2, -1)
        pairs = np.unique(both, axis=1).T
        assert len(pairs) == found.count[row] == inside[row].max() + outside[row].max()


@pytest.mark.slow
def test_one_compilation_under_jit_and_vmap():
    mask = jnp.asarray(noise(6, 10, 11))

    traces = []

    @jax.jit
    def similar(images, tolerance):
        traces.append(tolerance)
        return image.similar_components(images, tolerance=tolerance)

    images = jnp.asarray(mask[..., None], jnp.float32)
    assert similar(images, 0.5).count.sum() > similar(images, 1.0).count.sum() == 6
    assert len(traces) == 1
    whole = jax.jit(image.connected_components)(mask)
    alone = jax.vmap(lambda one: image.connected_components(one[None]))(mask)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[:, 0], alone), whole)
    empty = image.connected_components(mask[:0])
    chex.assert_shape([empty.labels, empty.count], [(0, 10, 11), (0,)])


MASK = np.zeros((1, 3, 3), bool)
BAD = {
    "connectivity must be 4 or 8, got 6": (
        lambda: image.connected_components(MASK, connectivity=6)
    ),
    "connectivity must be 4 or 8, got 1": (
        lambda: image.similar_components(MASK[..., None], tolerance=1, connectivity=1)
    ),
    "mask must be [B, H, W] with no empty images, got shape (3, 3)": (
        lambda: image.connected_components(MASK[0])
    ),
    "mask must be [B, H, W] with no empty images, got shape (1, 0, 3)": (
        lambda: image.connected_components(MASK[:, :0])
    ),
    "mask must be boolean or integer, got float32": (
        lambda: image.connected_components(MASK.astype(np.float32))
    ),
    "tolerance must be finite and >= 0, got -1": (
        lambda: image.similar_components(np.zeros((1, 2, 2, 1), np.float32), tolerance=-1)
    ),
    "tolerance must be finite and >= 0, got nan": (
        lambda: image.similar_components(np.zeros((1, 2, 2, 1), np.uint8), tolerance=float("nan"))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)

"""Mixup and cutmix: labels match the pixels; weights follow their distribution; bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcnn import image

ROWS = 400


def numbered(rows=ROWS, height=9, width=8):
    """Return images that each have a unique solid color, and the colors as labels."""
    labels = jnp.eye(rows)
    return jnp.broadcast_to(labels[:, None, None], (rows, height, width, rows)), labels


@pytest.mark.slow
@pytest.mark.parametrize("mix", [image.mixup, image.cutmix])
def test_labels_equal_the_shares_of_the_pixels(mix, key):
    images, labels = numbered(40)
    mixed, targets = jax.jit(mix)(key, images, labels)
    np.testing.assert_allclose(mixed.mean((1, 2)), targets, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(40))
    np.testing.assert_allclose(mix(keys, images, labels)[0], mixed, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_weights_follow_a_folded_beta_distribution(alpha, key):
    _, targets = image.mixup(key, jnp.zeros((ROWS, 1, 1, 1)), jnp.eye(ROWS), alpha=alpha)
    own = np.asarray(targets).diagonal()
    partnered = own < 1 - 1e-6  # excludes rows that are their own partner or have weight 1
    expected = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    expected = np.maximum(expected, 1 - expected)
    expected = expected[expected < 1 - 1e-6]
    assert own.min() >= 0.5
    assert scipy.stats.ks_2samp(own[partnered], expected).pvalue > 1e-3


def test_each_row_is_a_partner_once(key):
    _, targets = image.mixup(key, jnp.zeros((ROWS, 1, 1, 1)), jnp.eye(ROWS), alpha=1e3)
    others = np.asarray(targets) - np.diag(np.asarray(targets).diagonal())
    assert (np.count_nonzero(others, 0) <= 1).all() and (np.count_nonzero(others, 1) <= 1).all()


@pytest.mark.slow
def test_cutmix_pastes_one_rectangle(key):
    images, labels = numbered(60)
    mixed, targets = jax.tree.map(np.asarray, image.cutmix(key, images, labels))
    sizes = []
    for row in range(60):
        foreign = mixed[row, ..., row] == 0
        rows, columns = foreign.any(1), foreign.any(0)
        assert foreign.sum() == rows.sum() * columns.sum()
        np.testing.assert_allclose(1 - foreign.mean(), targets[row, row], atol=1e-6)
        sizes.append(foreign.mean())
    assert min(sizes) < 0.1 and max(sizes) > 0.5


IMAGES, LABELS = np.zeros((2, 4, 4, 1), np.float32), np.eye(2, dtype=np.float32)
BAD = {
    "labels must be [2, K], got shape (2,)": lambda k: image.mixup(k, IMAGES, LABELS[0]),
    "labels must be [2, K], got shape (1, 2)": lambda k: image.cutmix(k, IMAGES, LABELS[:1]),
    "labels must be floating point, got int32": (
        lambda k: image.mixup(k, IMAGES, LABELS.astype(np.int32))
    ),
    "images must be floating point, got uint8": (
        lambda k: image.mixup(k, IMAGES.astype(np.uint8), LABELS)
    ),
    "alpha must be > 0, got 0": lambda k: image.cutmix(k, IMAGES, LABELS, alpha=0),
    "images must be [B, H, W, C] with no empty images, got (4, 4, 1)": (
        lambda k: image.mixup(k, IMAGES[0], LABELS)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, key):
    with pytest.raises(ValueError) as error:
        BAD[message](key)
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_traced_alpha_compiles_once(key):
    function = jax.jit(lambda alpha: image.cutmix(key, IMAGES, LABELS, alpha=alpha)[1])
    targets = [function(alpha) for alpha in (0.1, 5.0)]
    assert function._cache_size() == 1
    assert not np.array_equal(*targets)

"""Channel statistics and ZCA whitening against NumPy; bad input."""

import numpy as np
import pytest

from jaxcnn import image


def make_images(count, dtype):
    """Return images whose neighboring values are correlated."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(count, 4, 3, 2)), 1)
    values = (values - values.min()) / (values.max() - values.min())
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channel_statistics_equal_numpy(dtype):
    images = make_images(50, dtype)
    mean, std = image.channel_statistics(images)
    values = images / 255 if dtype == np.uint8 else images.astype(np.float64)
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)))
    np.testing.assert_allclose(std, values.std((0, 1, 2)))
    normal = image.normalize(image.to_float(images), mean, std)
    np.testing.assert_allclose(np.mean(normal, (0, 1, 2)), 0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_whitening_decorrelates_without_rotation(dtype):
    images = make_images(500, dtype)
    whitening = image.fit_whitening(images, epsilon=1e-9)
    white = np.asarray(image.whiten(images, whitening))
    assert white.shape == images.shape
    covariance = np.cov(white.reshape(500, -1).T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(24), atol=2e-3)
    np.testing.assert_allclose(whitening.matrix, whitening.matrix.T, atol=1e-4)
    assert np.linalg.eigvalsh(whitening.matrix).min() > 0  # no direction is flipped


def test_directions_without_variance_stay_small():
    images = np.repeat(make_images(20, np.float32)[..., :1], 2, -1)
    white = np.asarray(image.whiten(images, image.fit_whitening(images, epsilon=1e-3)))
    assert np.isfinite(white).all() and np.abs(white).max() < 10


BAD = {
    "epsilon must be > 0, got 0": lambda: image.fit_whitening(
        make_images(2, np.float32), epsilon=0
    ),
    "images must be [N, H, W, C] and not empty, got shape (0, 4, 3, 2)": (
        lambda: image.channel_statistics(make_images(2, np.float32)[:0])
    ),
    "images must be uint8 or floating point, got int64": (
        lambda: image.channel_statistics(np.ones((1, 2, 2, 1), np.int64))
    ),
    "images must be [B, 4, 3, 2], got shape (2, 3, 3, 2)": (
        lambda: image.whiten(
            np.ones((2, 3, 3, 2), np.float32), image.fit_whitening(make_images(9, np.float32))
        )
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)

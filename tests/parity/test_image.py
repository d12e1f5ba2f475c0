"""`image` against OpenCV, scikit-image, Pillow and torch, on noise and photographs of many sizes.

The table below lists the reference and the tolerance for each function. Deliberate differences are
listed in experiments/guides/image_references.md.
"""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import scipy.ndimage

from jaxcnn import image

pytestmark = pytest.mark.parity

SIZES = ((1, 1), (1, 7), (6, 1), (5, 4), (33, 48), (121, 160))
CHANNELS = (1, 3, 4)  # used in turn by the images
BORDERS = {
    "reflect101": "BORDER_REFLECT_101",
    "reflect": "BORDER_REFLECT",
    "replicate": "BORDER_REPLICATE",
    "constant": "BORDER_CONSTANT",
}
KERNEL = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
BYTE = 1.01  # one level: some libraries round halves up, others to even
EXACT = 0.0


def cv2():
    return importlib.import_module("cv2")


def skimage(module):
    return importlib.import_module(f"skimage.{module}")


def torch():
    return importlib.import_module("torch")


def photograph(name, height, width, channels):
    """Return a crop of a photograph; the fourth channel comes from a different photograph."""
    data = skimage("data")
    pixels = np.asarray(getattr(data, name)())[50 : 50 + height, 60 : 60 + width]
    pixels = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2)
    fourth = data.camera()[100 : 100 + height, 100 : 100 + width, None]
    return np.concatenate([pixels, fourth], 2)[..., :channels]


def make_images(dtype, channels=CHANNELS):
    """Yield noise of every size, then photographs, as ``[H, W, C]``; floats are in [0, 1]."""
    rng = np.random.default_rng(0)
    several = [
        rng.integers(0, 256, (*size, number), np.uint8)
        for size, number in zip(SIZES, itertools.cycle(channels), strict=False)
    ]
    for name, number in zip(
        ("astronaut", "coffee", "chelsea"), itertools.cycle(channels), strict=False
    ):
        several.append(photograph(name, 150, 131, number))
    for pixels in several:
        yield pixels if dtype == np.uint8 else (pixels / 255).astype(np.float32)


def as_image(array, like):
    """Restore the channel axis that OpenCV drops."""
    return np.asarray(array).reshape(*np.shape(array)[:2], like.shape[-1])


def by_cv2(function):
    """Wrap a function of (module, pixels) as a reference for ``[H, W, C]`` images."""
    return lambda x: as_image(function(cv2(), np.ascontiguousarray(x)), x)


def morphology(kind, window):
    def apply(module, x):
        return module.morphologyEx(x, getattr(module, f"MORPH_{kind}"), np.uint8(window))

    return by_cv2(apply)


ONES = np.ones((3, 5))
# Name: (ours, theirs, tolerance for bytes, tolerance for floats); None skips the dtype.
SAME_SIZE = {
    **{
        f"filter2d, {ours}": (
            lambda x, ours=ours: image.filter2d(x, KERNEL, border=ours),
            by_cv2(lambda m, x, b=theirs: m.filter2D(x, -1, KERNEL, borderType=getattr(m, b))),
            BYTE,
            1e-5,
        )
        for ours, theirs in BORDERS.items()
    },
    "box_blur": (
        lambda x: image.box_blur(x, (3, 5)),
        by_cv2(lambda m, x: m.blur(x, (5, 3))),
        BYTE,
        1e-6,
    ),
    "gaussian_blur": (
        lambda x: image.gaussian_blur(x, 1.3, window=7),
        by_cv2(lambda m, x: m.GaussianBlur(x, (7, 7), 1.3)),
        2 * BYTE,  # for bytes, OpenCV's weights are multiples of 1/256
        1e-6,
    ),
    "median_blur 3": (
        lambda x: image.median_blur(x, 3),
        by_cv2(lambda m, x: m.medianBlur(x, 3)),
        EXACT,
        EXACT,
    ),
    "median_blur 5": (
        lambda x: image.median_blur(x, 5),
        by_cv2(lambda m, x: m.medianBlur(x, 5)),
        EXACT,
        EXACT,
    ),
    "median_blur 9": (
        lambda x: image.median_blur(x, 9),
        by_cv2(lambda m, x: m.medianBlur(x, 9)),
        EXACT,
        None,
    ),
    "sharpen": (
        image.sharpen,
        by_cv2(lambda m, x: m.filter2D(x, -1, SHARPEN)),
        EXACT,
        1e-5,
    ),
    "unsharp_mask": (
        lambda x: image.unsharp_mask(x, 1.5, amount=0.8, border="reflect"),
        # Plane by plane, since scikit-image fails on images with one column.
        lambda x: np.stack(
            [
                skimage("filters").unsharp_mask(
                    x[..., c].astype(float), 1.5, 0.8, preserve_range=True
                )
                for c in range(x.shape[-1])
            ],
            -1,
        ),
        None,
        1e-5,
    ),
    **{
        f"{name}, {axis}": (
            lambda x, f=function, i=i: f(x)[i],
            by_cv2(lambda m, x, g=theirs, i=i: g(m, x, 1 - (i == 0), 1 - (i == 1))),
            EXACT,
            2e-5,
        )
        for name, function, theirs in (
            ("sobel", image.sobel, lambda m, x, dx, dy: m.Sobel(x, m.CV_32F, dx, dy)),
            (
                "sobel 5",
                lambda x: image.sobel(x, window=5),
                lambda m, x, dx, dy: m.Sobel(x, m.CV_32F, dx, dy, ksize=5),
            ),
            ("scharr", image.scharr, lambda m, x, dx, dy: m.Scharr(x, m.CV_32F, dx, dy)),
        )
        for i, axis in enumerate(("down", "right"))
    },
    "laplacian": (
        image.laplacian,
        by_cv2(lambda m, x: m.Laplacian(x, m.CV_32F)),
        EXACT,
        1e-5,
    ),
    "erode": (lambda x: image.erode(x, (3, 5)), morphology("ERODE", ONES), EXACT, EXACT),
    "dilate": (lambda x: image.dilate(x, (3, 5)), morphology("DILATE", ONES), EXACT, EXACT),
    "dilate, cross": (lambda x: image.dilate(x, CROSS), morphology("DILATE", CROSS), EXACT, EXACT),
    "opening": (lambda x: image.opening(x, (3, 5)), morphology("OPEN", ONES), EXACT, EXACT),
    "closing": (lambda x: image.closing(x, (3, 5)), morphology("CLOSE", ONES), EXACT, EXACT),
    "morphological_gradient": (
        lambda x: image.morphological_gradient(x, (3, 5)),
        morphology("GRADIENT", ONES),
        EXACT,
        EXACT,
    ),
    "flip_left_right": (image.flip_left_right, by_cv2(lambda m, x: m.flip(x, 1)), EXACT, EXACT),
    "flip_up_down": (image.flip_up_down, by_cv2(lambda m, x: m.flip(x, 0)), EXACT, EXACT),
    "rot90": (
        image.rot90,
        by_cv2(lambda m, x: m.rotate(x, m.ROTATE_90_COUNTERCLOCKWISE)),
        EXACT,
        EXACT,
    ),
    "min_max_scale": (
        image.min_max_scale,
        by_cv2(lambda m, x: m.normalize(x, None, 0, 1, m.NORM_MINMAX) if np.ptp(x) else x * 0),
        None,
        1e-6,
    ),
    "threshold": (
        lambda x: image.threshold(x, x.dtype.type(0.4 if x.dtype == np.float32 else 99)),
        by_cv2(lambda m, x: m.threshold(x, 0.4 if x.dtype == np.float32 else 99, 1, 0)[1] > 0),
        EXACT,
        EXACT,
    ),
    "adjust_gamma": (
        lambda x: image.adjust_gamma(x, 1.7),
        lambda x: skimage("exposure").adjust_gamma(x, 1.7),
        None,
        1e-6,
    ),
    **{
        f"pad, {ours}": (
            lambda x, ours=ours: image.pad(x, ((2, 3), (9, 1)), border=ours, value=x.dtype.type(1)),
            by_cv2(
                lambda m, x, b=theirs: m.copyMakeBorder(x, 2, 3, 9, 1, getattr(m, b), value=[1] * 4)
            ),
            EXACT,
            EXACT,
        )
        for ours, theirs in (BORDERS | {"wrap": "BORDER_WRAP"}).items()
    },
}


def compare(found, expected, tolerance, what):
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max()
    # For floats, the tolerance is relative to the largest value, which is up to 8 for Sobel.
    largest = max(1.0, np.abs(expected).max()) if tolerance < BYTE else 1.0
    assert difference <= tolerance * largest, (what, difference)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", SAME_SIZE)
def test_equals_the_reference(name, dtype):
    ours, theirs, for_bytes, for_floats = SAME_SIZE[name]
    tolerance = for_bytes if dtype == np.uint8 else for_floats
    if tolerance is None:
        return
    ours = jax.jit(ours)
    for x in make_images(dtype):
        compare(ours(jnp.asarray(x)[None])[0], theirs(x), tolerance, (name, x.shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gray(dtype):
    for x in make_images(dtype, (3,)):
        tolerance = BYTE if dtype == np.uint8 else 1e-6
        expected = as_image(cv2().cvtColor(x, cv2().COLOR_RGB2GRAY), x[..., :1])
        compare(image.to_grayscale(x[None])[0], expected, tolerance, x.shape)
        if dtype == np.float32:
            # scikit-image's weights for the same standard (Rec. 709) differ in the fourth digit.
            expected = skimage("color").rgb2gray(x)[..., None]
            compare(image.to_grayscale(x[None], weights="rec709")[0], expected, 3e-4, x.shape)


@pytest.mark.parametrize("size", [(7, 9), (60, 50), (200, 33), (150, 131)])
@pytest.mark.parametrize(
    ("method", "theirs"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC"), ("lanczos", "LANCZOS")]
)
def test_resize_equals_pillow(method, theirs, size):
    """Compare floats, and bytes for bilinear only: between passes Pillow rounds and clips bytes."""
    filter_ = getattr(PIL.Image.Resampling, theirs)
    for x in make_images(np.uint8, (1, 3)):
        found = image.resize(jnp.asarray(x, jnp.float32)[None], size, method=method)[0]
        for channel in range(x.shape[-1]):
            plane = PIL.Image.fromarray(x[..., channel].astype(np.float32))
            expected = np.asarray(plane.resize(size[::-1], filter_))
            compare(found[..., channel], expected, 2e-5, x.shape)
        if method != "bilinear":
            continue
        whole = PIL.Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
        expected = as_image(whole.resize(size[::-1], filter_), x)
        compare(image.resize(x[None], size, method=method)[0], expected, 2 * BYTE, x.shape)


@pytest.mark.parametrize("size", [(7, 9), (60, 50), (200, 33)])
@pytest.mark.parametrize(
    ("method", "mode", "antialias", "tolerance"),
    [
        ("nearest", "nearest-exact", False, EXACT),
        ("bilinear", "bilinear", False, 1e-5),
        ("bilinear", "bilinear", True, 1e-5),
        ("bicubic", "bicubic", True, 1e-5),
    ],
)
def test_resize_equals_torch(method, mode, antialias, tolerance, size):
    for x in make_images(np.float32):
        planes = torch().from_numpy(np.moveaxis(x, -1, 0)[None].copy())
        corners = {} if method == "nearest" else {"align_corners": False}
        interpolate = torch().nn.functional.interpolate
        expected = interpolate(planes, size, mode=mode, antialias=antialias, **corners)[0]
        found = image.resize(x[None], size, method=method, antialias=antialias)[0]
        compare(found, np.moveaxis(expected.numpy(), 0, -1), tolerance, x.shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(7, 9), (60, 50), (75, 33)])
def test_area_equals_opencv_for_smaller_sizes(size, dtype):
    for x in make_images(dtype):
        if x.shape[0] < size[0] or x.shape[1] < size[1]:
            continue  # OpenCV interpolates when it enlarges
        expected = as_image(cv2().resize(x, size[::-1], interpolation=cv2().INTER_AREA), x)
        found = image.resize(x[None], size, method="area")[0]
        compare(found, expected, BYTE if dtype == np.uint8 else 1e-6, x.shape)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    ("border", "mode"),
    [
        ("constant", "constant"),
        ("replicate", "edge"),
        ("reflect", "symmetric"),
        ("reflect101", "reflect"),
        ("wrap", "wrap"),
    ],
)
def test_warp_equals_scikit_image(border, mode, order):
    """Compare with matrices that map a (column, row) in the result to one in the image."""
    transform = skimage("transform")
    moves = {"angles": 33.0, "shears": 12.0, "scales": 0.8, "shifts": jnp.array([[3.0, -5.0]])}
    matrix = np.asarray(image.affine_matrix(**moves), np.float64)[0]
    for x in make_images(np.float32):
        if min(x.shape[:2]) == 1:
            continue  # scikit-image divides by the size - 1
        height, width = x.shape[:2]
        corner = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
        inverse = corner @ np.linalg.inv(matrix) @ np.linalg.inv(corner)
        expected = transform.warp(x.astype(np.float64), inverse, order=order, mode=mode, cval=0.2)
        found = image.affine(
            x[None],
            **moves,
            interpolation="bilinear" if order else "nearest",
            border=border,
            value=0.2,
        )[0]
        alike = np.abs(np.asarray(found) - expected) < 1e-4
        assert alike.mean() > 0.999, (x.shape, alike.mean())  # nearest: ties may differ


def test_warp_equals_opencv():
    """Compare up to OpenCV's rounding of positions to 1/32 of a pixel."""
    for x in make_images(np.uint8):
        height, width = x.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2().getRotationMatrix2D(middle, 25.0, 1.3)
        expected = as_image(cv2().warpAffine(x, matrix, (width, height)), x)
        found = image.affine(x[None], angles=25.0, scales=1.3)[0]
        difference = np.abs(np.asarray(found, float) - expected)
        assert difference.max() <= 255 / 16 + 1 and difference.mean() < 2, x.shape


def test_otsu():
    for x in make_images(np.uint8, (1,)):
        expected, _ = cv2().threshold(x, 0, 255, cv2().THRESH_OTSU)
        found = image.otsu(x[None])
        assert found.item() == expected or np.array_equal(x > found.item(), x > expected), x.shape
    for x in make_images(np.float32, (1,)):
        if np.ptp(x):
            expected = skimage("filters").threshold_otsu(x)
            # scikit-image returns the center of a bin, jaxcnn its upper edge.
            assert abs(image.otsu(x[None]).item() - expected) <= np.ptp(x) / 256, x.shape


def masks():
    rng = np.random.default_rng(1)
    for size in (*SIZES, (64, 64)):
        for density in (0.2, 0.5, 0.7):
            smooth = scipy.ndimage.gaussian_filter(rng.random(size), 1.0)
            yield rng.random(size) < density
            yield smooth < np.quantile(smooth, density)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_components(connectivity):
    """Compare labels: scikit-image's are in raster order, like ours; OpenCV's order differs."""
    measure = skimage("measure")
    for mask in masks():
        found = image.connected_components(mask[None], connectivity=connectivity)
        expected = measure.label(mask, connectivity=connectivity // 4)
        np.testing.assert_array_equal(found.labels[0], expected)
        count, other = cv2().connectedComponents(np.uint8(mask), connectivity=connectivity)
        assert count - 1 == found.count[0]
        assert len(np.unique(other * 10_000 + expected)) == len(np.unique(expected))


def test_regions():
    measure, rng = skimage("measure"), np.random.default_rng(2)
    for mask in masks():
        intensity = rng.random((*mask.shape, 3)).astype(np.float32)
        labels = measure.label(mask, connectivity=2)
        found = image.region_properties(
            image.connected_components(mask[None]), intensity[None], max_count=2500
        )
        expected = measure.regionprops(labels, intensity)
        assert found.mask.sum() == len(expected)
        for number, region in enumerate(expected):
            assert found.area[0, number] == region.area
            assert tuple(found.box[0, number].tolist()) == region.bbox
            for name, value, tolerance in (
                ("centroid", region.centroid, 1e-4),
                ("mean_intensity", region.intensity_mean, 1e-5),
                ("eccentricity", region.eccentricity, 1e-3),
                ("perimeter", region.perimeter, 1e-3),
            ):
                own = getattr(found, name)[0, number]
                np.testing.assert_allclose(own, value, atol=tolerance, rtol=1e-4, err_msg=name)


def test_similar_components():
    """Check that with tolerance 0, components are scikit-image's regions of equal values."""
    rng = np.random.default_rng(3)
    for size in SIZES:
        pixels = rng.integers(0, 3, size).astype(np.uint8)
        for connectivity in (4, 8):
            found = image.similar_components(
                pixels[None, ..., None], tolerance=0, connectivity=connectivity
            )
            expected = skimage("measure").label(
                pixels + 1, connectivity=connectivity // 4, background=0
            )
            np.testing.assert_array_equal(found.labels[0], expected)


def test_posterize_solarize_equalize_and_autocontrast_equal_pillow():
    """Compare byte images, which are scaled to [0, 1] and back for jaxcnn."""
    for x in make_images(np.uint8, (3,)):
        whole, scaled = PIL.Image.fromarray(x), jnp.asarray(x / 255, jnp.float32)[None]
        for name, found, expected in (
            ("posterize", image.posterize(scaled, 3), PIL.ImageOps.posterize(whole, 3)),
            ("solarize", image.solarize(scaled, 99.5 / 255), PIL.ImageOps.solarize(whole, 100)),
            ("equalize", image.equalize(scaled), PIL.ImageOps.equalize(whole)),
        ):
            levels = np.round(np.asarray(found[0]) * 255)
            np.testing.assert_array_equal(levels, np.asarray(expected), err_msg=name)
        stretched = np.asarray(image.autocontrast(scaled)[0]) * 255
        compare(stretched, np.asarray(PIL.ImageOps.autocontrast(whole)), 1.01, x.shape)

"""`ops` against torch and Keras 3: outputs and gradients."""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import ops

pytestmark = pytest.mark.parity


# Import here, not at the top: collecting this file must work without either library, but a selected
# test must fail if its library is missing.
@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    assert keras.backend.backend() == "torch"
    return keras


def integers(*shapes, seed=0):
    """Return arrays of small integers, so that sums of products are exact in every library."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes]


def numpy_of(tensor):
    """Convert a Keras (torch) tensor; `keras.ops.convert_to_numpy` warns under NumPy 2."""
    return tensor.detach().numpy()


def to_torch(array):
    """Convert `[B, *spatial, C]` images to `[B, C, *spatial]`."""
    return np.moveaxis(array, -1, 1)


def from_torch(array):
    """Convert `[B, C, *spatial]` images to `[B, *spatial, C]`."""
    return np.moveaxis(array, 1, -1)


def kernel_to_torch(kernel):
    """Convert `[*spatial, in / groups, out]` to `[out, in / groups, *spatial]`."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def kernel_from_torch(kernel):
    """Convert `[out, in / groups, *spatial]` to `[*spatial, in / groups, out]`."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def transposed_to_torch(kernel, groups):
    """Convert `[*spatial, in / groups, out]` to `[in, out / groups, *spatial]`."""
    *spatial, channels, _ = kernel.shape
    kernel = kernel.reshape(*spatial, channels, groups, -1)
    kernel = np.moveaxis(kernel, (-2, -3, -1), (0, 1, 2))
    return kernel.reshape(groups * channels, -1, *spatial)


def transposed_from_torch(kernel, groups):
    """Convert `[in, out / groups, *spatial]` to `[*spatial, in / groups, out]`."""
    channels, features, *spatial = kernel.shape
    kernel = kernel.reshape(groups, channels // groups, features, *spatial)
    kernel = np.moveaxis(kernel, (0, 1, 2), (-2, -3, -1))
    return kernel.reshape(*spatial, channels // groups, groups * features)


def with_gradients(torch, function, arrays):
    """Compute a torch function and the gradients of its sum of squares, as NumPy arrays."""
    tensors = [torch.tensor(np.ascontiguousarray(array), requires_grad=True) for array in arrays]
    output = function(*tensors)
    (output * output).sum().backward()
    return output.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]


def with_jax_gradients(function, arrays):
    """Compute a JAX function and the gradients of its sum of squares."""
    output, pullback = jax.vjp(jax.jit(function), *arrays)
    return output, list(pullback(2 * output))


CONVOLUTIONS = [
    ((2, 9, 3), (3, 3, 4), {}),
    ((2, 9, 4), (4, 2, 6), {"strides": 2, "padding": 1, "dilation": 2, "groups": 2}),
    ((2, 8, 7, 3), (3, 3, 3, 4), {"padding": 1}),
    ((2, 8, 7, 4), (3, 2, 2, 6), {"strides": (2, 1), "padding": ((1, 1), (0, 0)), "groups": 2}),
    ((2, 7, 7, 2), (1, 1, 2, 4), {"strides": 2, "padding": 0}),
    ((1, 8, 7, 3), (3, 3, 1, 6), {"strides": 2, "padding": 1, "groups": 3}),
    ((1, 5, 6, 4, 2), (3, 2, 2, 2, 3), {"strides": (1, 2, 1), "padding": 1}),
]


def torch_options(options, rank):
    """Return the same keyword arguments under torch's names."""
    padding = options.get("padding", 0)
    if not isinstance(padding, int):
        padding = tuple(low for low, high in padding if low == high)
    return {
        "stride": options.get("strides", 1),
        "padding": padding,
        "dilation": options.get("dilation", 1),
        "groups": options.get("groups", 1),
    }


@pytest.mark.parametrize(("images", "kernel", "options"), CONVOLUTIONS)
def test_conv_matches_torch(torch, images, kernel, options):
    arrays = images, kernel, bias = integers(images, kernel, kernel[-1:])
    rank = images.ndim - 2
    conv = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[rank]
    expected, gradients = with_gradients(
        torch,
        lambda *tensors: conv(*tensors, **torch_options(options, rank)),
        (to_torch(images), kernel_to_torch(kernel), bias),
    )
    options = {"padding": 0, **options}
    output, ours = with_jax_gradients(lambda *arrays: ops.conv(*arrays, **options), arrays)
    np.testing.assert_array_equal(output, from_torch(expected))
    np.testing.assert_array_equal(ours[0], from_torch(gradients[0]))
    np.testing.assert_array_equal(ours[1], kernel_from_torch(gradients[1]))
    np.testing.assert_array_equal(ours[2], gradients[2])
    if options.get("groups") == images.shape[-1]:
        del options["groups"]
        chex.assert_trees_all_equal(ops.depthwise_conv(*arrays, **options), output)


@pytest.mark.parametrize(("images", "kernel", "options"), CONVOLUTIONS)
def test_conv_transpose_matches_torch(torch, images, kernel, options):
    arrays = images, kernel, bias = integers(images, kernel, kernel[-1:])
    rank, groups = images.ndim - 2, options.get("groups", 1)
    names = {1: "conv_transpose1d", 2: "conv_transpose2d", 3: "conv_transpose3d"}
    conv_transpose = getattr(torch, names[rank])
    expected, gradients = with_gradients(
        torch,
        lambda *tensors: conv_transpose(*tensors, **torch_options(options, rank)),
        (to_torch(images), transposed_to_torch(kernel, groups), bias),
    )
    options = {"padding": 0, **options}
    output, ours = with_jax_gradients(
        lambda *arrays: ops.conv_transpose(*arrays, **options), arrays
    )
    np.testing.assert_array_equal(output, from_torch(expected))
    np.testing.assert_array_equal(ours[0], from_torch(gradients[0]))
    np.testing.assert_array_equal(ours[1], transposed_from_torch(gradients[1], groups))
    np.testing.assert_array_equal(ours[2], gradients[2])


def test_conv_in_bfloat16_is_close_to_torch(torch):
    images, kernel = (array / 8 + 1 for array in integers((2, 8, 7, 3), (3, 3, 3, 4)))
    expected = torch.conv2d(
        *(
            torch.tensor(array.copy()).bfloat16()
            for array in (to_torch(images), kernel_to_torch(kernel))
        )
    )
    output = ops.conv(*(jnp.asarray(array, jnp.bfloat16) for array in (images, kernel)), padding=0)
    # Each library rounds its float32 sum to 8 bits of mantissa: results differ by at most 1 ulp.
    np.testing.assert_allclose(
        np.asarray(output, np.float32), from_torch(expected.float().numpy()), rtol=2**-7
    )


POOLS = [
    ((2, 9, 3), 3, {"strides": 2, "padding": 1}),
    ((2, 8, 6, 3), 2, {}),
    ((2, 8, 7, 3), 3, {"strides": 2, "padding": 1}),
    ((2, 8, 7, 3), (3, 2), {"strides": (1, 3)}),
    ((1, 5, 6, 4, 2), 2, {"strides": 3, "padding": 1}),
]


@pytest.mark.parametrize(("images", "window", "options"), POOLS)
def test_max_pool_matches_torch_ties_included(torch, images, window, options):
    (images,) = integers(images)
    rank = images.ndim - 2
    pool = getattr(torch.nn.functional, f"max_pool{rank}d")
    expected, gradients = with_gradients(
        torch,
        lambda images: pool(images, window, options.get("strides"), options.get("padding", 0)),
        [to_torch(images)],
    )
    options = {"padding": 0, **options}
    for implementation in ("auto", "xla"):
        output, ours = with_jax_gradients(
            lambda images, implementation=implementation: ops.max_pool(
                images, window, implementation=implementation, **options
            ),
            [images],
        )
        np.testing.assert_array_equal(output, from_torch(expected))
        np.testing.assert_array_equal(ours[0], from_torch(gradients[0]))


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("images", "window", "options"), POOLS)
def test_avg_pool_matches_torch(torch, images, window, options, count_include_pad):
    (images,) = integers(images)
    rank = images.ndim - 2
    pool = getattr(torch.nn.functional, f"avg_pool{rank}d")
    strides, padding = options.get("strides"), options.get("padding", 0)
    expected, gradients = with_gradients(
        torch,
        lambda images: pool(images, window, strides, padding, count_include_pad=count_include_pad),
        [to_torch(images)],
    )
    output, ours = with_jax_gradients(
        lambda images: ops.avg_pool(
            images, window, strides=strides, padding=padding, count_include_pad=count_include_pad
        ),
        [images],
    )
    # Integer sums up to 24 are divided and, in the backward pass, up to 9 of these are added: a few
    # rounding errors of 2^-24.
    np.testing.assert_allclose(output, from_torch(expected), rtol=2**-22)
    np.testing.assert_allclose(ours[0], from_torch(gradients[0]), rtol=2**-22, atol=2e-6)
    if count_include_pad and rank > 1:
        expected = pool(
            torch.tensor(to_torch(images).copy()), window, strides, padding, divisor_override=1
        )
        total = ops.sum_pool(images, window, strides=strides, padding=padding)
        np.testing.assert_array_equal(total, from_torch(expected.numpy()))


def test_global_pools_and_dense_match_torch(torch):
    images, kernel, bias = integers((2, 5, 4, 3), (3, 6), (6,))
    tensor = torch.tensor(to_torch(images).copy())
    expected = torch.nn.functional.adaptive_max_pool2d(tensor, 1)[..., 0, 0]
    np.testing.assert_array_equal(ops.global_max_pool(images), expected.numpy())
    expected = torch.nn.functional.adaptive_avg_pool2d(tensor, 1)[..., 0, 0]
    # Each library rounds once.
    np.testing.assert_allclose(ops.global_avg_pool(images), expected.numpy(), rtol=2**-22)
    for size in ((2, 3), (5, 4), (7, 1)):
        expected = from_torch(torch.nn.functional.adaptive_avg_pool2d(tensor, size).numpy())
        np.testing.assert_allclose(ops.adaptive_avg_pool(images, size), expected, atol=1e-6)
    expected = torch.nn.functional.linear(
        torch.tensor(images), torch.tensor(kernel.T.copy()), torch.tensor(bias)
    )
    np.testing.assert_array_equal(ops.dense(images, kernel, bias), expected.numpy())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(8, 3), (4, 7, 3), (4, 5, 6, 3), (2, 3, 4, 5, 3)])
def test_batch_norm_matches_torch(torch, shape, train):
    rng = np.random.default_rng(0)
    x, scale, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in (shape, (3,), (3,))
    )
    mean, var = np.float32([0.5, -0.5, 0.0]), np.float32([0.5, 1.0, 2.0])
    running = torch.tensor(mean), torch.tensor(var)
    expected, gradients = with_gradients(
        torch,
        lambda x, scale, bias: torch.nn.functional.batch_norm(
            x, *running, scale, bias, training=train, momentum=0.1, eps=1e-5
        ),
        (to_torch(x), scale, bias),
    )
    output, ours = with_jax_gradients(
        lambda x, scale, bias: ops.batch_norm(x, scale, bias, mean, var, train=train)[0],
        (x, scale, bias),
    )
    # The libraries sum at most 120 squares in different orders; the numbers are of order 1, or of
    # order 10 in the backward pass.
    np.testing.assert_allclose(output, from_torch(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[0], from_torch(gradients[0]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[1], gradients[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[2], gradients[2], rtol=1e-5, atol=1e-5)
    _, (new_mean, new_var) = ops.batch_norm(x, scale, bias, mean, var, train=train)
    if train:  # torch updates the running variance with the unbiased estimate
        count = x.size // 3
        new_var = 0.9 * var + (new_var - 0.9 * var) * count / (count - 1)
    np.testing.assert_allclose(new_mean, running[0].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_var, running[1].numpy(), rtol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("images", "kernel", "strides", "dilation"),
    [
        ((2, 9, 3), (3, 3, 4), 2, 1),
        ((2, 9, 3), (4, 3, 4), 1, 2),
        ((2, 8, 7, 3), (3, 3, 3, 4), 1, 1),
        ((2, 8, 7, 3), (3, 2, 3, 4), 2, 1),
        ((2, 8, 7, 3), (5, 4, 3, 4), 3, 1),
        ((1, 5, 6, 4, 2), (3, 2, 2, 2, 3), 2, 1),
    ],
)
def test_conv_matches_keras(keras, images, kernel, strides, dilation, padding):
    images, kernel = integers(images, kernel)
    expected = keras.ops.conv(
        images, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation
    )
    output = ops.conv(images, kernel, strides=strides, dilation=dilation, padding=padding.upper())
    np.testing.assert_array_equal(output, numpy_of(expected))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_conv_matches_keras(keras, multiplier, strides, padding):
    images, kernel = integers((2, 8, 7, 3), (3, 3, 3, multiplier))
    expected = keras.ops.depthwise_conv(
        images, kernel, strides, padding, data_format="channels_last"
    )
    kernel = kernel.reshape(3, 3, 1, 3 * multiplier)
    output = ops.depthwise_conv(images, kernel, strides=strides, padding=padding.upper())
    np.testing.assert_array_equal(output, numpy_of(expected))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("images", "kernel", "strides"),
    [
        ((2, 5, 3), (3, 3, 4), 1),
        ((2, 5, 3), (4, 3, 4), 2),
        ((2, 4, 5, 3), (3, 3, 3, 4), 1),
        ((2, 4, 5, 3), (2, 2, 3, 4), 2),
        ((2, 4, 5, 3), (4, 4, 3, 4), 2),
        ((2, 4, 5, 3), (3, 3, 3, 4), 2),
        ((2, 4, 5, 3), (2, 2, 3, 4), 3),
        ((1, 3, 2, 4, 2), (3, 2, 4, 2, 3), 2),
    ],
)
def test_conv_transpose_matches_keras(keras, images, kernel, strides, padding):
    images, kernel = integers(images, kernel)
    expected = keras.ops.conv_transpose(
        images, np.swapaxes(kernel, -1, -2), strides, padding, data_format="channels_last"
    )
    output = ops.conv_transpose(images, kernel, strides=strides, padding=padding.upper())
    np.testing.assert_array_equal(output, numpy_of(expected))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("images", "window", "strides"),
    [
        ((2, 9, 3), 3, 2),
        ((2, 8, 7, 3), 2, None),
        ((2, 8, 7, 3), 3, 2),
        ((2, 8, 7, 3), (2, 4), (3, 1)),
        ((1, 5, 6, 4, 2), 2, 2),
    ],
)
def test_max_pool_matches_keras(keras, images, window, strides, padding):
    (images,) = integers(images)
    expected = keras.ops.max_pool(images, window, strides, padding, data_format="channels_last")
    output = ops.max_pool(images, window, strides=strides, padding=padding.upper())
    np.testing.assert_array_equal(output, numpy_of(expected))


# SAME padding is symmetric in all of these cases; otherwise Keras on torch, unlike Keras on
# TensorFlow, includes copies of the edge in the average.
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("images", "window", "strides"),
    [
        ((2, 9, 3), 3, 2),
        ((2, 9, 7, 3), 3, 2),
        ((2, 8, 6, 3), (4, 3), (2, 3)),
        ((1, 5, 7, 3, 2), 3, 2),
    ],
)
def test_avg_pool_matches_keras(keras, images, window, strides, padding):
    (images,) = integers(images)
    expected = keras.ops.average_pool(images, window, strides, padding, data_format="channels_last")
    output = ops.avg_pool(images, window, strides=strides, padding=padding.upper())
    # Each library divides once.
    np.testing.assert_allclose(output, numpy_of(expected), rtol=2**-22)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_matches_keras(keras, train):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 6, 3)).astype(np.float32)
    layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    layer.build(x.shape)
    vectors = [rng.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4)]
    layer.set_weights(vectors)
    expected = numpy_of(layer(x, training=train))
    output, running = ops.batch_norm(x, *vectors, train=train)
    # The libraries sum 120 squares of numbers of order 1 in different orders.
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(running, (layer.moving_mean, layer.moving_variance), strict=True):
        np.testing.assert_allclose(ours, numpy_of(theirs.value), rtol=1e-5)


def test_flatten_and_dense_match_keras(keras):
    images, kernel, bias = integers((2, 4, 3, 5), (60, 7), (7,))
    layer = keras.layers.Dense(7)
    layer.build((2, 60))
    layer.set_weights([kernel, bias])
    expected = numpy_of(layer(keras.layers.Flatten()(images)))
    np.testing.assert_array_equal(ops.dense(ops.flatten(images), kernel, bias), expected)

"""Every op and its gradient lower for CUDA and TPU on a machine that has neither."""

import functools

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest

from jaxcnn import ops

PLATFORMS = ["cuda", "tpu"]
IMAGES = {1: (2, 6, 4), 2: (2, 6, 5, 4), 3: (2, 6, 5, 4, 4)}


def batch_norm(train):
    """Return the output and the statistics as one tuple."""

    def function(*vectors):
        y, running = ops.batch_norm(*vectors, train=train)
        return y, *running

    return function


def seeded(op):
    """Return a random op that creates its own key, as a function of floating-point arrays."""
    return lambda x: op(jax.random.key(0), x, 0.5)


CASES = {}
for rank, images in IMAGES.items():
    suffix, window = f"{rank}d", (3,) * rank
    CASES |= {
        f"conv {suffix}": (ops.conv, [images, (*window, 4, 6), (6,)]),
        f"conv strided {suffix}": (
            functools.partial(ops.conv, strides=2, padding=1, dilation=2, groups=2),
            [images, (*window, 2, 6), (6,)],
        ),
        f"depthwise_conv {suffix}": (ops.depthwise_conv, [images, (*window, 1, 8), (8,)]),
        f"conv_transpose {suffix}": (
            functools.partial(ops.conv_transpose, strides=2),
            [images, (*window, 4, 6), (6,)],
        ),
        f"max_pool {suffix}": (functools.partial(ops.max_pool, window=2), [images]),
        f"max_pool overlapping {suffix}": (
            functools.partial(ops.max_pool, window=3, strides=2, padding="SAME"),
            [images],
        ),
        f"conv_relu_max_pool {suffix}": (
            functools.partial(ops.conv_relu_max_pool, pool=2),
            [(*images[:-1], 1), (*window, 1, 16), (16,)],
        ),
        f"conv_relu_max_pool grouped {suffix}": (
            functools.partial(ops.conv_relu_max_pool, pool=2, strides=2, padding=1, groups=2),
            [images, (*window, 2, 6), (6,)],
        ),
        f"avg_pool {suffix}": (
            functools.partial(ops.avg_pool, window=3, strides=2, padding="SAME"),
            [images],
        ),
        f"sum_pool {suffix}": (functools.partial(ops.sum_pool, window=2), [images]),
        f"adaptive_avg_pool {suffix}": (functools.partial(ops.adaptive_avg_pool, size=2), [images]),
        f"global_avg_pool {suffix}": (ops.global_avg_pool, [images]),
        f"global_max_pool {suffix}": (ops.global_max_pool, [images]),
        f"group_norm {suffix}": (functools.partial(ops.group_norm, groups=2), [images, (4,), (4,)]),
        f"spatial_dropout {suffix}": (seeded(ops.spatial_dropout), [images]),
        f"drop_path {suffix}": (seeded(ops.drop_path), [images]),
    }
CASES |= {
    "flatten": (ops.flatten, [IMAGES[2]]),
    "dense": (ops.dense, [(2, 4), (4, 3), (3,)]),
    "batch_norm train": (batch_norm(train=True), [IMAGES[2], *[(4,)] * 4]),
    "batch_norm eval": (batch_norm(train=False), [IMAGES[2], *[(4,)] * 4]),
    "dropout": (seeded(ops.dropout), [IMAGES[2]]),
    "gaussian_noise": (seeded(ops.gaussian_noise), [IMAGES[2]]),
}


def test_cases_cover_every_op():
    public = {name for name, op in vars(ops).items() if callable(op) and not name.startswith("_")}
    assert {name.split()[0] for name in CASES} == public - {"plain_xla"}


def with_gradient(function):
    """Return the outputs, and the cotangents of all arguments for output cotangents of one."""

    def both(*arguments):
        outputs, pullback = jax.vjp(function, *arguments)
        return function(*arguments), pullback(jax.tree.map(jnp.ones_like, outputs))

    return both


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            name, dtype, marks=pytest.mark.slow if dtype == jnp.bfloat16 and rank != "2d" else []
        )
        for dtype in (jnp.float32, jnp.bfloat16)
        for name in CASES
        for rank in [name.split()[-1]]
    ],
)
def test_op_and_gradient_lower(name, dtype):
    function, shapes = CASES[name]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    lowered = with_gradient(function)
    exported = jax.export.export(jax.jit(lowered), platforms=PLATFORMS)(*arguments)
    assert list(exported.platforms) == PLATFORMS
    assert "callback" not in exported.mlir_module()
    expected = jax.eval_shape(lowered, *arguments)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    chex.assert_trees_all_equal_shapes_and_dtypes(outputs, expected)

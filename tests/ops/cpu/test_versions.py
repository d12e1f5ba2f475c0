"""Quirks listed in `jaxcnn.ops.cpu.versions`: a failure means a workaround may be obsolete."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcnn
from jaxcnn.ops.cpu import versions

LAYOUT = ("NHWC", "HWIO", "NHWC")
is_old = jax.__version_info__ < (0, 12)


def compiled(function, *arguments):
    """Return the text of the optimized program."""
    return jax.jit(function).lower(*arguments).compile().as_text()


def conv(images, kernel, padding, strides=(1, 1)):
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=LAYOUT)


def sines(function, *arguments):
    """Return how many times the program computes a sine, inside or outside a fusion."""
    return len(re.findall(r" sine\(", compiled(function, *arguments)))


def test_negative_padding():
    images = jnp.arange(1.0, 721).reshape(1, 15, 6, 8)
    output = jax.jit(lambda *x: conv(*x, ((0, 0), (-5, 1))))(images, jnp.eye(8)[None, None])
    # Five columns are cropped and a column of zeros is added; the last row would read past the end.
    assert bool(jnp.any(output[0, :-1, 1])) == is_old


def test_transposed_half_products():
    @jax.jit
    def transposed(x, y):
        output = jnp.dot(x, y, preferred_element_type=jnp.float32).T
        return output.reshape(3, 2, 5).astype(jnp.bfloat16)

    x, y = jnp.ones((5, 21), jnp.bfloat16), jnp.ones((21, 6), jnp.bfloat16)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Unsupported element type"):
        transposed(x, y).block_until_ready()


def test_constant_divisors():
    values = jnp.arange(256.0)
    quotients = jax.jit(lambda values: values / 255)(values)
    assert np.any(np.asarray(quotients) != np.arange(256, dtype=np.float32) / np.float32(255))


def test_dropped_barriers():
    def used_three_times(x):
        y = lax.optimization_barrier(jnp.sin(x))
        return y.sum(0), (2 * y).max(1), y + 1

    assert (sines(used_three_times, jnp.ones((64, 64))) > 1) == is_old
    assert is_old != versions.BARRIERS_HOLD


@pytest.mark.parametrize("barrier", [False, True])
def test_recomputed_padding(barrier):
    def taps(x):
        padded = jnp.pad(jnp.sin(x), 1)
        padded = lax.optimization_barrier(padded) if barrier else padded
        return sum((i + 1) * padded[i : i + 64, i : i + 64] for i in range(3))

    assert sines(taps, jnp.ones((64, 64))) == (1 if barrier else 2)


def test_recomputed_outputs():
    def two(x):
        one, other = jnp.sin(x[:-1]), jnp.sin(x[1:])
        return jnp.maximum(one, other), other > one

    assert sines(two, jnp.ones((65, 64))) == 4


def test_slow_convolutions():
    images, kernel = jnp.ones((8, 16, 16, 32)), jnp.ones((3, 3, 32, 32))
    assert "__ynn_fusion" in compiled(lambda *x: conv(*x, ((1, 1), (1, 1))), images, kernel)
    one_more_row = compiled(lambda *x: conv(*x, ((1, 2), (1, 1))), images, kernel)
    assert "__ynn_fusion" not in one_more_row
    assert is_old == versions.CONVOLUTIONS_ARE_SLOW


def test_loop_layouts():
    @jax.grad
    def kernel_gradient(kernel, images):
        return jnp.sum(conv(images, kernel, "SAME", (2, 2)) ** 2)

    def looped(kernel, images):
        return lax.fori_loop(0, 3, lambda _, kernel: kernel_gradient(kernel, images), kernel)

    text = compiled(looped, jnp.ones((3, 3, 8, 16)), jnp.ones((32, 9, 9, 8)))
    orders = set(re.findall(r"convolution\(.*dim_labels=([^,\s]+)", text))
    assert len(orders) > 1 and "b01f_01io->b01f" in orders


def test_the_table_names_real_files_and_every_quirk_is_used():
    table, package = versions.__doc__, Path(jaxcnn.__file__).parent
    named = set(re.findall(r"`((?!tests)[a-z_]+/[a-z_/]+\.py)`", table))
    assert named and all((package / name).is_file() for name in named)
    names = set(re.findall(r"^- ([A-Z ,]+?)(?: \(\*\))?\. ", table, re.MULTILINE))
    sources = "".join(path.read_text() for path in sorted((package / "ops").rglob("*.py")))
    assert set(re.findall(r"\b(?:[A-Z]{4,} ){1,2}[A-Z]{4,}\b", sources)) <= names

"""Operation and byte counts, by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxcnn import ops
from jaxcnn.view import costs


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def flops(function, *arguments):
    return sum(operation.flops for operation in costs.operations(function, *arguments))


def test_a_convolution_and_its_gradients_cost_the_same():
    images, kernel = array(2, 8, 8, 3), array(3, 3, 3, 5)
    # Along each axis, one tap reads padding at each end: 8 * 3 - 2 products.
    once = 2 * 2 * 3 * 5 * 22**2
    (found,) = costs.operations(ops.conv, images, kernel)
    assert found.flops == once
    assert found.bytes == 4 * (2 * 64 * 3 + 135 + 2 * 64 * 5)

    def loss(images, kernel):
        return jnp.sum(jnp.sin(ops.conv(images, kernel)))

    gradients = costs.operations(jax.grad(loss, (0, 1)), images, kernel)
    assert [o.flops for o in gradients if o.name == "conv_general_dilated"] == [once] * 3


def test_zeros_between_the_pixels_of_a_gradient_are_free():
    images, kernel = array(2, 8, 8, 3), array(2, 2, 3, 5)

    def gradient(images, kernel):
        return jax.grad(lambda x: jnp.sum(jnp.sin(ops.conv(x, kernel, strides=2))))(images)

    once = 2 * (2 * 4 * 4 * 5) * (2 * 2 * 3)
    with ops.plain_xla():  # computes only the gradients that are requested
        counted = costs.operations(gradient, images, kernel)
    found = [o.flops for o in counted if o.name.startswith("conv")]
    assert found == [once, once]


def test_depthwise_convolutions_see_one_channel():
    assert flops(ops.depthwise_conv, array(2, 8, 8, 6), array(3, 3, 1, 6)) == 2 * 2 * 6 * 22**2


def test_products_in_a_batch_and_in_a_loop():
    assert flops(jnp.matmul, array(4, 2, 3), array(4, 3, 5)) == 2 * 4 * 2 * 3 * 5

    def repeated(x):
        return lax.scan(lambda total, _: (total @ x, None), x, None, length=7)[0]

    assert flops(repeated, array(3, 3)) == 7 * 2 * 27


def test_the_most_expensive_branch_or_the_platforms_own_is_counted():
    def either(chosen, x):
        return lax.cond(chosen, lambda x: x @ x, lambda x: x, x)

    assert flops(either, array(dtype=jnp.bool_), array(3, 3)) == 54

    def platform(x):
        return lax.platform_dependent(x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x)

    assert flops(platform, array(3, 3)) == 54


def test_elementwise_work_is_free_and_reductions_read_once():
    (found,) = costs.operations(lambda x: jnp.sum(jnp.exp(x) * 2), array(10, 10))
    assert (found.flops, found.bytes) == (100, 4 * 101)


def test_the_floor_takes_the_slower_of_the_two_ceilings_each_time():
    ceilings = costs.Ceilings(flops={"float32": 100.0}, bytes=10.0)
    found = [costs.Operation("dot_general", 500, 10, "float32")]
    assert costs.floor_seconds(found, ceilings) == 5
    found.append(costs.Operation("reduce_sum", 10, 20, "bfloat16"))
    assert costs.floor_seconds(found, ceilings) == 7


@pytest.mark.slow
def test_ceilings_are_those_of_a_computer():
    ceilings = costs.measure_ceilings(seconds=0.1)
    assert set(ceilings.flops) == {"float32", "bfloat16"}
    assert all(1e9 < value < 1e16 for value in (*ceilings.flops.values(), ceilings.bytes))

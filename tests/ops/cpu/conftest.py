"""Fixtures shared by the tests of the CPU formulations."""

import pytest
from hypothesis import strategies as st

from jaxcnn.ops.windows import Windows


@st.composite
def draw_geometry(draw):
    """Draw a window and spatial image sizes that are large enough for it."""
    rank = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    sizes, strides, dilation = each(1, 4), each(1, 3), each(1, 2)
    extents = [(size - 1) * step + 1 for size, step in zip(sizes, dilation, strict=True)]
    pairs = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    spatial = tuple(extent + draw(st.integers(0, 4)) for extent in extents)
    return Windows(sizes, strides, pairs, dilation), spatial


@pytest.fixture(scope="session")
def geometries():
    """A strategy for a window and spatial image sizes that are large enough for it."""
    return draw_geometry()

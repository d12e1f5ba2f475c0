"""safetensors files: valid files, and files with invalid headers."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcnn.models.weights.formats import weight_format
from jaxcnn.models.weights.safetensors_files import read_safetensors

TENSORS = {
    "conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
    "conv.bias": np.array([0.5, -1.5], "f4"),
    "count": np.array(7, "i8"),
    "half": np.array([1, 2.5], "f2"),
    "other half": np.array([1, 2.5], ml_dtypes.bfloat16),
}


def file_with(header, data=bytes(16), *, length=None):
    """Return a file with the given header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(4,), offsets=(0, 16), dtype="F32"):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_every_value_comes_back(tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(safetensors.numpy.save(TENSORS, {"format": "pt"}))
    assert weight_format(path) == "safetensors"
    found, metadata = read_safetensors(path)
    assert metadata == {"format": "pt"} and set(found) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


GOOD = file_with(entry())
DAMAGED = {
    "no header": file_with(b"{}")[:8],
    "a header longer than the file": file_with(entry(), length=2**20),
    "a header of exabytes": file_with(entry(), length=2**63 - 1),
    "a header of 2**64 - 1 bytes": file_with(entry(), length=2**64 - 1),
    "invalid JSON": file_with(b"{'x': 1}"),
    "a list": file_with([1]),
    "too many numbers": file_with(entry((5,))),
    "too few numbers": file_with(entry((3,))),
    "sizes whose product overflows": file_with(entry((2**40, 2**40))),
    "negative sizes": file_with(entry((-4,))),
    "missing data": file_with(entry((8,), (0, 32))),
    "offsets in reverse order": file_with(entry((4,), (16, 0))),
    "data without a tensor": file_with(entry((2,), (0, 8))),
    "tensors that share data": file_with(entry() | {"y": entry()["x"]}),
    "an unknown type": file_with(entry(dtype="F99")),
    "no type": file_with({"x": {"shape": [4], "data_offsets": [0, 16]}}),
    "a truncated file": GOOD[:-1],
    "more data than the header describes": GOOD + b"\0",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_wrong_headers(name, tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match=f"weights file {path} is damaged"):
        read_safetensors(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_types_that_numpy_lacks(dtype, tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(file_with(entry((16,), dtype=dtype)))
    with pytest.raises(ValueError, match=f"weights file {path} has an unknown dtype"):
        read_safetensors(path)


@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4)
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_rejected_or_give_arrays(flips, tmp_path):
    content = bytearray(safetensors.numpy.save(TENSORS, {"format": "pt"}))
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path / "network.safetensors"
    path.write_bytes(content)
    try:
        found, _ = read_safetensors(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())

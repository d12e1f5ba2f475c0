"""Pickles from untrusted files: values, rejected names and opcodes, bounded work."""

import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn.data.official import cifar
from jaxcnn.data.pickles import Function, PickleError, read_pickle

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False)
) | (st.text(max_size=5) | st.binary(max_size=5))
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=10,
)
ENCODE = {"_codecs encode": Function(cifar._encoded)}


@pytest.mark.slow
@given(VALUES, st.integers(2, 5))
def test_plain_values_come_back(value, protocol):
    names = {**ENCODE, "builtins bytes": Function(bytes), "__builtin__ bytes": Function(bytes)}
    assert read_pickle(pickle.dumps(value, protocol), names) == value


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "i4", "i8"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_cifar_come_back(order, dtype, protocol):
    array = np.asarray(np.arange(6).reshape(2, 3), dtype, order=order)
    found = cifar._unpickled(pickle.dumps({b"data": array, b"labels": [1, 2]}, protocol))
    np.testing.assert_array_equal(found[b"data"], array)
    assert found[b"data"].dtype == array.dtype and found[b"labels"] == [1, 2]


def short(value):
    """Return the opcode for a Python 2 string."""
    return b"U" + bytes([len(value)]) + value


def test_the_instructions_of_python_2():
    """Read a pickle like the official files, whose arrays and strings were written by Python 2."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b")
    dtype = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02K\x03\x86" + dtype + b"\x89T\x06\x00\x00\x00\x00\x01\x02\xfd\xfe\xfftb"
    content = b"\x80\x02}(" + short(b"data") + array + b"\x87R" + state + short(b"names")
    content += b"](" + short(b"cat") + b"eu."
    found = cifar._unpickled(content)
    np.testing.assert_array_equal(found[b"data"], [[0, 1, 2], [253, 254, 255]])
    assert found[b"names"] == [b"cat"]


class Evil:
    def __reduce__(self):
        return (__import__("os").system, ("touch /tmp/jaxcnn-was-here",))


REJECTED = {
    "a call": (pickle.dumps(Evil(), 2), "asks for (posix|nt).system; nothing was executed"),
    "an object": (b"\x80\x02cnumpy\nndarray\n)\x81.", r"creates objects \(NEWOBJ\)"),
    "a set": (b"\x80\x04\x8f.", "uses EMPTY_SET, which is not allowed"),
    "a call to something that is not a function": (
        b"\x80\x02cnumpy\nndarray\n)R.",
        "calls something that is not a function",
    ),
    "setting the state of a list": (b"\x80\x02]Nb.", "state of something that is not an array"),
    "a persistent identifier": (b"\x80\x02NQ.", "refers to data outside the pickle"),
    "a tuple as a key": (b"\x80\x02})Ns.", "keys other than strings and integers"),
    "objects in an array": (
        b"\x80\x02cnumpy\ndtype\n" + short(b"O8") + b"\x85R.",
        "array of an unknown dtype",
    ),
    "an array longer than its bytes": (
        pickle.dumps({b"data": np.zeros(300, "u1")}, 2).replace(b"M,\x01", b"M,\x02"),
        "its pickle is damaged: cannot reshape",
    ),
}


@pytest.mark.parametrize(("content", "message"), REJECTED.values(), ids=REJECTED)
def test_everything_else_is_rejected(content, message):
    with pytest.raises(ValueError, match=message):
        cifar._unpickled(content)


PAIRS = b"K\x01q\x00h\x00h\x00\x86q\x01" + b"h\x01h\x01\x86q\x01" * 40  # 2**40 leaves
TEXT = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16)
GREEDY = {
    "a key with 2**40 leaves": b"}" + PAIRS + b"Ns.",
    "a tuple nested 10,000 deep as a key": b"})" + b"\x85" * 10**4 + b"Ns.",
    "a list of encoded copies of a string": b"c_codecs\nencode\nq\x00"
    + TEXT
    + b"q\x01](h\x00h\x01"
    + short(b"latin1")
    + b"\x86R"
    + b"h\x00h\x01U\x06latin1\x86R" * 10**4
    + b"e.",
    "an array whose shape has 2**40 leaves": (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01"
        + PAIRS
        + b"cnumpy\ndtype\n"
        + short(b"u1")
        + b"\x85R\x89"
        + short(b"abc")
        + b"tb."
    ),
}


@pytest.mark.parametrize("content", GREEDY.values(), ids=GREEDY)
def test_work_and_memory_are_bounded(content):
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(ValueError, match="its pickle"):
        cifar._unpickled(b"\x80\x02" + content)
    assert time.monotonic() - start < 10
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * len(content) + 10**7


def test_states_and_names_need_permission():
    with pytest.raises(PickleError, match="sets the state of an object"):
        read_pickle(b"\x80\x02]Nb.", {})
    assert read_pickle(b"\x80\x02cx\ny\n.", {"x y": 3}) == 3

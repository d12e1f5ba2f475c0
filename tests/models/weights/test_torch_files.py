"""PyTorch files, read without PyTorch; this module writes their pickles opcode by opcode."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcnn.models.weights.formats import weight_format
from jaxcnn.models.weights.torch_files import read_torch

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}
MAGIC = 0x1950A86A20F9469CFC6C
TENSORS = {
    "conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
    "conv.bias": np.array([0.5, -1.5], "f4"),
    "bn.num_batches_tracked": np.array(7, "i8"),
    "half": np.array([1, 2.5], "f2"),
    "double": np.array([[1, 2, 3.5]]),
}


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    if not -(2**31) <= value < 2**31:
        data = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    return b"J" + struct.pack("<i", value)


def several(*parts):
    """Return the opcodes for a tuple."""
    return b"(" + b"".join(parts) + b"t"


def named(module, name):
    """Return the opcode for a global name."""
    return f"c{module}\n{name}\n".encode()


def storage(kind, key, count):
    return several(text("storage"), named("torch", kind), text(key), text("cpu"), integer(count))


def tensor(stored, size, strides, offset=0, *, legacy=False):
    """Return the opcodes that call the torch function for building a tensor."""
    view = b"N" if legacy else b""
    return (
        named("torch._utils", "_rebuild_tensor_v2")
        + several(
            stored[:-1] + view + b"tQ",
            integer(offset),
            several(*map(integer, size)),
            several(*map(integer, strides)),
            b"\x89",
            named("collections", "OrderedDict") + b")R",
        )
        + b"R"
    )


def state_dict(tensors, *, legacy=False):
    """Return the opcodes for an ordered dictionary of contiguous tensors."""
    items = b""
    for key, (name, array) in enumerate(tensors.items()):
        stored = storage(STORAGES[array.dtype.str[1:]], str(key), array.size)
        strides = [step // array.itemsize for step in array.strides]
        items += text(name) + tensor(stored, array.shape, strides, legacy=legacy)
    return named("collections", "OrderedDict") + b")R(" + items + b"u"


def pickled(opcodes):
    return b"\x80\x02" + opcodes + b"."


def zipped(opcodes, storages=(), *, members=(), compression=zipfile.ZIP_STORED):
    """Return a file as torch writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(opcodes))
        for key, array in enumerate(storages):
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array).tobytes())
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def legacy(opcodes, storages=(), *, counts=None):
    """Return a file as torch wrote it before 1.6."""
    counts = counts or [array.size for array in storages]
    keys = b"]" + b"".join(text(str(key)) + b"a" for key in range(len(storages)))
    parts = [
        pickle.dumps(MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
    ]
    parts += [pickled(opcodes), pickled(keys)]
    for count, array in zip(counts, storages, strict=True):
        parts += [struct.pack("<q", count), np.ascontiguousarray(array).tobytes()]
    return b"".join(parts)


def whole(tensors, form):
    """Return a valid file containing the tensors."""
    arrays = list(tensors.values())
    if form == "zip":
        return zipped(state_dict(tensors), arrays)
    return legacy(state_dict(tensors, legacy=True), arrays)


def read(path, content):
    path.write_bytes(content)
    assert weight_format(path) == "torch"
    return read_torch(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_every_value_comes_back(form, tmp_path):
    found = read(tmp_path / "network.pth", whole(TENSORS, form))
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_views_of_one_storage(tmp_path):
    values = np.arange(12, dtype="f4")
    stored = storage("FloatStorage", "0", 12)
    views = {
        "transposed": ((4, 3), (1, 4), 0, values.reshape(3, 4).T),
        "part": ((2, 2), (4, 1), 5, values.reshape(3, 4)[1:, 1:3]),
        "repeated": ((2, 3), (0, 1), 9, np.stack([values[9:]] * 2)),
        "scalar": ((), (), 11, values[11]),
        "nothing": ((0, 3), (3, 1), 0, np.zeros((0, 3))),
    }
    items = b"".join(
        text(name) + tensor(stored, size, strides, offset)
        for name, (size, strides, offset, _) in views.items()
    )
    opcodes = named("collections", "OrderedDict") + b")R(" + items + b"u"
    found = read(tmp_path / "network.pth", zipped(opcodes, [values]))
    for name, (*_, expected) in views.items():
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_and_parallel_models(key, tmp_path):
    tensors = {f"module.{name}": array for name, array in TENSORS.items()}
    opcodes = b"}(" + text("epoch") + integer(3) + text(key) + state_dict(tensors) + b"u"
    found = read(tmp_path / "network.pth", zipped(opcodes, list(tensors.values())))
    assert list(found) == list(TENSORS)


def test_parameters_are_tensors(tmp_path):
    inner = tensor(storage("FloatStorage", "0", 2), (2,), (1,))
    hooks = named("collections", "OrderedDict") + b")R"
    parameter = named("torch._utils", "_rebuild_parameter") + several(inner, b"\x88", hooks) + b"R"
    found = read(
        tmp_path / "network.pth",
        zipped(b"}(" + text("bias") + parameter + b"u", [np.ones(2, "f4")]),
    )
    np.testing.assert_array_equal(found["bias"], [1, 1])


# Pickles that must be rejected. {canary} is the path of a file that must not exist afterwards.
COMMAND = text("touch {canary}")
ONE = storage("FloatStorage", "0", 4)
CALLS = {
    "os.system": named("os", "system") + several(COMMAND) + b"R",
    "posix.system": named("posix", "system") + several(COMMAND) + b"R",
    "eval": named("builtins", "eval") + several(text("open('{canary}', 'w')")) + b"R",
    "eval by its Python 2 name": named("__builtin__", "eval")
    + several(text("open('{canary}', 'w')"))
    + b"R",
    "open": named("builtins", "open") + several(text("{canary}"), text("w")) + b"R",
    "getattr": named("builtins", "getattr") + several(b"N", text("x")) + b"R",
    "subprocess": named("subprocess", "check_call") + several(b"](" + COMMAND + b"e") + b"R",
    "numpy": named("numpy.core.multiarray", "_reconstruct") + several(b"N") + b"R",
    "torch.load": named("torch", "load") + several(text("{canary}")) + b"R",
    "a dotted name": named("collections", "OrderedDict.fromkeys") + several(b"N") + b"R",
    "a name from the stack": text("os") + text("system") + b"\x93" + several(COMMAND) + b"R",
    "an instance": b"(" + COMMAND + b"ios\nsystem\n",
    "an object": b"(" + named("os", "system") + COMMAND + b"o",
    "a new object": named("torch.nn.modules.linear", "Linear") + b")\x81",
    "an extension": b"\x82\x01",
    "an attribute of a function": named("torch._utils", "_rebuild_tensor_v2")
    + b"}"
    + text("_call")
    + named("collections", "OrderedDict")
    + b"sb",
    "a storage of an unknown kind": several(
        text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), integer(4)
    )
    + b"Q",
    "a memo index near 2**31": b"Nr" + struct.pack("<I", 2**31 - 1),
    "a tuple nested 100,000 deep": b")" + b"\x85" * 100_000,
    "not a dictionary": integer(3),
    "numbers as names": b"}(" + integer(1) + integer(2) + b"u",
    "no tensors": b"}",
    "beyond the storage": b"}(" + text("x") + tensor(ONE, (5,), (1,)) + b"u",
    "beyond the storage by strides": b"}(" + text("x") + tensor(ONE, (2, 2), (3, 1)) + b"u",
    "beyond the storage by offset": b"}(" + text("x") + tensor(ONE, (4,), (1,), 1) + b"u",
    "a negative offset": b"}(" + text("x") + tensor(ONE, (2,), (1,), -1) + b"u",
    "negative strides": b"}(" + text("x") + tensor(ONE, (2,), (-1,), 3) + b"u",
    "a negative size": b"}(" + text("x") + tensor(ONE, (-2,), (1,)) + b"u",
    "terabytes": b"}(" + text("x") + tensor(ONE, (2**40,), (0,)) + b"u",
    "terabytes across several axes": b"}(" + text("x") + tensor(ONE, (2**20, 2**20), (0, 0)) + b"u",
    "a storage that lies about its length": b"}("
    + text("x")
    + tensor(storage("FloatStorage", "0", 2**40), (4,), (1,))
    + b"u",
    "a storage with an invalid name": b"}("
    + text("x")
    + tensor(storage("FloatStorage", "../0", 4), (4,), (1,))
    + b"u",
}

# Error messages, and the cases that raise each one.
MESSAGES = {
    r"asks for [\w.]+; nothing was executed": [
        *list(CALLS)[: list(CALLS).index("an instance")],
        *("an object", "a new object"),
    ],
    r"creates objects \((INST|EXT1)\)": ["an instance", "an extension"],
    "sets attributes of something that is not a dictionary": ["an attribute of a function"],
    "storage of an unknown kind": ["a storage of an unknown kind"],
    "contains no state_dict": [
        *("a memo index near 2**31", "a tuple nested 100,000 deep"),
        *("not a dictionary", "numbers as names"),
    ],
    "contains no tensors": ["no tensors"],
    "extends beyond its storage": [
        *(name for name in CALLS if name.startswith(("beyond", "terabytes")))
    ],
    "negative or out of range": [name for name in CALLS if "negative" in name],
    "shorter than its declared length|is truncated": ["a storage that lies about its length"],
    "a storage is missing|storages without tensors": ["a storage with an invalid name"],
}


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_executed(name, form, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "network.pth"
    where = str(canary)
    opcodes = CALLS[name]
    if form is legacy:
        opcodes = opcodes.replace(b"tQ", b"NtQ")
    # Fill in the placeholders, and update the lengths of the strings that contain them.
    for part in (b"touch {canary}", b"open('{canary}', 'w')", b"{canary}"):
        filled = part.replace(b"{canary}", where.encode())
        opcodes = opcodes.replace(
            struct.pack("<I", len(part)) + part, struct.pack("<I", len(filled)) + filled
        )
    path.write_bytes(form(opcodes, [np.ones(4, "f4")]))
    message = next(message for message, names in MESSAGES.items() if name in names)
    with pytest.raises(ValueError, match=f"weights file {path}.*{message}"):
        read_torch(path)
    assert not canary.exists()


GOOD = zipped(state_dict(TENSORS), list(TENSORS.values()))
FILES = {
    "two pickles": (
        zipped(state_dict(TENSORS), TENSORS.values(), members=[("b/data.pkl", b"N.")]),
        "2 pickles",
    ),
    "compressed": (
        zipped(
            state_dict({"x": np.zeros(10**7, "f4")}),
            [np.zeros(10**7, "f4")],
            compression=zipfile.ZIP_DEFLATED,
        ),
        "members are compressed",
    ),
    "big-endian": (
        zipped(state_dict(TENSORS), TENSORS.values(), members=[("archive/byteorder", b"big")]),
        "big-endian",
    ),
    "a missing storage": (
        zipped(state_dict(TENSORS), list(TENSORS.values())[:2]),
        "a storage is missing",
    ),
    "a short storage": (
        zipped(state_dict(TENSORS), [array.ravel()[:1] for array in TENSORS.values()]),
        "a storage is shorter than its declared length",
    ),
    "another pickle": (pickle.dumps({"x": 1}, 2), "a pickle, but not one written by torch"),
    "another magic number": (
        legacy(b"}").replace(pickle.dumps(MAGIC, 2), pickle.dumps(MAGIC + 1, 2)),
        "not one written by torch",
    ),
    "a storage without a tensor": (legacy(b"}", [np.ones(3, "f4")]), "no tensors"),
    "a truncated legacy file": (
        whole(TENSORS, "legacy")[:-1],
        "ends in the middle of its tensor data",
    ),
    "false legacy counts": (
        legacy(state_dict(TENSORS, legacy=True), list(TENSORS.values()), counts=[2**60] * 5),
        "weights file",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name, tmp_path):
    content, message = FILES[name]
    path = tmp_path / "network.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_torch(path)


# Small inputs that would take a lot of time or memory to compare, copy or print.
DAG = b"K\x01" + b"2\x86" * 40  # a pair of pairs of pairs ..., with 2**40 leaves
DAG_BY_MEMO = b"K\x01q\x00h\x00h\x00\x86q\x01" + b"h\x01h\x01\x86q\x01" * 40
DEEP = b")" + b"\x85" * 10**4
GREEDY = {
    "a tuple nested 10,000 deep as a key": b"}" + DEEP + b"Ns",
    "a set": b"\x8f(" + DEEP + b"\x90",
    "a copy of the top of the stack": b"}" + DAG + b"Ns",
    "a key with 2**40 leaves": b"}" + DAG_BY_MEMO + b"Ns",
    "a size with 2**40 leaves": (
        b"}("
        + text("x")
        + named("torch._utils", "_rebuild_tensor_v2")
        + several(ONE[:-1] + b"tQ", integer(0), DAG_BY_MEMO, DAG_BY_MEMO)
        + b"R"
        + b"u"
    ),
    "a storage name with 2**40 leaves": several(
        text("storage"), named("torch", "FloatStorage"), DAG_BY_MEMO, text("cpu"), integer(4)
    )
    + b"Q",
    "a number with a million digits": b"\x8b" + struct.pack("<i", 500_000) + b"\x7f" * 500_000,
    "copies of a list": (
        b"]q\x00(" + b"NN\x86" * 10**4 + b"e" + named("collections", "OrderedDict") + b"q\x01"
    )
    + b"h\x01h\x00\x85R0" * 10,
    "a pickle of several megabytes": b"}" * (1 << 22),
    "a list as a key": b"}]Ns",
    "too few items on the stack": b"}s",
    "a memo entry that was never stored": b"h\x07",
    "a dictionary with an odd number of items": b"}(" + text("x") + b"u",
    "dictionary items for a list": b"](" + text("x") + b"Nu",
    "a call to a string": text("x") + b")R",
    "thousands of views of a megabyte": b"}(" + b"".join(
        text(str(number)) + tensor(storage("FloatStorage", "0", 4), (4,), (1,))
        for number in range(2000)
    ) + b"u",
}  # fmt: skip


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * ("megabytes" in name)) for name in GREEDY],
)
def test_time_and_memory_are_bounded(name, form, tmp_path):
    path = tmp_path / "network.pth"
    values = np.ones(4, "f4")
    opcodes = GREEDY[name]
    if form is legacy:
        opcodes = opcodes.replace(b"tQ", b"NtQ")
    if "thousand" in name:  # views of a single storage, which takes up most of the file
        values = np.ones(2**18, "f4")
        opcodes = opcodes.replace(integer(4), integer(2**18))
    path.write_bytes(form(opcodes, [values]))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"weights file {path}") as caught:
        read_torch(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * path.stat().st_size + 10**7
    assert len(str(caught.value)) < 1000


def test_a_member_that_claims_to_be_small(tmp_path):
    """Reject compressed zeros whose headers claim an uncompressed size of four bytes."""
    path = tmp_path / "network.pth"
    path.write_bytes(
        zipped(b"}", members=[("archive/data/0", bytes(10**7))], compression=zipfile.ZIP_BZIP2)
    )
    content = bytearray(path.read_bytes())
    for place in (content.rfind(b"PK\x01\x02"), content.find(b"PK\x01\x02")):
        content[place + 24 : place + 28] = struct.pack("<I", 4)  # the uncompressed size
    path.write_bytes(content)
    with pytest.raises(ValueError, match="members are compressed"):
        read_torch(path)


def test_an_old_checkpoint_with_its_optimizer(tmp_path):
    """Read a file that also contains storages not used by any of the network's weights."""
    momentum = np.arange(5, dtype="f8")
    opcodes = b"}(" + text("optimizer") + b"}(" + integer(0)
    opcodes += tensor(storage("DoubleStorage", "9", 5), (5,), (1,), legacy=True) + b"u"
    opcodes += text("state_dict") + state_dict(TENSORS, legacy=True) + b"u"
    path = tmp_path / "network.pth"
    parts = legacy(opcodes, [momentum, *TENSORS.values()])
    keys = [text(str(key)) for key in ["9", *range(5)]]
    old = b"]" + b"".join(text(str(key)) + b"a" for key in range(6))
    path.write_bytes(parts.replace(old, b"]" + b"".join(key + b"a" for key in keys)))
    found = read_torch(path)
    assert set(found) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)


def test_members_of_the_same_name(tmp_path):
    path = tmp_path / "network.pth"
    path.write_bytes(GOOD)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", b"\0" * 96)
    with pytest.raises(ValueError, match="the same name"):
        read_torch(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_file_that_ends_early(form, tmp_path):
    content = whole(TENSORS, form)
    path = tmp_path / "network.pth"
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=f"weights file {path}"):
            read_torch(path)


@given(
    form=st.sampled_from(["zip", "legacy"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_rejected_or_harmless(form, flips, tmp_path):
    """A zip file has checksums; in the older form only values may change."""
    content = bytearray(whole(TENSORS, form))
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path / "network.pth"
    path.write_bytes(content)
    try:
        found = read_torch(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
        if form == "zip":
            for name, array in found.items():
                np.testing.assert_array_equal(array, TENSORS[name])

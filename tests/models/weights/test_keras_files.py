"""Keras files, read without Keras; this module writes their HDF5 groups itself."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcnn.models.weights import hdf5_index
from jaxcnn.models.weights.formats import weight_format
from jaxcnn.models.weights.keras_files import read_keras

LAYERS = {
    "conv": [np.arange(24, dtype="f4").reshape(2, 2, 3, 2), np.array([1, 2], "f4")],
    "halves": [np.array([1, 2.5], "f2")],
    "bn": [np.array([number, 1], "f4") for number in range(4)],
}


def weights_h5(layers):
    """Return a file as Keras 3 writes it: a group per layer, with its name and its variables."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        for number, (name, arrays) in enumerate(layers.items()):
            group = content.create_group(f"layers/functional_{number}/vars")
            group.attrs["name"] = name
            for index, array in enumerate(arrays):
                group[str(index)] = array
        content.create_group("layers/without_weights/vars")
    return file.getvalue()


def keras(layers):
    """Return a Keras 3 network file, with a configuration that is never read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", '{"class_name": "Lambda", "code": "import os"}')
        archive.writestr("model.weights.h5", weights_h5(layers))
    return file.getvalue()


def old_h5(layers, inside=""):
    """Return a file as Keras 2 wrote it: weights only, or a network with a group ``inside``."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        group = content.create_group(inside) if inside else content
        group.attrs["layer_names"] = [name.encode() for name in [*layers, "flatten"]]
        group.create_group("flatten").attrs["weight_names"] = []
        for name, arrays in layers.items():
            layer = group.create_group(name)
            names = [f"{name}/{index}:0" for index in range(len(arrays))]
            layer.attrs["weight_names"] = [name.encode() for name in names]
            for key, array in zip(names, arrays, strict=True):
                layer[key] = array
    return file.getvalue()


FORMS = {
    "weights.h5": weights_h5,
    "keras": keras,
    "old weights": old_h5,
    "old network": lambda layers: old_h5(layers, "model_weights"),
}


def read(path, content):
    path.write_bytes(content)
    assert weight_format(path) == "keras"
    return read_keras(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_array_comes_back(form, tmp_path):
    found = read(tmp_path / "network", FORMS[form](LAYERS))
    assert set(found) == set(LAYERS)
    for name, arrays in LAYERS.items():
        for array, expected in zip(found[name], arrays, strict=True):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == expected.dtype


def file_with(write):
    """Return an HDF5 file with one layer, written by ``write(group)``."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        group = content.create_group("layers/conv/vars")
        group.attrs["name"] = "conv"
        write(group)
    return file.getvalue()


def external_link(group):
    group["0"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(group):
    group["0"] = h5py.SoftLink("/layers")


def external_data(group):
    group.create_dataset("0", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual_data(group):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group.create_virtual_dataset("0", layout)


def compressed(group):
    group.create_dataset("0", data=np.zeros(10**6, "f4"), compression="gzip")


def never_written(group):
    group.create_dataset("0", (2**40,), "f4")


def never_written_in_chunks(group):
    group.create_dataset("0", (2**40,), "f4", chunks=(2**20,))


def strings(group):
    group["0"] = np.array([b"conv", b"bn"], object)


def references(group):
    group.create_dataset("0", data=group.ref, dtype=h5py.ref_dtype)


def group_for_array(group):
    group.create_group("0")


def numbers_left_out(group):
    group["1"] = np.ones(3, "f4")


def without_name(group):
    del group.attrs["name"]
    group["0"] = np.ones(3, "f4")


def layers_of_one_name(group):
    group["0"] = np.ones(3, "f4")
    other = group.file.create_group("layers/other/vars")
    other.attrs["name"] = "conv"
    other["0"] = np.ones(3, "f4")


def a_group_in_itself(group):
    group.parent["again"] = group.parent


def nothing(group):
    del group.attrs["name"]


def one_array_a_hundred_times(group):
    group["0"] = np.ones(10**4, "f4")
    for number in range(1, 100):
        group[str(number)] = group["0"]


def groups_that_double(group):
    parent = group.parent
    for level in range(8):
        below = parent.create_group(f"level{level}")
        for number in range(3):
            parent[f"link{number}"] = below
        parent = below


def groups_in_groups(group):
    parent = group.parent
    for _ in range(20):
        parent = parent.create_group("below")


def no_array(group):
    group.create_dataset("0", data=h5py.Empty("f4"))


def big_endian(group):
    group["0"] = np.ones(3, ">f4")


def long_doubles(group):
    group["0"] = np.ones(3, np.longdouble)


def a_name_of_a_million_letters(group):
    group["0"] = np.ones(3, "f4")
    group.attrs["name"] = "x" * 2000


REJECTED = {
    one_array_a_hundred_times: "more than the file",
    groups_that_double: "a group appears twice",
    groups_in_groups: "nested too deeply",
    no_array: "is not an array",
    big_endian: "big-endian machine",
    long_doubles: "has dtype .*, which is not supported",
    a_name_of_a_million_letters: "name of a layer is too long",
    external_link: "is a link",
    soft_link: "is a link",
    external_data: "stored in another file",
    virtual_data: "stored in another file",
    compressed: "is compressed",
    never_written: "not stored in one piece",
    never_written_in_chunks: "not stored in one piece",
    strings: "has dtype object, which is not supported",
    references: "has dtype object, which is not supported",
    group_for_array: "0 is not a dataset",
    numbers_left_out: "has no 0",
    without_name: "save it again",
    layers_of_one_name: "two layers have the name 'conv'",
    a_group_in_itself: "a group appears twice",
    nothing: "no layers with weights",
}


@pytest.mark.parametrize("write", REJECTED, ids=lambda write: write.__name__)
def test_everything_but_arrays_in_the_file_is_rejected(write, tmp_path):
    path = tmp_path / "network.weights.h5"
    path.write_bytes(file_with(write))
    with pytest.raises(ValueError, match=f"weights file {path}.*({REJECTED[write]})"):
        read_keras(path)


def test_compressed_members_are_rejected(tmp_path):
    path = tmp_path / "network.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**8))
    with pytest.raises(ValueError, match="is compressed, which Keras never does"):
        read_keras(path)


def test_a_file_on_which_the_hdf5_library_loops_forever(tmp_path, monkeypatch):
    """Set the length of free space in a layer name's heap to 0, so that a scan never ends."""
    content = bytearray(weights_h5(LAYERS))
    place = content.find(b"GCOL") + 16
    while (index := int.from_bytes(content[place : place + 2], "little")) != 0:
        length = int.from_bytes(content[place + 8 : place + 16], "little")
        place += 16 + -(-length // 8) * 8
    assert index == 0
    content[place + 8 : place + 16] = bytes(8)
    path = tmp_path / "network.weights.h5"
    path.write_bytes(content)
    script = tmp_path / "impatient.py"
    script.write_text(Path(hdf5_index.__file__).read_text().replace("SECONDS = 20", "SECONDS = 1"))
    monkeypatch.setattr(hdf5_index, "__file__", str(script))
    with pytest.raises(ValueError, match=f"weights file {path}.*takes too long"):
        read_keras(path)


def test_old_files_with_missing_arrays(tmp_path):
    path = tmp_path / "network.h5"
    content = io.BytesIO(old_h5(LAYERS))
    with h5py.File(content, "a") as file:
        del file["bn/bn"]
    path.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="/bn has no bn"):
        read_keras(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_ends_early(form, tmp_path):
    content = FORMS[form](LAYERS)
    path = tmp_path / "network"
    for end in range(0, len(content), len(content) // 4):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=f"weights file {path}"):
            read_keras(path)


@pytest.mark.slow
@given(
    form=st.sampled_from(list(FORMS)),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_rejected_or_give_arrays(form, flips, tmp_path):
    content = bytearray(FORMS[form](LAYERS))
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path / "network"
    path.write_bytes(content)
    try:
        found = read_keras(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for arrays in found.values() for array in arrays)

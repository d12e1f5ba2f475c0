"""Tables and archives of arrays: ambiguous content is rejected."""

import io
import json
import re
import zipfile

import numpy as np
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.data.tables import class_indices, read_table


def csv(values, header="file,label"):
    """Make a table with one file per row."""
    return "\n".join([header, *(f"{row}.png,{value}" for row, value in enumerate(values))])


def read(text, name="labels.csv"):
    return read_table(text.encode(), name)


def test_equal_numbers_are_in_alphabetical_order():
    names = ["0" * zeros + "7" for zeros in range(20)]  # sets have no order
    labels, classes = class_indices(["10", *names, "2"])
    assert classes == ("2", *sorted(names), "10")
    assert labels.tolist() == [21, *(classes.index(name) for name in names), 0]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "n/a", "N/A", "null", "None", "<NA>"])
@pytest.mark.parametrize("others", [("1.5", "2.5"), ("cat", "dog"), ("1", "2")])
def test_missing_values_are_rejected(word, others):
    with pytest.raises(
        ValueError, match=f"labels.csv cannot be used: row 3 has no label, got {word!r}"
    ):
        read(csv([*others, word, *others]))


def test_missing_values_in_json_lines():
    rows = [{"file": f"{row}.png", "age": age} for row, age in enumerate((1.5, float("nan"), 2.5))]
    with pytest.raises(ValueError, match="row 2 has no age, got 'nan'"):
        read("\n".join(map(json.dumps, rows)), "labels.jsonl")


@pytest.mark.parametrize(
    ("values", "row", "got"),
    [
        (["1.5", "2", "old"], 3, "old"),
        (["cat", "1.5", "dog"], 1, "cat"),
        (["1.5", "1e99"], 2, "1e99"),
        (['"0,5"', '"1,5"'], 1, "0,5"),
        (["3", '"1,5"', "2"], 2, "1,5"),
    ],
)
def test_strings_among_numbers_with_a_point_are_rejected(values, row, got):
    message = (
        f"row {row}: label must be a number with a decimal point, "
        f"like the other targets, got '{got}'"
    )
    with pytest.raises(ValueError, match=message):
        read(csv(values))


@pytest.mark.parametrize("values", [["v1.5", "v2"], ["a,b", "c"], ["12e4", "ab3f"], ["5", "many"]])
def test_class_names_may_contain_periods_commas_and_digits(values):
    assert read(csv([f'"{value}"' for value in values])).classes == tuple(sorted(values))


def test_spaces_after_commas_and_quotes():
    table = read('file, label\n0.png, "cat"\n1.png, "a, b"\n')
    assert table.classes == ("a, b", "cat")
    assert table.files == ("0.png", "1.png")


@pytest.mark.parametrize("name", ["label", "class", "target"])
def test_a_column_named_label_is_the_only_label(name):
    table = read(f"id,file,{name},note\n7,a.png,1,x\n8,b.png,0,\n9,c.png,1,z\n")
    assert table.labels.tolist() == [1, 0, 1]
    assert table.classes == ("0", "1")


def test_row_ids_are_rejected_as_targets():
    message = "column id contains a different integer in each row, like an ID"
    for last in ("kind", "age"):
        with pytest.raises(ValueError, match=message):
            read(f"id,file,{last}\n7,a.png,1\n9,b.png,0\n8,c.png,1\n")
    # Other integer columns are accepted.
    assert read("file,x,y\na.png,5,0\nb.png,5,1\n").labels.tolist() == [[5, 0], [5, 1]]
    assert read("file,x,y\na.png,1,0\nb.png,0,1\n").labels.dtype == np.int32


def test_deeply_nested_json_is_rejected():
    with pytest.raises(ValueError, match="line 1 is not valid JSON"):
        read("[" * 100_000, "labels.jsonl")


def test_control_characters_are_shown_as_escapes():
    with pytest.raises(ValueError, match="twice") as caught:
        read(csv(["a", "b"]).replace("1.png", "0.png").replace("0.png", "\x1b[31m.png"))
    assert r"it lists \x1b[31m.png twice" in str(caught.value)
    assert str(caught.value).isprintable()


IMAGES = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3, 1)
LABELS = np.array([0, 1, 1, 0])
ARRAYS = {
    f"{split}_{part}": array
    for split in ("train", "test")
    for part, array in (("images", IMAGES), ("labels", LABELS))
}
REJECTED = {
    "a class in test only": ({"test_labels": LABELS * 2}, "test_labels has the class '2', which"),
    "a named class in test only": (
        {"test_labels": LABELS * 2, "classes": np.array(["a", "b", "c"])},
        "test_labels has the class 'c', which is missing from train_labels",
    ),
    "one class": (
        {"train_labels": LABELS * 0, "test_labels": LABELS * 0},
        "it must have at least two classes, got only '0'",
    ),
    "duplicate names": ({"classes": np.array(["a", "a"])}, "classes must have distinct names"),
    "different value ranges": (
        {"test_images": np.float32(IMAGES / 255)},
        "must have the same dtype, got uint8 and float32, which imply different",
    ),
    "two kinds of labels": (
        {"test_labels": LABELS * 0.5},
        "same dtype and shape per example, got int32 of",
    ),
    "strings": ({"train_labels": np.array(list("abba"))}, "labels must be integers .* got <U1"),
    "a large label": (
        {"train_labels": LABELS * 10**9},
        "labels must be below 100000 unless classes",
    ),
    "a label beyond int64": (
        {"train_labels": LABELS.astype(np.uint64) + np.uint64(2**63)},
        "labels must be below 100000 unless classes is given, got 9223372036854775809",
    ),
    "a large test label": (
        {"test_labels": LABELS * 10**9},
        "labels must be below 100000 unless classes",
    ),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_archives_of_arrays_are_checked(kind, tmp_path):
    change, message = REJECTED[kind]
    np.savez(tmp_path / "x.npz", **ARRAYS | change)
    with pytest.raises(ValueError, match=f"x.npz cannot be used: .*{message}"):
        data.load_splits(tmp_path / "x.npz")


def test_many_classes_of_few_images_are_fine(tmp_path):
    many = ARRAYS | {"train_labels": LABELS * 999, "test_labels": LABELS * 999}
    np.savez(tmp_path / "x.npz", **many)
    assert len(data.load(tmp_path / "x.npz").classes) == 1000


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'descr':'|u1','fortran_order':False,'shape':(10,1000000,1000000,3)}\n", "allocate"),
        (b"{'descr': (\n", "the header of an array is damaged"),
        (b"{'descr':'|u1','fortran_order':False,'shape':(-1,8,8,3)}\n", "negative|cannot be used"),
    ],
)
def test_damaged_headers_are_reported_in_one_line(header, message, tmp_path):
    file = io.BytesIO()
    np.save(file, LABELS)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr("train_images.npy", start + header)
        archive.writestr("train_labels.npy", file.getvalue())
    with pytest.raises(ValueError, match=message) as caught:
        data.load(tmp_path / "x.npz")
    assert str(caught.value).isprintable()


def test_paths_may_be_path_objects(tmp_path):
    (tmp_path / "A.NPZ").write_bytes(b"")  # the suffix is case-insensitive
    with pytest.raises(ValueError, match=re.escape("A.NPZ cannot be used: ")):
        data.load(tmp_path / "A.NPZ")
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "photos" / name / f"{number}.png"
            PIL.Image.new("RGB", (3, 3)).save(path)
    assert data.is_path(tmp_path / "photos")
    assert data.load(tmp_path / "photos", size=(3, 3)).classes == ("cat", "dog")
    assert data.load_splits(tmp_path / "photos").keys() == {"train", "test"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "data must name a dataset, .* got ''"),
        (
            "~nobody-is-called-so/x",
            "'~nobody-is-called-so/x' refers to the home folder of an unknown user",
        ),
        ("MNIST", "got 'MNIST'. Did you mean 'mnist'"),
        (
            "mnist:9.9.9",
            "mnist:9.9.9 is not prepared in .*; run: jaxcnn prepare mnist, and use the name",
        ),
        ("x" * 5000, "data must name a dataset"),
        ("a\0b", r"data must name a dataset, .* got 'a\\x00b'"),
    ],
)
def test_odd_names_are_rejected_in_one_line(name, message, tmp_path):
    assert data.is_path(name) == name.startswith("~")
    with pytest.raises(ValueError, match=message) as caught:
        data.load_splits(name, data_dir=tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        ",file,label\n0,a.png,cat\n1,b.png,dog\n",
        "Unnamed: 0,file,label\n0,a.png,cat\n1,b.png,dog\n",
        "file,label,\na.png,cat,\nb.png,dog,\n",
        "file,label,\na.png,cat\nb.png,dog\n",
        ",,file,label\n0,0,a.png,cat\n1,1,b.png,dog\n",
        ", file , label\n0, a.png , cat\n1,b.png,dog\n",
        "Unnamed: 0;file;label\n0;a.png;cat\n1;b.png;dog\n",
    ],
)
def test_columns_without_a_name_are_ignored(text):
    with pytest.warns(UserWarning, match="ignored a column without a name in photos.csv"):
        found = read(text, "photos.csv")
    assert found.files == ("a.png", "b.png")
    assert found.classes == ("cat", "dog") and found.labels.tolist() == [0, 1]


def test_other_columns_may_not_be_missing():
    with (
        pytest.warns(UserWarning, match="ignored a column"),
        pytest.raises(ValueError, match="line 3 must have 3 columns, like the header"),
    ):
        read(",file,label\n0,a.png,cat\n1,b.png\n", "photos.csv")


@pytest.mark.parametrize(
    "header",
    [
        *("File,Label", "FILENAME,CLASS", "image_id,label", "id_code,Target", "filepath,class"),
        *("Image,target", "Image_Path,label", "file_path,label", "path,label", "image_name,label"),
    ],
)
def test_names_of_columns(header):
    found = read(f"{header}\na.png,cat\nb.png,dog\n")
    assert found.files == ("a.png", "b.png") and found.classes == ("cat", "dog")


def test_a_column_with_the_exact_name_comes_first():
    found = read("FILE,file,Label,label\nx,a.png,1,cat\ny,b.png,2,dog\n")
    assert found.files == ("a.png", "b.png") and found.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("separator", "cells"),
    [
        (" ", ("scab rust", "scab", "rust frog")),
        ("|", ("scab|rust", "scab", "rust|frog")),
        (";", ("scab; rust", " scab;", ";rust ; frog")),
        (", ", ('"scab, rust"', "scab", '"rust, frog"')),
        ("|", ("scab|rust", "scab|scab", "frog|rust")),
    ],
)
def test_labels_in_a_cell_are_separated(separator, cells):
    rows = "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells))
    found = read_table(f"file,label\n{rows}".encode(), "x.csv", label_separator=separator)
    assert found.classes == ("frog", "rust", "scab")
    assert found.labels.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 0]]


def test_weights_and_labels():
    found = read("file,label,Weight\na.png,cat,2\nb.png,dog,0.5\n")
    assert found.weights.tolist() == [2, 0.5] and found.classes == ("cat", "dog")
    # Without a named label, the weight is what is to be predicted.
    found = read("file,weight\na.png,2.0\nb.png,0.5\n")
    assert found.weights is None and found.labels.tolist() == [[2.0], [0.5]]
    found = read("file,length,weight\na.png,2.0,1.5\nb.png,0.5,1.0\n")
    assert found.weights is None and found.classes == ("length", "weight")
    for cell, message in (("x", "weight must be a number, got 'x'"), ("-1", "finite and >= 0")):
        with pytest.raises(ValueError, match=message):
            read(f"file,label,weight\na.png,cat,1\nb.png,dog,{cell}\n")


def test_groups_from_columns_and_names():
    text = b"file,label,patient\nann_1.png,cat,7\nann_2.png,dog,7\nbob_1.png,dog,8\n"
    for group in ("patient", "Patient", r"^[a-z]+"):
        assert read_table(text, "x.csv", group=group).groups.tolist() == [0, 0, 1]
    # The column of groups is not a label.
    text = text.replace(b"label", b"kind")
    assert read_table(text, "x.csv", group="patient").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("kind", "text", "labels", "classes"),
    [
        ("classes", "file,a,b,c\n1,0,0,1\n2,1,0,0\n3,0,1,0\n", [2, 0, 1], ("a", "b", "c")),
        ("classes", "file,a,b\n1,0.0,1.0\n2,1.0,0.0\n", [1, 0], ("a", "b")),
        ("classes", "file,label\n1,0.0\n2,1.0\n", [0, 1], ("0", "1")),
        ("classes", "file,label\n1,1\n2,0\n", [1, 0], ("0", "1")),
        ("targets", "file,price\n1,3\n2,40\n", [[3.0], [40.0]], ("price",)),
        ("targets", "file,x,y\n1,0,1\n2,1,0\n", [[0.0, 1.0], [1.0, 0.0]], ("x", "y")),
        ("labels", "file,a,b\n1,0,1\n2,1,0\n", [[0, 1], [1, 0]], ("a", "b")),
        ("labels", "file,a,b\n1,0.0,1.0\n2,1.0,0.0\n", [[0, 1], [1, 0]], ("a", "b")),
        ("labels", "file,defect\n1,0\n2,1\n", [[0], [1]], ("defect",)),
        ("labels", "file,defect\n1,0.0\n2,1.0\n", [[0], [1]], ("defect",)),
        ("targets", "file,x,y\n1,10,20\n2,30,40\n", [[10.0, 20.0], [30.0, 40.0]], ("x", "y")),
        # Rows that are not one-hot are several labels.
        ("classes", "file,a,b\n1,0,1\n2,1,1\n", [[0, 1], [1, 1]], ("a", "b")),
        (None, "file,label\n1,0.0\n2,1.0\n", [[0.0], [1.0]], ("label",)),
        (None, "file,a,b\n1,0,1\n2,1,0\n", [[0, 1], [1, 0]], ("a", "b")),
    ],
)
def test_the_kind_decides_between_readings(kind, text, labels, classes):
    found = read_table(text.encode(), "x.csv", label_kind=kind)
    assert found.labels.tolist() == labels and found.classes == classes
    is_float = isinstance(np.ravel(labels)[0].item(), float)
    assert found.labels.dtype == (np.float32 if is_float else np.int32)


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        (
            "targets",
            ("1.5", "250,000.00"),
            "row 2: label must be a number like 1234.5, without",
        ),
        ("targets", ("$5.50", "1"), r"without units or thousands separators, got '\$5.50'"),
        ("targets", ("5 kg", "1"), "without units or thousands separators, got '5 kg'"),
        ("targets", ("1,5", "2,5"), "without units or thousands separators, got '1,5'"),
        ("targets", ("low", "1"), "row 1: label must be a number like 1234.5, got 'low'"),
        ("labels", ("scab rust", "scab"), "such as 'scab rust': if it is several labels, give the"),
        ("labels", ("scab", "rust|frog"), r"such as 'rust\|frog': .* \(--label-separator\)"),
        ("labels", ("scab", "rust"), "such as 'scab': .* or one column of 0 and 1 per label"),
    ],
)
def test_labels_of_another_kind_are_explained(kind, cells, message):
    text = "file,label\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(cells))
    with pytest.raises(ValueError, match=message):
        read_table(text.encode(), "x.csv", label_kind=kind)


@pytest.mark.parametrize("word", ["NaN", "NA", "none"])
def test_missing_values_are_no_groups_and_no_labels(word):
    text = f"file,label,patient\n1,scab rust,7\n2,{word},8\n3,scab,9\n"
    with pytest.raises(ValueError, match=f"row 2 has no label, got '{word}'"):
        read_table(text.encode(), "x.csv", label_separator=" ")
    text = f"file,label,patient\n1,a,7\n2,b,{word}\n3,a,9\n"
    with pytest.raises(ValueError, match=f"row 2 has no patient, got '{word}'"):
        read_table(text.encode(), "x.csv", group="patient")


def test_separated_labels_need_one_column():
    with pytest.raises(ValueError, match="label_separator requires one label column, got a, b"):
        read_table(b"file,a,b\n1,x y,z\n2,x,z\n", "x.csv", label_separator=" ")

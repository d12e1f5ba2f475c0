"""Command lines that must fail: every setting with bad values, every input of bad kinds."""

import dataclasses
import os
import typing
from pathlib import Path

from jaxcnn.experiment import Execution, Experiment

_NUMBERS = {
    int: ("1.5", "nan", "abc", "-99999999999999999999"),
    float: ("nan", "abc", "-inf", "1,5"),
}
_OTHERS = ("nonsense-\x1b[31m", "x" * 3000)


def settings() -> list[list[str]]:
    """Return ``train`` commands, each with one setting that has a bad value."""
    commands = []
    for section in (Experiment, Execution):
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            flag = f"--{field.name.replace('_', '-')}"
            kinds = {hints[field.name], *typing.get_args(hints[field.name])}
            for kind, values in _NUMBERS.items():
                if kind in kinds and str not in kinds:
                    commands += [["train", flag, value] for value in values]
            if any(typing.get_origin(kind) is typing.Literal for kind in kinds):
                commands += [["train", flag, value] for value in _OTHERS]
            commands.append(["train", flag + "x", "1"])
    return commands


def make_inputs(folder: Path) -> dict[str, str]:
    """Create inputs of bad kinds, and return the path of each."""
    folder.mkdir()
    contents = {
        "empty": b"",
        "text.txt": b"hello",
        "text.npz": b"hello",
        "text.safetensors": b"hello",
        "text.pth": b"hello",
        "text.py": b"hello world",
        "huge header.safetensors": (2**62).to_bytes(8, "little") + b"{}",
        "image.png": b"\x89PNG\r\n\x1a\n" + bytes(20),
        "table.csv": b"file,label\nabsent.png,cat\n",
        "archive.zip": b"PK\x05\x06" + bytes(18),
        "archive.tar.gz": b"\x1f\x8b" + bytes(20),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("link")
    os.mkfifo(folder / "pipe")
    paths = {name: str(folder / name) for name in (*contents, "folder", "link", "pipe")}
    return paths | {
        "absent": str(folder / "absent"),
        "device": "/dev/zero",
        "null": "/dev/null",
        "URL": "https://example.com/run",
        "long": "y" * 5000,
        "control": "a\x1b[2Jb",
        "parent": str(folder / "text.txt" / "below"),
    }


def inputs(paths: dict[str, str], run: Path) -> list[list[str]]:
    """Return commands, each with an input or output of a bad kind."""
    commands = []
    for path in paths.values():
        commands += [
            ["train", "--data", path, "--epochs", "1"],
            ["train", "--model", f"{path}:make_model"],
            ["train", "--pretrained", path, "--model", "resnet18"],
            ["train", "--workdir", path, "--resume"],
            ["evaluate", path],
            ["predict", path, "image.png"],
            ["predict", str(run), path],
            ["inspect", path],
            ["inspect", str(run), "--image", path],
            ["export", path, "network.safetensors"],
            ["features", str(run), "--data", path, "--output", "features.npz"],
            ["inspect-data", path],
        ]
    return commands

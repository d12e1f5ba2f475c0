"""The course's notebooks: pairs of script and outputs, run from top to bottom, on public names.

That they run is for ``experiments/notebooks/build.py --check``, which `.ci/run` calls.
"""

import ast
import functools
import importlib
import json
import re
import types
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "notebooks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.with_suffix(".ipynb").exists())
# The deck's exercises, by its names.
DECK = {
    "Convolutional_Neural_Networks_Basic_Design",
    "Convolutional_Neural_Networks",
    "ImageDataGenerator",
    "DataAugmented_CNN",
    "CNN_Exercise",
}
LARGEST = 3_000_000  # bytes

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def test_every_notebook_of_the_deck_is_there():
    assert {path.stem for path in SCRIPTS} == DECK | {"CNN_Exercise_Solution"}
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SCRIPTS}


def cells(script):
    """The cells of what a reader sees."""
    path = script.with_suffix(".ipynb")
    assert path.stat().st_size < LARGEST
    return json.loads(path.read_text())["cells"]


def source(cell):
    """A cell's text, which may be a list of lines."""
    return "".join(cell["source"])


@every_script
def test_the_outputs_are_of_one_run_of_this_script(script):
    code = [cell for cell in cells(script) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert [
        output for output in outputs if {"image/png", "image/jpeg"} & set(output.get("data", ()))
    ]
    # Cell by cell; in the script Markdown and magic are comments.
    written = [
        re.sub(r"^# ?", "", part, flags=re.MULTILINE) if "[markdown]" in head else part
        for head, part in re.findall(
            r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", script.read_text(), re.MULTILINE
        )
    ]
    shown = [source(cell) for cell in cells(script)]
    written = [re.sub(r"^# (%\w+)", r"\1", part.strip(), flags=re.MULTILINE) for part in written]
    assert written == [part.strip() for part in shown]


@every_script
def test_only_public_names_are_used(script):
    """Whatever a notebook reaches through a module of jaxcnn is no private part of it."""
    tree = ast.parse(script.read_text())
    known: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxcnn"):
            for alias in node.names:
                assert not alias.name.startswith("_")
                known[alias.asname or alias.name] = imported(node.module, alias.name)
        elif isinstance(node, ast.Import):
            assert not [a for a in node.names if a.name.startswith("jaxcnn._")]
    assert known
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            if isinstance(module, types.ModuleType):
                assert not node.attr.startswith("_")
                assert hasattr(module, node.attr), f"{module.__name__} has no {node.attr}"


@functools.cache
def imported(module, name):
    """What ``from module import name`` gives."""
    parent = importlib.import_module(module)
    return getattr(parent, name, None) or importlib.import_module(f"{module}.{name}")


@every_script
def test_a_notebook_says_what_the_library_does_and_defines_little(script):
    functions = [
        node for node in ast.parse(script.read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) <= 8
    assert all(len(ast.unparse(node).splitlines()) <= 25 for node in functions)


def test_the_exercise_ships_unanswered_and_the_solution_is_right():
    exercise, solution = (
        [
            text
            for cell in cells(FOLDER / f"{name}.py")
            for output in cell.get("outputs", ())
            for text in "".join(output.get("text", ())).splitlines()
        ]
        for name in ("CNN_Exercise", "CNN_Exercise_Solution")
    )
    unanswered = [line for line in exercise if line.startswith("not answered yet")]
    right = [line for line in solution if line.startswith("right")]
    assert len(unanswered) == len(right) >= 8
    assert not [line for line in solution if line.startswith("not ")]

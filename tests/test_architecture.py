"""Holds the design against the code: floors, sizes, conventions of the public API, dependencies."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest

import jaxcnn

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxcnn"
FILES = sorted(PACKAGE.rglob("*.py"))
PUBLIC = (
    *(jaxcnn.ops, jaxcnn.image, jaxcnn.losses, jaxcnn.metrics, jaxcnn.models),
    *(jaxcnn.models.layers, jaxcnn.data, jaxcnn.train),
)

# Imports only go down: a module may import its own floor and those before it.
FLOORS = (
    (
        *("messages", "shapes", "parameters", "batch", "losses", "metrics", "regularizers"),
        *("ops", "image", "data"),
    ),
    ("models",),
    ("train",),
    ("view",),
    ("experiment", "commands", "__main__"),
)
# Rooms on one floor, or above it, that still must not know each other.
FORBIDDEN = (
    ("train", ("models", "image", "data")),
    ("image", ("data",)),
    ("data", ("models",)),
    ("ops", ("image", "data", "metrics", "batch")),
)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("jaxcnn.")}


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    if path == PACKAGE / "__init__.py":
        return
    for other in rooms_imported(path):
        assert floor(other) <= floor(room(path)), f"{path} imports {other} from a floor above"
    for name, others in FORBIDDEN:
        if room(path) == name:
            assert not rooms_imported(path) & set(others)
    assert "jaxcnn" not in imports(path), "a module imports the package's root"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "two rooms in one file?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = node.body[1].lineno if docstring and len(node.body) > 1 else node.lineno
            assert node.end_lineno - start < 60, f"{node.name} has more than 60 lines"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=str)
def test_init_only_reexports(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert all(alias.asname == alias.name for alias in node.names), "use `x as x`"
        else:
            assert isinstance(node, ast.Expr), f"{path} holds code"


def test_no_utils_and_no_assert():
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common")]
    for path in FILES:
        asserts = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)]
        assert not asserts, f"{path} validates with assert"


PUBLIC_NAMES = [
    pytest.param(value, id=f"{module.__name__}.{name}")
    for module in PUBLIC
    for name, value in vars(module).items()
    if not name.startswith("_")
    and (inspect.isfunction(value) or inspect.isclass(value))
    and value.__module__.startswith("jaxcnn")
]


@pytest.mark.parametrize("value", PUBLIC_NAMES)
def test_public_names_are_documented(value):
    assert inspect.getdoc(value), "no docstring"
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@pytest.mark.parametrize("value", [p for p in PUBLIC_NAMES if inspect.isfunction(p.values[0])])
def test_conventions_of_functions(value):
    parameters = list(inspect.signature(value).parameters.values())
    names = [parameter.name for parameter in parameters]
    if "key" in names:
        assert names[0] == "key", "a random function takes its key first"
    for parameter in parameters:
        if parameter.default not in (inspect.Parameter.empty, None):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, (
                f"{parameter.name} is an option"
            )


def test_every_public_op_has_an_example():
    for value in vars(jaxcnn.ops).values():
        if inspect.isfunction(value):
            assert ">>>" in inspect.getdoc(value), value.__name__


def test_dependencies_are_declared_and_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[><=\[; ]", item)[0].lower() for item in project["dependencies"]}
    distributions = {"PIL": "pillow", "orbax": "orbax-checkpoint"}
    imported = {name.split(".")[0] for path in FILES for name in imports(path)}
    third_party = {
        distributions.get(name, name).replace("_", "-").lower()
        for name in imported - set(sys.stdlib_module_names) - {"jaxcnn"}
    }
    # TFDS imports these two without declaring them.
    undeclared = {"array-record", "importlib-resources"}
    # Optional, asked for where it is imported.
    extras = {"tensorboardx", "huggingface-hub"}
    assert extras == {
        re.split(r"[><=]", name)[0].lower().replace("_", "-")
        for extra in ("tensorboard", "hub")
        for name in project["optional-dependencies"][extra]
    }
    assert third_party - extras | undeclared == {name.replace("_", "-") for name in declared}


def test_top_level_is_the_agreed_one():
    allowed = {"pyproject.toml", "README.md", "jaxcnn", "experiments", "tests", "LICENSE", "NOTICE"}
    allowed |= {"CHANGELOG.md", "CONTRIBUTING.md"}
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - {"runs", "build", "dist"} <= allowed


def test_every_module_imports():
    for module in pkgutil.walk_packages(jaxcnn.__path__, "jaxcnn."):
        importlib.import_module(module.name)

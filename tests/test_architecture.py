"""Tests that the code follows its design: floors, sizes, public API conventions.

The floors are read from ``experiments/guides/architecture.md``, which defines them.
"""

import ast
import functools
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
PAGE = ROOT / "experiments" / "guides" / "architecture.md"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]
PACKAGES = ("ops", "image", "metrics", "models", "data", "train", "experiment")
# Modules whose functions are part of the public API although no `__init__` reexports them.
PUBLIC_MODULES = ("losses", "regularizers", "models.layers", "view")

# Packages, and the packages and modules that they must not import, whatever the order.
FORBIDDEN = {
    "train/": ("models/", "image/", "data/"),
    "image/": ("data/",),
    "data/": ("models/",),
    "ops/": ("image/", "data/", "metrics/", "batch.py"),
}
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_ENTRIES = 400, 60, 10, 18


def floors(page: str) -> list[list[str]]:
    """Return the paths on each floor of the page's tree; packages end with a slash."""
    result: list[list[str]] = []
    (tree,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    folders: list[str] = []
    for line in tree.splitlines():
        if line.startswith("# "):
            result.append([])
            continue
        indent, name = re.fullmatch(r"( *)(\S+) +\S.*", line).groups()
        folders = folders[: len(indent) // 2]
        result[-1].append("".join([*folders, name]))
        if name.endswith("/"):
            folders.append(name)
    return result


FLOORS = floors(PAGE.read_text())
# Packages and top-level modules; each may import those before it.
ORDER = [path for floor in FLOORS for path in floor if re.fullmatch(r"[^/]+/?", path)]


def test_the_page_has_a_line_for_every_module():
    lines = {path for floor in FLOORS for path in floor}
    modules = {name.removesuffix("__init__.py") for name in NAMES} - {""}
    missing, stale = sorted(modules - lines), sorted(lines - modules)
    assert not missing + stale, f"{PAGE.name}: add lines for {missing}, remove lines for {stale}"


def test_the_page_has_five_floors_and_is_short():
    assert len(FLOORS) == 5
    assert len(PAGE.read_text().splitlines()) <= 220  # a line for each module


def test_paths_on_the_page_exist():
    """Check that paths in backticks exist in the repository, the package, or the tests."""
    text = re.sub(r"```text\n.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    for path in re.findall(r"`([\w./*]+(?:\.py|\.md|/run|\.toml))`", text):
        roots = (ROOT, ROOT / "experiments", PACKAGE, *(PACKAGE / package for package in ORDER))
        roots = (*roots, PACKAGE / "models/weights", PACKAGE / "data/official", ROOT / "tests/ops")
        assert any(root.is_dir() and [*root.glob(path)] for root in roots), path


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes(name: str, kind: type) -> list[ast.AST]:
    """Return a module's AST nodes of the given type."""
    return [node for node in ast.walk(tree(PACKAGE / name)) if isinstance(node, kind)]


def unit(name: str) -> str:
    """Return the top-level package (with a slash) or module that contains a module."""
    first, slash, _ = name.partition("/")
    return first + slash


@functools.cache
def reexports(package: str) -> dict[str, str]:
    """Return the module from which a package's `__init__` imports each name."""
    return {
        alias.name: resolved(node.module, alias.name)
        for node in tree(PACKAGE / package / "__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.module != f"jaxcnn.{package}".replace("/", ".")
        for alias in node.names
    }


def resolved(module: str, name: str | None) -> str:
    """Return the file, relative to the package, that ``from module import name`` loads."""
    folder = PACKAGE.joinpath(*module.split(".")[1:])
    package = folder.relative_to(PACKAGE).as_posix()
    if folder.is_dir() and package != "." and name in reexports(package):
        return reexports(package)[name]
    inside = (folder / f"{name}.py", folder / f"{name}" / "__init__.py")
    for file in (folder.with_suffix(".py"), *inside, folder / "__init__.py"):
        if file.is_file():
            return file.relative_to(PACKAGE).as_posix()
    raise AssertionError(f"module {module} does not exist")


@functools.cache
def imported(name: str) -> frozenset[str]:
    """Return the jaxcnn modules imported anywhere in a module."""
    found = set()
    for node in ast.walk(tree(PACKAGE / name)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            if node.module.split(".")[0] == "jaxcnn":
                found |= {resolved(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.split(".")[0] == "jaxcnn"]
            found |= {resolved(module, None) for module in ours}
    return frozenset(found)


def test_imports_go_down():
    found = []
    for name in (name for name in NAMES if name != "__init__.py"):
        for other in imported(name):
            pair = f"{name} imports {other}"
            if {unit(name), unit(other)} - set(ORDER):
                found.append(f"{pair}, but {PAGE.name} has no line for one of them")
            elif ORDER.index(unit(other)) > ORDER.index(unit(name)):
                found.append(f"{pair}, which is not above it in {PAGE.name}")
            elif unit(other) in FORBIDDEN.get(unit(name), ()):
                found.append(f"{pair}, which is forbidden")
            elif unit(other) == "image/" and re.match("data/(?!keras/)", name):
                found.append(f"{pair}, but only data/keras may")
    assert not found, "\n".join(found)


def test_no_import_cycles():
    open_, done = [], set()

    def visit(name):
        if name in open_:
            pytest.fail(" -> ".join([*open_[open_.index(name) :], name]))
        if name in done:
            return
        open_.append(name)
        for other in sorted(imported(name)):
            visit(other)
        open_.pop()
        done.add(name)

    for name in NAMES:
        visit(name)


def test_the_package_has_few_entries():
    entries = {path.name for path in PACKAGE.iterdir()} - {"py.typed", "__pycache__"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_sizes():
    found = []
    for name in NAMES:
        lines = len((PACKAGE / name).read_text().splitlines())
        found += [f"{name} has {lines} lines"] * (lines > MOST_LINES)
        for node in nodes(name, ast.FunctionDef):
            size = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                size -= node.body[0].end_lineno - node.body[0].lineno + 1
            message = f"{name}: {node.name} has {size} lines without its docstring"
            found += [message] * (size > MOST_FUNCTION_LINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("/__init__.py")])
def test_init_only_reexports(name):
    for node in tree(PACKAGE / name).body:
        if isinstance(node, ast.ImportFrom):
            assert all(alias.asname == alias.name for alias in node.names), "use `x as x`"
        else:
            assert isinstance(node, ast.Expr), f"{name} has code"


def test_train_is_keyword_only():
    found = [
        f"{name}: {node.name}"
        for name in NAMES
        for node in nodes(name, ast.FunctionDef)
        if "train" in {argument.arg for argument in (*node.args.posonlyargs, *node.args.args)}
    ]
    assert not found, "\n".join(found)


def test_retired_constructs():
    """Check for `assert`, `TYPE_CHECKING` (only the lazy package needs it) and utility modules."""
    retired = ("utils", "util", "helpers", "common", "misc")
    found = [name for name in NAMES if Path(name).stem in retired]
    for name in NAMES:
        found += [f"{name}:{node.lineno}: assert" for node in nodes(name, ast.Assert)]
        is_lazy = name == "__init__.py"
        found += [name] * ("TYPE_CHECKING" in (PACKAGE / name).read_text() and not is_lazy)
    assert not found, "\n".join(found)


def test_no_setting_of_the_process_below_experiment():
    settings = r"jax\.config\.update|os\.environ\[[^]]*\] *=|putenv|mallopt|^warnings\.\w*filter"
    below = [name for name in NAMES if unit(name) in FLOORS[0] + FLOORS[1] + FLOORS[2] + FLOORS[3]]
    found = [
        f"{name}: {match[0]}"
        for name in below
        for match in re.finditer(settings, (PACKAGE / name).read_text(), re.MULTILINE)
    ]
    assert not found, "\n".join(found)


def is_public(name, value):
    return (
        not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith("jaxcnn")
    )


def public_names():
    """Return the name of each public function and class."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"jaxcnn.{package}")
        for name, value in vars(module).items():
            if is_public(name, value):
                found.setdefault(value, f"{package}.{name}")
    for prefix in PUBLIC_MODULES:
        module = importlib.import_module(f"jaxcnn.{prefix}")
        inner = pkgutil.iter_modules(getattr(module, "__path__", ()), f"jaxcnn.{prefix}.")
        for each in (module, *(importlib.import_module(one.name) for one in inner)):
            for name, value in vars(each).items():
                if is_public(name, value) and value.__module__ == each.__name__:
                    found.setdefault(value, f"{each.__name__.removeprefix('jaxcnn.')}.{name}")
    return found


PUBLIC = public_names()
every_name = pytest.mark.parametrize("value", PUBLIC, ids=PUBLIC.values())
FUNCTIONS = {value: name for value, name in PUBLIC.items() if inspect.isfunction(value)}
every_function = pytest.mark.parametrize("value", FUNCTIONS, ids=FUNCTIONS.values())


@every_name
def test_public_names_are_documented(value):
    assert inspect.getdoc(value), "no docstring"
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@every_function
def test_public_functions_have_an_example_that_runs(value):
    docstring = inspect.getdoc(value)
    assert ">>> " in docstring
    assert "+SKIP" not in docstring


@every_function
def test_conventions_of_public_functions(value):
    parameters = list(inspect.signature(value).parameters.values())
    names = [parameter.name for parameter in parameters]
    if "key" in names:
        assert names[0] == "key", "the first argument of a random function must be its key"
    for parameter in parameters:
        if parameter.default not in (inspect.Parameter.empty, None):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, (
                f"{parameter.name} is an option, so it must be keyword-only"
            )
    assert len(parameters) <= MOST_PARAMETERS, f"{len(parameters)} parameters"


def test_dependencies_are_declared_and_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[><=\[; ]", item)[0].lower() for item in project["dependencies"]}
    distributions = {"PIL": "pillow", "orbax": "orbax-checkpoint"}
    names = {node.module for name in NAMES for node in nodes(name, ast.ImportFrom)}
    names |= {a.name for name in NAMES for node in nodes(name, ast.Import) for a in node.names}
    third_party = {
        distributions.get(name, name).replace("_", "-").lower()
        for name in {name.split(".")[0] for name in names}
        - set(sys.stdlib_module_names)
        - {"jaxcnn"}
    }
    # TFDS imports these two packages without declaring them.
    undeclared = {"array-record", "importlib-resources"}
    # Optional packages, imported where they are used.
    extras = {"tensorboardx", "huggingface-hub"}
    assert extras == {
        re.split(r"[><=]", name)[0].lower().replace("_", "-")
        for extra in ("tensorboard", "hub")
        for name in project["optional-dependencies"][extra]
    }
    assert third_party - extras | undeclared == {name.replace("_", "-") for name in declared}


def test_top_level_is_the_agreed_one():
    allowed = {"pyproject.toml", "README.md", "jaxcnn", "experiments", "tests", "LICENSE", "NOTICE"}
    allowed |= {"CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"}
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - {"runs", "build", "dist"} <= allowed


def test_every_module_imports():
    for module in pkgutil.walk_packages(jaxcnn.__path__, "jaxcnn."):
        importlib.import_module(module.name)

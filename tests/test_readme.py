"""Tests of the README: its Python runs, its commands parse, and `.ci/run` calls its commands."""

import re
import shlex
from pathlib import Path

import pytest

from jaxcnn.commands.parse import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDES = sorted((ROOT / "experiments" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def shell_lines(page: Path) -> list[str]:
    """Return the commands in a page's shell blocks, without comments; join continued lines."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = re.sub(r"\\\n\s*", "", "".join(blocks)).splitlines()
    return [line.split(" #")[0].strip() for line in lines]


COMMANDS = [
    pytest.param(command, id=f"{page.name}: {command}")
    for page in PAGES
    for line in shell_lines(page)
    for command in line.split(" && ")
    if command.startswith("jaxcnn ")
]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README.md block {number}", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = re.sub(r"--resume( auto)?", "", line)  # resuming would read the run folder
    try:
        parse(shlex.split(line)[1:])
    except SystemExit as end:
        assert not end.code  # --help


def test_the_first_two_commands_are_those_that_ci_calls():
    main_job, tests = (line for line in shell_lines(ROOT / "README.md") if line[:8] == "python3 ")
    assert main_job.endswith("jaxcnn train")
    assert tests.endswith("pytest -n 2")
    assert len(re.findall(r"^python3 .*pytest", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 .*jaxcnn train", README, re.MULTILINE)) == 1
    script = (ROOT / ".ci" / "run").read_text()
    assert 'bash -c "$test_command"' in script


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, section = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        assert not section or section in sections(other), target


def sections(page: Path) -> set[str]:
    """Return the anchors that link to the headings of a Markdown page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

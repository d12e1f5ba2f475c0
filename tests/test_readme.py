"""What the README says: its Python runs, its commands parse, CI calls what it tells users to."""

import re
import shlex
from pathlib import Path

import pytest

from jaxcnn import __main__ as command_line

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"README.md block {number}", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("jaxcnn ")])
def test_commands_parse(line, tmp_path, monkeypatch):
    if "--resume" in line:
        line = line.replace("--resume", "")  # would read the run's folder
    command_line._parse(shlex.split(line)[1:])


def test_the_first_two_commands_are_those_that_ci_calls():
    main_job, tests = (line for line in SHELL if line.startswith("python3 "))
    assert main_job.endswith("jaxcnn train")
    assert tests.endswith("pytest -n 2")
    assert len(re.findall(r"^python3 .*pytest", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 .*jaxcnn train", README, re.MULTILINE)) == 1
    script = (ROOT / ".ci" / "run").read_text()
    assert 'bash -c "$test_command"' in script


@pytest.mark.parametrize("path", ["README.md", "experiments/README.md"])
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / path).read_text()):
        if target.startswith("http"):
            continue
        file, _, section = target.partition("#")
        page = (ROOT / path).parent / file if file else ROOT / path
        assert page.exists(), target
        assert not section or section in _sections(page), target


def _sections(page: Path) -> set[str]:
    """The names by which a Markdown page's headings are linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

"""Tests of the English: plain openings of docstrings, no retired phrases, American spelling.

The table in CONTRIBUTING.md lists what to write instead.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "jaxcnn").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "experiments" / "guides").glob("*.md"))]
EVERYTHING = [*MODULES, *PAGES]

FIRST_WORDS = re.compile(r"(What|Where|Which|Who|Whose|When|How|Whether|If|Of|As|So|That|Those)\b")
RETIRED = r"""
    refus\w*
    whole numbers?
    truth values?
    over-fit\w*
    passed over
    of (its|your|their|one's|his) own
    that there (is|are)( not\b|[.,;)])
    (go|goes|gone|going) on\b
    nobody asks
    (epochs|steps|times|batches|layers|convolutions) in a row
    brought to
    a few hundred of
    said to
    what (it|the \w+) says
    all the same(?=[.,;:)]|$)
    hangs together
    lets? go of
    is there to\b
    be it\b
    speaks? for
    bears
    parts of (a|the) batch
    kept for (the )?backward
    numbers of rows
    (?<!there )(is|are) no\b(?! (longer|more|less|fewer|larger|smaller)\b)
"""
# Guides may use these when writing about notebooks and people.
RETIRED_IN_MODULES = r"""
    (?<!\.)texts
    answers
    pictures/
"""
BRITISH = r"""
    colour\w*
    grey\w*
    neighbour\w*
    behaviour\w*
    favour\w*
    centre[sd]?
    (de)?(normal|standard|initial|regular|optim|organ|summar|visual|general|factor|quant)is(e|ed|es|ing|ation)
    (recogn|minim|maxim|util|serial|vector|random|categor)is(e|ed|es|ing|ation)
    analyse[ds]?
    (label|model|cancel|travel)l(ed|ing)
    licence\w*
    artefacts?
    catalogues?
    judgements?
    programmes?
"""


def pattern(phrases: str) -> re.Pattern[str]:
    """Return a regex that matches any of the phrases, given one per line, but not inside a word."""
    lines = filter(None, map(str.strip, phrases.splitlines()))
    return re.compile(rf"(?<![A-Za-z])({'|'.join(lines)})(?![A-Za-z])", re.IGNORECASE)


def joined(text: str) -> str:
    return " ".join(text.split())


def prose(path: Path) -> list[tuple[int, str]]:
    """Return the paragraphs of a page, or the strings and comments of a module, by line number.

    Implicitly concatenated strings are joined, and so are comments on consecutive lines.
    """
    source = path.read_text()
    if path.suffix == ".md":
        paragraphs = re.split(r"(\n\s*\n)", source)
        starts = [
            source[: sum(map(len, paragraphs[:i]))].count("\n") for i in range(len(paragraphs))
        ]
        return [(n + 1, joined(part)) for n, part in zip(starts, paragraphs, strict=True)]
    found = []
    inside_f_strings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            found.append((node.lineno, joined("".join(map(str, parts)))))
            inside_f_strings |= {id(value) for value in node.values}
        elif isinstance(getattr(node, "value", None), str) and id(node) not in inside_f_strings:
            found.append((node.lineno, joined(node.value)))
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if token.start[0] == last + 1:
                found[-1] = (found[-1][0], f"{found[-1][1]} {text}")
            else:
                found.append((token.start[0], text))
            last = token.start[0]
    return found


def docstrings(path: Path) -> list[tuple[int, str]]:
    """Return the docstrings of a module and of its classes, functions, fields and constants."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for place, each in enumerate(body if isinstance(body, list) else ()):
            is_text = isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            if is_text and isinstance(each.value.value, str):
                before = body[place - 1] if place else None
                if place == 0 or isinstance(before, ast.Assign | ast.AnnAssign):
                    found.append((each.lineno, each.value.value.strip()))
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def report(path: Path, found: list[tuple[int, str]]) -> str:
    return "\n" + "\n".join(f"{name(path)}:{line}: {text}" for line, text in found)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_docstrings_start_with_a_verb_or_a_noun(path):
    found = [(line, text[:80]) for line, text in docstrings(path) if FIRST_WORDS.match(text)]
    assert not found, report(path, found)


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_retired_phrases(path):
    look = pattern(RETIRED + RETIRED_IN_MODULES if path.suffix == ".py" else RETIRED)
    found = [(line, found[0]) for line, text in prose(path) for found in look.finditer(text)]
    assert not found, report(path, found)


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_american_spelling(path):
    look = pattern(BRITISH)
    lines = enumerate(path.read_text().splitlines(), 1)
    # Skip the table of option values used by earlier versions, one of which has this spelling.
    lines = ((n, line) for n, line in lines if not line.startswith("_RENAMED_VALUES"))
    found = [(n, found[0]) for n, line in lines for found in look.finditer(line)]
    assert not found, report(path, found)

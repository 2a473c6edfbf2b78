"""docs/theory.md says what the theory says: every number on it is computed again."""

import doctest
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from isograd import theory

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "theory.md").read_text()
MARKED = re.compile(r"(\d+(?:\.\d+)?)<!-- (.*?) -->")


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_theory", DOCS / "make_theory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page: str) -> str:
    """The page without code, formulas, marked numbers and sources."""
    page = page.partition("## Sources")[0]
    for part in (r"section \d\.\d", r"```.*?```", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"`[^`\n]*`"):
        page = re.sub(part, "", page, flags=re.DOTALL)
    return MARKED.sub("", page)


def test_every_command_prints_what_the_page_shows() -> None:
    page = maker().page(PAGE)
    assert page.count("$ isograd theory") >= 8
    assert page == PAGE, "run python docs/make_theory.py"


@pytest.mark.parametrize(("shown", "expression"), sorted(set(MARKED.findall(PAGE))))
def test_a_number_in_the_text(shown: str, expression: str) -> None:
    value = float(eval(expression, dict(vars(theory))))
    assert f"{value:.{len(shown.partition('.')[2])}f}" == shown


def test_no_number_in_the_text_is_unmarked() -> None:
    assert re.findall(r"(?<![\w.])\d+\.\d+", prose(PAGE)) == []
    assert re.findall(r"\d+\.\d+", prose("it is 1.07, `0.5`, $0.5$, 2.5<!-- x -->")) == ["1.07"]


def test_the_python_on_the_page() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "theory.md", None, 0)
    results = doctest.DocTestRunner().run(test)
    assert results.failed == 0
    assert results.attempted >= 8


def test_every_figure_is_one_that_is_drawn() -> None:
    shown = re.findall(r"!\[.*?\]\(images/theory/(.*?)\)", PAGE)
    assert sorted(shown) == sorted(maker().FIGURES)
    assert all((DOCS / "images" / "theory" / name).is_file() for name in shown)

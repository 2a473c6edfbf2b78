"""Every form of a repair says the same, survives anything, and shows the proof."""

import json
import math
import re
from dataclasses import replace

import pytest
from made_diagnoses import make_healthy, make_sick
from test_as_html import Page
from torch import nn

from isograd.errors import InputError
from isograd.findings import Severity
from isograd.repairs.comparing import Comparison
from isograd.repairs.result import Cost, Repair, Skipped, Trial
from isograd.reporting import REPAIR_FORMS, render
from isograd.reporting._repaired import seeds

CODE = """from torch import nn

for name in ('a', 'b'):
    nn.init.zeros_(model.get_parameter(name))"""
WHOLE = (None,) * 3


def make_repaired() -> Repair:
    before = Trial(
        "as it is", ((2.3, 2.31), (2.3, 2.29), (2.3, 2.3)), (2.3, 2.31, 2.3), (None,) * 3
    )
    after = Trial("init-gain", ((2.9, 1.1), (2.8, 1.2), (3.1, 0.9)), (1.0, 1.1, 0.9), WHOLE)
    return Repair(
        "repaired",
        "init-gain: loss 1.0 where it was 2.3.",
        nn.Identity(),
        None,
        None,
        make_sick(),
        after=make_healthy(),
        remedies=("init-gain",),
        code=CODE,
        effects=("The signal keeps its size.",),
        trials=(before, after),
        comparison=Comparison(before.scores, after.scores),
        measure="loss",
        skipped=(Skipped("residual-skip", "widths differ at <3>"),),
        notes=("Weights are drawn anew.",),
        cost=Cost(120, 1.5),
    )


def make_broken() -> Repair:
    """Nothing helps, and what can be missing or not finite is."""
    runs = Trial("as it is", ((2.3, math.inf), (2.3, math.nan)), (math.inf, math.inf), ("a", "b"))
    other = Trial("</script>", ((0.0, -1.0), (1.0,)), (2.0, math.inf), (None, "c"))
    hostile = Skipped("<b>", "`x` | y\x1b[31m")
    return replace(
        make_repaired(),
        verdict="nothing-helps",
        after=None,
        remedies=(),
        code="",
        effects=(),
        trials=(runs, other),
        comparison=Comparison((2.0, 2.0), (2.0, 2.1)),
        skipped=(hostile,),
    )


def make_left() -> Repair:
    return Repair("healthy", "Nothing.", nn.Identity(), None, None, make_healthy())


def make_unlearned() -> Repair:
    """Nothing was found, and no copy learned."""
    reason = "No finding asks for a change, but no copy learned."
    return Repair("healthy", reason, nn.Identity(), None, None, make_healthy(), learned=False)


MAKERS = {
    "repaired": make_repaired,
    "broken": make_broken,
    "left": make_left,
    "unlearned": make_unlearned,
}


@pytest.mark.parametrize("form", REPAIR_FORMS)
@pytest.mark.parametrize("made", MAKERS)
def test_every_form_tells_every_repair(made: str, form: str) -> None:
    told = render(MAKERS[made](), form)
    assert told
    assert "\x1b" not in told
    if form.startswith("html"):
        Page(told)
        assert "<b>" not in told.replace("<b>isograd</b>", "")


@pytest.mark.parametrize("form", ["text", "html", "markdown"])
def test_what_did_not_learn_is_not_called_healthy(form: str) -> None:
    assert "nothing found, but it did not learn" in render(make_unlearned(), form)
    assert "healthy: leave" not in render(make_unlearned(), form)
    assert "healthy: leave" in render(make_left(), form)
    assert "healthy: leave" in render(replace(make_left(), learned=True), form)


@pytest.mark.parametrize("form", ["text", "html", "markdown", "json"])
def test_what_counts_is_told(form: str) -> None:
    told = render(make_repaired(), form)
    plain = re.sub(r"&#?\w+;", "'", told) if form == "html" else told
    for words in ("init-gain", "as it is", "The signal keeps its size", "residual-skip", "widths"):
        assert words in plain
    assert "nn.init.zeros_" in told
    if form != "json":
        assert "1 ± 0.1 over 3 seeds" in plain
        assert "one-sided, paired by seed" in plain


def test_the_json_form_holds_the_numbers() -> None:
    made = make_repaired()
    told = json.loads(render(made, "json"))
    assert told["code"] == CODE
    assert told["comparison"]["p"] == pytest.approx(made.comparison.p)
    assert told["trials"][1]["losses"] == [list(curve) for curve in made.trials[1].losses]
    assert told["before"]["findings"]
    broken = json.loads(render(make_broken(), "json"))
    assert broken["trials"][0]["scores"] == ["inf", "inf"]


def test_no_significant_difference_is_said() -> None:
    for form in ("text", "html", "markdown"):
        assert "no significant difference" in render(make_broken(), form)


@pytest.mark.parametrize("form", ["text", "html", "markdown"])
def test_where_nothing_helps_the_advice_is_told(form: str) -> None:
    broken = make_broken()
    (advice, *_) = broken.before.findings[0].remedies
    told = " ".join(re.sub(r"&#?\w+;|[\\`]", "", render(broken, form)).split())
    assert re.sub("[\\\\`]", "", advice) in told
    assert form == "html" or "do:" in told.lower()


def test_seeds_that_broke_are_counted() -> None:
    broken = make_broken()
    assert seeds(broken.trials[0]) == "all 2 runs broke"
    assert seeds(broken.trials[1]) == "2 over 1 seed, 1 broke"


def test_code_in_the_page_can_be_copied() -> None:
    page = Page(render(make_repaired(), "html"))
    (start,) = [i for i, word in enumerate(page.words) if "for name in" in word]
    assert CODE.splitlines()[3] in "".join(page.words[start : start + 3])


def test_a_repair_shows_itself() -> None:
    made = make_repaired()
    assert str(made) == render(made, "text")
    assert made._repr_html_() == render(made, "html-fragment")


def test_a_form_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="there is no form 'sarif'"):
        render(make_repaired(), "sarif")


def test_the_text_keeps_its_width() -> None:
    told = render(make_repaired(), "text", width=70)
    assert max(len(line) for line in told.splitlines() if "nn.init" not in line) <= 70


@pytest.mark.parametrize("form", ["text", "markdown", "html", "html-fragment"])
def test_what_is_left_after_the_change_is_named_with_its_advice(form: str) -> None:
    repaired = replace(make_repaired(), after=make_sick())
    told = " ".join(re.sub(r"<[^>]*>|[\\*]", "", render(repaired, form)).split())
    told = re.split("(?i)after the change: ", told, maxsplit=1)[1]
    left = [f for f in make_sick().findings if f.severity is not Severity.INFO]
    assert left
    for finding in left:
        _, _, rest = told.partition(f"{finding.code} {finding.cause}")
        assert "ours to do: " in rest[:20]
    none = render(replace(repaired, after=make_healthy()), form)
    assert "ours to do" not in none


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_what_was_not_kept_for_one_reason_stands_together(form: str) -> None:
    untried = [Skipped(name, "no room left") for name in ("init-lsuv", "init-gain")]
    other = Skipped("init-head", "no head")
    told = render(replace(make_repaired(), skipped=(untried[0], other, untried[1])), form)
    assert told.count("no room left") == 1
    assert "init-lsuv, init-gain" in told
    assert told.index("no room left") < told.index("no head")

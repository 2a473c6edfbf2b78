"""The door: forms, unknown forms, what is imported when."""

import io
import subprocess
import sys

import pytest

from isograd.errors import InputError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.reporting import FORMS, render, show
from isograd.rules import RULES
from isograd.rules._rule import Passed, Rule


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_every_diagnosis(form, any_diagnosis):
    text = render(any_diagnosis, form)
    assert text
    assert "\x1b" not in text


@pytest.mark.parametrize("form", FORMS)
def test_a_form_tells_the_same_twice(form, sick):
    assert render(sick, form) == render(sick, form)


@pytest.mark.parametrize("form", ["text", "html", "html-fragment", "sarif", "markdown", "json"])
def test_every_form_tells_every_finding(form, sick):
    text = render(sick, form)
    for word in ("IG101", "IG412", "IG777", "gain-mismatch", "layers.0.weight"):
        assert word in text


def test_an_unknown_form_is_refused(sick):
    with pytest.raises(InputError, match="there is no form 'pdf'; the forms are text, json, html"):
        render(sick, "pdf")


def test_a_diagnosis_shows_itself(sick):
    assert str(sick) == render(sick, "text")
    assert sick._repr_html_() == render(sick, "html-fragment")


def test_rules_speak_for_themselves(monkeypatch, sick):
    class Known(Rule):
        """The gradient dies <young>.

        Sees: eyes.

        Matters: much.

        Wrong when: never.

        Do: something.
        """

        code = "IG101"
        rank = 1

        def judge(self, reading):
            return Passed("")

        sick = well = staticmethod(lambda: None)

    monkeypatch.setitem(RULES.__dict__, "_entries", {"IG101": Known()})
    page = render(sick, "html")
    assert "The gradient dies &lt;young&gt;" in page
    assert "<dt>Wrong when</dt><dd>Never.</dd>" in page
    assert "Wrong when: never." in render(sick, "sarif")
    monkeypatch.setitem(RULES.__dict__, "_entries", {})
    assert "Wrong when" not in render(sick, "html")


def test_imports_are_light():
    code = (
        "import isograd.reporting, sys;"
        "print([m for m in ('torch', 'numpy', 'rich', 'isograd.rules') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def terminal(**options):
    file = io.StringIO()
    return file, {"file": file, "width": 90, **options}


def test_show_writes_colors_to_a_terminal_only(sick):
    file, options = terminal(force_terminal=True, color_system="standard")
    show(sick, **options)
    assert "\x1b[1;31m" in file.getvalue()
    file, options = terminal()
    show(sick, **options)
    assert "\x1b" not in file.getvalue()
    assert file.getvalue() == render(sick, "text", width=90) + "\n"


def test_show_respects_no_color(sick):
    file, options = terminal(force_terminal=True, no_color=True)
    show(sick, **options)
    assert "\x1b[" not in file.getvalue()


def test_show_falls_back_to_ascii(sick):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    show(sick, file=file, width=100)
    text = raw.getvalue().decode("ascii")
    assert "x 1 error, 1 warning, 1 note" in text
    assert "######" in text


def test_severity_of_the_headline():
    from isograd.records import Reading, Record

    reading = Reading(Record(()))
    note = Finding("IG1", Severity.INFO, "data-bug", "x")
    assert render(Diagnosis((note,), (), reading), "text").startswith("✓ healthy, 1 note\n")
    both = (note.with_severity(Severity.WARNING),) * 2
    assert render(Diagnosis(both, (), reading), "text").startswith("! 2 warnings · fix first: ")

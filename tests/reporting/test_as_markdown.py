"""The Markdown form: a table, details folded away, and nothing that acts."""

import re

from made_diagnoses import make_healthy

from isograd.reporting import render


def test_verdict_table_and_folds(sick):
    lines = render(sick, "markdown").splitlines()
    assert lines[0] == "### 🔴 isograd: 1 error, 1 warning, 1 note"
    assert lines[2] == "Fix first: gain-mismatch at layers.0 and 19 more"
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + 3
    assert rows[1].startswith(
        "| 🔴 error | IG101 | gain-mismatch | layers.0, layers.1 and 18 more |"
    )
    folds = [line for line in lines if line.startswith("<details>")]
    assert folds == [
        "<details><summary>1. IG101 gain-mismatch: what to do</summary>",
        "<details><summary>2. IG412 precision: what to do</summary>",
        "<details><summary>Profile over depth</summary>",
        "<details><summary>8 rules: 2 found something, 1 passed, 3 not applicable, "
        "1 not selected, 1 broke</summary>",
    ]
    assert lines.count("</details>") == len(folds)


def test_a_healthy_comment_has_no_table():
    text = render(make_healthy(), "markdown")
    assert text.startswith("### 🟢 isograd: healthy\n")
    assert "|---" not in text
    assert "```text\nProfile" in text


def test_words_stay_words(hostile):
    text = render(hostile, "markdown")
    outside = re.sub(r"````*text\n.*?\n````*\n", "", text, flags=re.DOTALL)
    assert "<script" not in outside
    assert "@who" not in outside
    assert "`" not in outside
    # a bar in a name would add a cell to the table
    (row,) = [line for line in outside.splitlines() if line.startswith("| 🔴")]
    assert row.count("|") == 6


def test_a_fence_outlasts_backticks_in_names(hostile):
    text = render(hostile, "markdown")
    fences = re.findall(r"^(`{3,})", text, flags=re.MULTILINE)
    assert len(fences) == 2
    body = text.split(fences[0])[1]
    assert fences[0] not in body


def test_a_comment_of_a_deep_network_fits(deep):
    assert len(render(deep, "markdown")) < 65_536

"""The Markdown form: for a comment on a pull request."""

import re

from isograd.findings import Diagnosis, Finding
from isograd.reporting import _beside as beside
from isograd.reporting import _predicted
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import printable
from isograd.reporting._textplot import profile

WIDTH = 88
"""Columns of the profile; wider ones scroll in a comment."""
MOST = 20
"""Findings told in full: a comment holds 65,536 characters."""

_SIGNS = {"error": "🔴", "warning": "🟡", "info": "🔵", "healthy": "🟢"}
# Whatever Markdown or HTML could act on; an @ would call somebody of that name.
_ACTIVE = re.compile(r"[\\`*_\[\]<>#|~&@$]")


def tell(diagnosis: Diagnosis) -> str:
    """The verdict, a table of findings, and the details folded away."""
    sign = _SIGNS[summary.level(diagnosis)]
    blocks = [
        f"### {sign} isograd: {summary.headline(diagnosis)}",
        _text(summary.first(diagnosis).replace("fix first", "Fix first", 1)),
        _facts(diagnosis),
        *_about(diagnosis),
        _table(diagnosis),
        *(_details(number, f) for number, f in enumerate(diagnosis.findings[:MOST], 1)),
        _folded("Profile over depth", _fenced("\n".join(_profile(diagnosis)))),
        _folded(summary.tally(diagnosis), _silent(diagnosis)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _profile(diagnosis: Diagnosis) -> list[str]:
    predicted = diagnosis.reading.seen.source == "predicted"
    return (_predicted.table if predicted else profile)(diagnosis, WIDTH, lambda text, _: text)


def _about(diagnosis: Diagnosis) -> list[str]:
    seen = diagnosis.reading.seen
    if seen.source != "predicted":
        return []
    return [f"**{label}**: {_text(words)}" for label, words in _predicted.about(seen).items()]


def _facts(diagnosis: Diagnosis) -> str:
    seen = diagnosis.reading.seen
    parts = [summary.subject(seen)]
    parts += [f"loss {text}" for text in [summary.loss(seen)] if text]
    parts += [f"theory, {text}" for text in [beside.told(diagnosis)] if text]
    parts += [f"rehearsal of {text}" for text in [summary.rehearsal(diagnosis)] if text]
    return "  \n".join(_text(part) for part in parts)


def _table(diagnosis: Diagnosis) -> str:
    if not diagnosis.findings:
        return ""
    lines = ["| | rule | cause | where | what |", "|---|---|---|---|---|"]
    for finding in diagnosis.findings:
        cells = (
            f"{_SIGNS[finding.severity.value]} {finding.severity.value}",
            _text(finding.code),
            _text(finding.cause),
            _text(summary.where(finding.sites, 2)),
            _text(finding.message),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _details(number: int, finding: Finding) -> str:
    lines = [f"- **Do:** {_text(remedy)}" for remedy in finding.remedies]
    lines += [f"- Where: {_text(summary.where(finding.sites, 10))}"] if finding.sites else []
    if pairs := summary.evidence(finding):
        lines.append("- Evidence: " + _text(" · ".join(f"{key} {text}" for key, text in pairs)))
    lines += [f"- Explains {_text(s.code)}: {_text(s.message)}" for s in finding.symptoms]
    return _folded(f"{number}. {finding.code} {finding.cause}: what to do", "\n".join(lines))


def _silent(diagnosis: Diagnosis) -> str:
    lines = [
        f"- Not applicable, {_text(', '.join(codes))}: {_text(reason)}"
        for codes, reason in summary.not_applicable(diagnosis)
    ]
    lines += [
        f"- Broke, {_text(code)}: {_text(reason)}"
        for code, reason in summary.by_state(diagnosis).get("failed", [])
    ]
    lines += [f"- {_text(note)}" for note in diagnosis.reading.seen.notes]
    return "\n".join(lines)


def _folded(title: str, body: str) -> str:
    if not body:
        return ""
    return f"<details><summary>{_text(title)}</summary>\n\n{body}\n\n</details>"


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}" if text else ""


def _text(text: str) -> str:
    """Words that stay words, on one line: every active character as an entity."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found.group())};", " ".join(printable(text).split()))

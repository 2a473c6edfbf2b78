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

SIGNS = {"error": "🔴", "warning": "🟡", "info": "🔵", "healthy": "🟢"}
# Whatever Markdown or HTML could act on where it stands; an @ would call somebody of that name, and
# a # with a number is an issue. Inside of words and around a range, they do nothing.
_ACTIVE = re.compile(r"[\\`*<|~&@$]|(?<![A-Za-z0-9])_|#(?=\d)|\](?=[(\[:])|\[(?=\^)|^[>#\[]")


def tell(diagnosis: Diagnosis) -> str:
    """The verdict, a table of findings, and the details folded away."""
    diagnosis = summary.at_the_end(diagnosis)
    sign = SIGNS[summary.level(diagnosis)]
    blocks = [
        f"### {sign} isograd: {summary.headline(diagnosis)}",
        plain(summary.first(diagnosis).replace("fix first", "Fix first", 1)),
        _facts(diagnosis),
        *_about(diagnosis),
        table(diagnosis),
        *(details(number, f) for number, f in enumerate(diagnosis.findings[:MOST], 1)),
        folded("Profile over depth", fenced("\n".join(_profile(diagnosis)))),
        folded(summary.tally(diagnosis), _silent(diagnosis)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _profile(diagnosis: Diagnosis) -> list[str]:
    predicted = diagnosis.reading.seen.source == "predicted"
    return (_predicted.table if predicted else profile)(diagnosis, WIDTH, lambda text, _: text)


def _about(diagnosis: Diagnosis) -> list[str]:
    seen = diagnosis.reading.seen
    if seen.source != "predicted":
        return []
    return [f"**{label}**: {plain(words)}" for label, words in _predicted.about(seen).items()]


def _facts(diagnosis: Diagnosis) -> str:
    seen = diagnosis.reading.seen
    parts = [summary.subject(seen)]
    parts += [f"loss {text}" for text in [summary.loss(seen)] if text]
    parts += [f"theory, {text}" for text in [beside.told(diagnosis)] if text]
    kind = "rehearsal" if summary.course_title(diagnosis) == "Rehearsal" else "run"
    parts += [f"{kind} of {text}" for text in [summary.rehearsal(diagnosis)] if text]
    return "  \n".join(plain(part) for part in parts)


def table(diagnosis: Diagnosis) -> str:
    """The findings as rows."""
    if not diagnosis.findings:
        return ""
    lines = ["| | rule | cause | where | what |", "|---|---|---|---|---|"]
    for finding in diagnosis.findings:
        cells = (
            f"{SIGNS[finding.severity.value]} {finding.severity.value}",
            plain(finding.code),
            plain(finding.cause),
            plain(summary.where(finding.sites, 2)),
            plain(finding.message),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def details(number: int, finding: Finding) -> str:
    """What to do about a finding, folded away."""
    lines = [f"- **Do:** {plain(remedy)}" for remedy in finding.remedies]
    lines += [f"- Where: {plain(summary.where(finding.sites, 10))}"] if finding.sites else []
    if pairs := summary.evidence(finding):
        lines.append("- Evidence: " + plain(" · ".join(f"{key} {text}" for key, text in pairs)))
    lines += [f"- Explains {plain(s.code)}: {plain(s.message)}" for s in finding.symptoms]
    return folded(f"{number}. {finding.code} {finding.cause}: what to do", "\n".join(lines))


def _silent(diagnosis: Diagnosis) -> str:
    lines = [
        f"- Not applicable, {plain(', '.join(codes))}: {plain(reason)}"
        for codes, reason in summary.not_applicable(diagnosis)
    ]
    lines += [
        f"- Broke, {plain(code)}: {plain(reason)}"
        for code, reason in summary.by_state(diagnosis).get("failed", [])
    ]
    lines += [f"- {plain(note)}" for note in diagnosis.reading.seen.notes]
    return "\n".join(lines)


def folded(title: str, body: str) -> str:
    """A body that opens at a click; nothing where it is empty."""
    if not body:
        return ""
    return f"<details><summary>{plain(title)}</summary>\n\n{body}\n\n</details>"


def fenced(text: str, language: str = "text") -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}" if text else ""


def plain(text: str) -> str:
    """Words that stay words, on one line: every active character as an entity."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found.group())};", " ".join(printable(text).split()))

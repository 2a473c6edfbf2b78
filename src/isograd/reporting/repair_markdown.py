"""The Markdown form of a repair: for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from isograd.reporting import _repaired as words
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import counted, printable, short
from isograd.reporting.as_markdown import SIGNS, fenced, folded, plain

if TYPE_CHECKING:
    from isograd.repairs.result import Repair


def tell(repair: Repair) -> str:
    """The verdict, the change, the proof; what was found and what was not kept folded away."""
    blocks = [
        f"### {SIGNS[words.level(repair)]} isograd: {plain(words.headline(repair))}",
        plain(repair.reason),
        "\n".join(_left(repair)),
        plain(f"{summary.subject(repair.before.reading.seen)}; cost: {words.cost(repair)}"),
        "\n".join(f"- {plain(effect)}" for effect in repair.effects),
        fenced(printable_lines(repair.code), "python"),
        _proof(repair),
        folded("Found", _found(repair)),
        folded("Not kept", "\n".join(_skipped(repair))),
        folded("Notes", "\n".join(f"- {plain(note)}" for note in repair.notes)),
    ]
    return "\n\n".join(block for block in blocks if block)


def printable_lines(code: str) -> str:
    """Code without characters that could steer a terminal."""
    return "\n".join(printable(line) for line in code.splitlines())


def _proof(repair: Repair) -> str:
    if not repair.trials:
        return ""
    lines = [
        f"Proof: {plain(repair.measure)} after {counted(words.steps(repair), 'step')}.",
        "",
        "| network | mean and spread | seed by seed |",
        "|---|---|---|",
    ]
    for trial in repair.trials:
        each = ", ".join(short(score) for score in trial.scores)
        lines.append(f"| {plain(trial.treatment)} | {plain(words.seeds(trial))} | {each} |")
    return "\n".join([*lines, "", plain(words.judgement(repair))])


def _found(repair: Repair) -> str:
    lines = []
    for finding in repair.before.findings:
        lines.append(f"- {plain(f'{finding.code} {finding.cause}: {finding.message}')}")
        if not repair.changed:
            lines += [f"  - **Do:** {plain(remedy)}" for remedy in finding.remedies]
    return "\n".join(lines)


def _left(repair: Repair) -> Iterator[str]:
    for finding in words.left(repair):
        yield f"- After the change: {plain(f'{finding.code} {finding.cause}')}"
        for advice in finding.remedies:
            yield f"  - **Yours to do:** {plain(advice)}"


def _skipped(repair: Repair) -> list[str]:
    return [f"- {plain(names)}: {plain(why)}" for names, why in words.not_kept(repair).items()]

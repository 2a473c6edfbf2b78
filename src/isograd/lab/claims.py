"""Every claim of the texts that this project grew from, and what the lab says of each."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from isograd.lab.experiment import Answer, Experiment
from isograd.lab.judging import Check, judge
from isograd.lab.result import Result


@dataclass(frozen=True)
class Claim:
    """One statement, formula, figure or recommendation."""

    id: str
    statement: str
    nothing_to_test: str
    """Why no experiment can say anything of it; empty where one can."""


@cache
def sources() -> Mapping[str, Mapping[str, Claim]]:
    """Claims by id, by the text that they are from, in the order of the text."""
    folder = files("isograd.lab").joinpath("claims")
    told = {}
    for name in ("post", "essay", "lecture", "corrections", "beyond", "headlines"):
        data = tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
        nothing = data.get("nothing-to-test", {})
        told[data["source"]] = {
            key: Claim(key, statement, nothing.get(key, ""))
            for key, statement in data["claims"].items()
        }
    return told


def claims() -> dict[str, Claim]:
    """Every claim by its id."""
    return {key: claim for group in sources().values() for key, claim in group.items()}


def answers(experiments: Iterable[Experiment]) -> dict[str, list[tuple[Experiment, Answer]]]:
    """What the experiments say, by claim."""
    told: dict[str, list[tuple[Experiment, Answer]]] = {}
    for experiment in experiments:
        for answer in experiment.answers:
            told.setdefault(answer.claim, []).append((experiment, answer))
    return told


def missing(experiments: Iterable[Experiment]) -> list[str]:
    """Ids of the claims that no experiment answers though there is something to test."""
    told = answers(experiments)
    return [key for key, claim in claims().items() if not claim.nothing_to_test and key not in told]


def table(experiments: Iterable[Experiment], results: Mapping[str, Result]) -> str:
    """The page of all claims, as Markdown.

    Args:
        experiments: all of them.
        results: by name of the experiment.
    """
    from isograd.lab.pages import rows

    told = answers(experiments)
    parts = [_HEAD]
    for source, group in sources().items():
        cells: list[tuple[str, ...]] = []
        for key, claim in group.items():
            if claim.nothing_to_test:
                why = claim.nothing_to_test
                cells.append((key, claim.statement, "nothing to test", why, "–", "–", "–"))
            elif key not in told:
                cells.append((key, claim.statement, "not shown yet", "–", "–", "–", "–"))
            for experiment, answer in told.get(key, ()):
                cells.append(_row(claim, experiment, answer, results.get(experiment.code)))
        columns = ("", "claim", "verdict", "what holds", "experiment", "expected", "measured")
        parts.append(f"## {source}\n\n{rows(columns, cells)}")
    return "\n\n".join(parts) + "\n"


_HEAD = """# Claims

Every statement, formula, figure and recommendation of the texts that this project grew from, with
the experiment that tests it, the number that has to come out, and the number that came out.
`make gallery` runs the experiments and writes this page; `isograd lab verify` runs and compares
them again."""


def _row(
    claim: Claim, experiment: Experiment, answer: Answer, result: Result | None
) -> tuple[str, ...]:
    checks = [] if result is None else [c for c in judge(experiment, result) if c.claim == claim.id]
    return (
        claim.id,
        claim.statement,
        answer.verdict,
        answer.statement or "As stated.",
        f"[{experiment.code}](gallery/{experiment.code}.md)",
        "<br>".join(f"`{c.number}` {c.wanted}" for c in checks) or "–",
        "<br>".join(_measured(c) for c in checks) or "not run",
    )


def _measured(check: Check) -> str:
    from isograd.lab.pages import number

    return number(check.measured) if check.met else f"**{number(check.measured)}** (missed)"

"""The page of a result: Markdown for the gallery, the same as HTML for a browser."""

import inspect
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from isograd.lab.claims import claims
from isograd.lab.experiment import Experiment
from isograd.lab.judging import judge
from isograd.lab.result import Result, plain

_CSS = """
body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%} table{border-collapse:collapse;margin:1rem 0}
td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:left;vertical-align:top}
code,pre{font:13.5px/1.45 ui-monospace,monospace;background:#f6f6f6} pre{padding:1rem;overflow:auto}
blockquote{border-left:4px solid #0072b2;margin:1rem 0;padding:.1rem 1rem;background:#f3f8fc}
summary{cursor:pointer;font-weight:600}
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}code,pre{background:#2a2a2a}
blockquote{background:#20303c}img{background:#fff}td,th{border-color:#444}}
"""


def page(experiment: Experiment, result: Result, *, picture: str | None = None) -> str:
    """Everything about a result, as Markdown.

    Args:
        experiment: what made it.
        result: of `run`.
        picture: address of the figure; its PNG in the same folder where left out.
    """
    figure = picture or f"{result.experiment}{'-full' if result.scale == 'full' else ''}.png"
    parts = [
        f"# {experiment.question()}",
        experiment.about(),
        f"![{experiment.question()}]({figure})",
        *(f"> {note}" for note in result.notes),
        "## What came out",
        _numbers(experiment, result),
        "## What it says of the claims",
        _answers(experiment, result),
        "## Run it",
        _how(experiment, result),
        _details("All numbers", _everything(result)),
        _details("The code", f"```python\n{inspect.getsource(_module(experiment))}```"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(experiment: Experiment, result: Result) -> str:
    """The same page as HTML, with the figure in it: one file to send or to open."""
    import base64
    import io

    from markdown_it import MarkdownIt

    from isograd.lab import figures

    drawn = io.BytesIO()
    with figures.styled():
        experiment.figure(result).savefig(drawn, format="png", metadata={"Software": None})
    address = f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
    text = page(experiment, result, picture="FIGURE")
    # markdown-it refuses addresses that carry data; the figure is ours.
    body = MarkdownIt("commonmark").enable("table").render(text).replace('"FIGURE"', f'"{address}"')
    title = experiment.question().replace("<", "&lt;")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def rows(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def number(value: float | None) -> str:
    """A number as short as it can be told."""
    return "–" if value is None else f"{value:.6g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numbers(experiment: Experiment, result: Result) -> str:
    checks = judge(experiment, result)
    if not checks:
        return "The settings were changed, so nothing is compared.\n\n" + _everything(result)
    return rows(
        ("", "number", "measured", "expected", "why so near, and no nearer", "claim"),
        (
            (
                "✓" if c.met else "**✗**",
                f"`{c.number}`",
                number(c.measured),
                c.wanted,
                c.why,
                c.claim,
            )
            for c in checks
        ),
    )


def _answers(experiment: Experiment, result: Result) -> str:
    known = claims()
    checks = judge(experiment, result)
    missed = {check.claim for check in checks if not check.met}
    head = "" if checks else "What it shows at its own settings; these were not tested.\n\n"
    return head + rows(
        ("", "claim", "verdict", "what holds"),
        (
            (
                answer.claim,
                known[answer.claim].statement if answer.claim in known else "–",
                "not shown here" if answer.claim in missed else answer.verdict,
                answer.statement or "As stated.",
            )
            for answer in experiment.answers
        ),
    )


def _how(experiment: Experiment, result: Result) -> str:
    words = ["isograd", "lab", "run", result.experiment]
    words += ["--scale", result.scale] if result.scale in ("fast", "full") else []
    if result.scale == "custom":
        own = type(experiment)().settings()
        for key, value in result.settings.items():
            if value != plain(own[key]):
                words += ["--set", f"{key}={_as_text(value)}"]
    usual = experiment.data[-1 if result.scale == "fast" else 0] if experiment.data else None
    words += ["--data", result.data] if result.data and result.data != usual else []
    words += ["--seed", str(result.seed)] if result.seed else []
    words += ["--device", result.device] if result.device != "cpu" else []
    texts = experiment.settings_help()
    made = ", ".join(f"{key} {value}" for key, value in (result.made_with or {}).items())
    ran = f"This page: scale {result.scale}, seed {result.seed}"
    ran += f", {result.data}" if result.data else ""
    table = rows(
        ("setting", "value here", ""),
        ((f"`{k}`", f"`{v}`", texts.get(k, "")) for k, v in result.settings.items()),
    )
    return "\n\n".join(
        [
            f"```\n{' '.join(words)}\n```",
            *([table] if result.settings else []),
            f"{ran}, {result.device} ({made}).",
        ]
    )


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _everything(result: Result) -> str:
    return rows(("number", "value"), ((f"`{k}`", number(v)) for k, v in result.numbers.items()))


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _module(experiment: Experiment) -> ModuleType:
    return sys.modules[type(experiment).__module__]

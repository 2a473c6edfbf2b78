"""An explanation of a prediction as text: one place of a network, operation by operation."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from isograd.reporting._numbers import MISSING, abbreviate, counted, printable, scientific
from isograd.reporting.as_text import NARROWEST, WIDTH, Pen

if TYPE_CHECKING:
    from isograd.prediction.explanation import Explanation, Operation, Term

_COLUMNS = (10, 10, 12)
"""Widths of the numbers at the end of a line."""


def tell(explanation: Explanation, *, width: int | None = None, color: bool = False) -> str:
    """The operations forward, then what each hands on of the gradient.

    Args:
        explanation: as `isograd.prediction.explanation.explain` gave it.
        width: columns.
        color: whether ANSI colors may be used.
    """
    pen = Pen(max(width or WIDTH, NARROWEST), color)
    told = [(i, one) for i, one in enumerate(explanation.operations) if not one.moved]
    numbers = {i: place for place, (i, _) in enumerate(told, 1)}
    left_out = len(explanation.operations) - len(told)
    about = [printable(explanation.label), counted(len(told), "operation")]
    if left_out:
        about.append(f"{left_out} more only lay numbers out anew")
    sources = list(dict.fromkeys(one.source for _, one in told if one.source and not one.sampled))
    lines = [
        f"{pen(printable(explanation.path) or 'the whole model', 'bold')}: {', '.join(about)}",
        "",
        _line(pen, "Forward", ("E x²", "rms", "cosine"), style="bold"),
    ]
    for index, one in told:
        lines += _forward(pen, one, numbers, number=numbers[index], sources=sources)
    if any(_slopes(one) for _, one in told):
        lines += ["", _line(pen, "Backward", ("E g²", "rms", ""), style="bold")]
        for index, one in reversed(told):
            lines += _backward(pen, one, numbers, number=numbers[index])
    lines += ["", pen("Sources", "bold")]
    for number, source in enumerate(sources, 1):
        lines.append(pen.paragraph(source, label=f"[{number}]", style="dim", indent=2))
    return "\n".join(line.rstrip() for line in lines)


def _forward(
    pen: Pen, one: Operation, numbers: dict[int, int], *, number: int, sources: list[str]
) -> Iterator[str]:
    signals = [term for term in one.inputs if term.kind != "weight"]
    for term in signals:
        if term.maker is None or len(signals) > 1:
            yield _line(pen, f"    {_called(term, numbers)}", _forward_numbers(term), style="dim")
    for place, out in enumerate(one.outputs):
        head = f"{number:3} {one.name}" if place == 0 else f"    output {place + 1}"
        where = f"  {printable(one.module)}" if place == 0 else ""
        yield _line(pen, head + where, _forward_numbers(out), style="bold")
    formula = "" if one.sampled else one.formula.replace("^2", "²")
    for text in filter(None, (_arithmetic(one), formula)):
        last = text == formula or not formula
        cited = last and one.source in sources
        reference = f" [{sources.index(one.source) + 1}]" if cited else ""
        yield from _indented(pen, text + reference, style="dim" if text == formula else "")
    if one.sampled:
        yield from _indented(pen, "no rule: estimated by drawing its inputs and running it")


def _arithmetic(one: Operation) -> str:
    """The formula with its numbers, where it is short."""
    weights = [term for term in one.inputs if term.kind == "weight"]
    if one.count is not None:
        signal = next(term for term in one.inputs if term.kind == "signal")
        weight = next(term for term in weights if len(term.shape) > 1)
        shift = "".join(
            f" + E b² {_number(term.energy)}"
            for term in weights
            if len(term.shape) == 1 and term.energy
        )
        law = f" ({weight.law})" if weight.law else ""
        return (
            f"{one.count:.6g} · E x² {_number(signal.energy)} · "
            f"E w² {_number(weight.energy)}{law}{shift} = {_number(one.outputs[0].energy)}"
        )
    signals = [term for term in one.inputs if term.kind == "signal"]
    if len(signals) == 1 and len(one.outputs) == 1 and signals[0].energy > 0:
        return f"E x² × {_number(one.outputs[0].energy / signals[0].energy)}"
    return ""


def _backward(pen: Pen, one: Operation, numbers: dict[int, int], *, number: int) -> Iterator[str]:
    arrived = [out for out in one.outputs if out.gradient is not None]
    if not arrived:
        return
    for place, out in enumerate(arrived):
        head = f"{number:3} {one.name}  {printable(one.module)}" if place == 0 else "    and"
        yield _line(pen, head, _backward_numbers(out.gradient), style="bold")
    if all(term.handed is None for term in one.inputs if term.kind == "signal"):
        yield "    goes straight to what the chain of functions began with"
    for term in one.inputs:
        if term.handed is None:
            continue
        factor = ""
        if len(arrived) == 1 and arrived[0].gradient and term.kind == "signal":
            factor = f"× {_number(term.handed / arrived[0].gradient)}"
        name = f"    to {_called(term, numbers)}"
        yield _line(pen, name, (*_backward_numbers(term.handed)[:2], factor))
        whole = term.gradient
        if whole is not None and not math.isclose(whole, term.handed, rel_tol=1e-6):
            yield _line(pen, "       in all, from every path", _backward_numbers(whole), "dim")


def _slopes(one: Operation) -> bool:
    return any(out.gradient is not None for out in one.outputs)


def _called(term: Term, numbers: dict[int, int]) -> str:
    """`blocks.3.norm 16×64`; `result 3` of an operation above."""
    shape = "×".join(map(str, term.shape)) or "number"
    if term.name:
        return f"{printable(term.name)} {shape}"
    if term.maker is not None and term.maker in numbers:
        return f"result of {numbers[term.maker]}, {shape}"
    return f"{'known values' if term.kind == 'known' else 'input'} {shape}"


def _forward_numbers(term: Term) -> tuple[str, str, str]:
    cosine = MISSING if term.cosine is None else f"{term.cosine:.2f}"
    return _number(term.energy), _number(math.sqrt(max(term.energy, 0.0))), cosine


def _backward_numbers(energy: float | None) -> tuple[str, str, str]:
    if energy is None:
        return MISSING, MISSING, ""
    return _number(energy), _number(math.sqrt(max(energy, 0.0))), ""


def _number(number: float) -> str:
    if number == 0 or not math.isfinite(number):
        return scientific(number)
    return f"{number:.3g}" if 1e-3 <= abs(number) < 1e4 else f"{number:.2e}"


def _line(pen: Pen, name: str, numbers: tuple[str, str, str], style: str = "") -> str:
    room = pen.width - sum(_COLUMNS)
    indent = len(name) - len(name.lstrip())
    if len(name) > room:
        words = name.split(" ")
        longest = max(range(len(words)), key=lambda i: len(words[i]))
        spare = room - (len(name) - len(words[longest]))
        words[longest] = abbreviate(words[longest], max(spare, 8))
        name = " ".join(words)
    text = name[indent:].ljust(room - indent)
    cells = "".join(cell.rjust(size) for cell, size in zip(numbers, _COLUMNS, strict=True))
    return f"{' ' * indent}{pen(text, style) if style else text}{cells}"


def _indented(pen: Pen, text: str, style: str = "") -> Iterator[str]:
    for line in textwrap.wrap(text, pen.width - 4, break_long_words=False):
        yield f"    {pen(line, style) if style else line}"

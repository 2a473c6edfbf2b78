"""Code about a model, in its user's words: names of modules and parameters, short loops."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import indent

import torch
from torch import nn

_LITERAL = 3
"""Names that are written out; more of one pattern become a range."""


_HOMES = {
    "isograd.remedies": (
        "AlignedTargets",
        "Autocast",
        "ClassLabels",
        "FiniteGradient",
        "InUnitsOfTargets",
        "Preprocessed",
        "Scaled",
        "ScaledOutputs",
        "Skip",
        "Standardize",
        "WeightStandardized",
        "WeightedCode",
        "Whiten",
        "lsuv_",
    ),
    "isograd.theory": ("transform",),
}
"""What code may call besides torch, and where it is."""


_IMPORT = re.compile(r"(import|from) \w")


def program(*parts: str) -> str:
    """Code that runs as it stands: the parts, and above them what they need to import."""
    body = "\n".join(part for part in parts if part)
    heads = ["import torch"] if re.search(r"\btorch\.", body) else []
    for home, names in _HOMES.items():
        used = [name for name in names if re.search(rf"\b{name}[(.]", body)]
        if used:
            heads.append(f"from {home} import {', '.join(used)}")
    for module, usual in (("torch", "nn"), ("torch.nn", "functional as F")):
        if re.search(rf"(?<!\.)\b{usual.split()[-1]}\.", body):
            heads.append(f"from {module} import {usual}")
    return "\n".join((*heads, "", body)) if heads else body


def together(programs: Iterable[str]) -> str:
    """Programs one after the other, what they import above them all, once each."""
    heads, bodies = dict[str, None](), []
    for one in programs:
        lines = one.splitlines()
        heads.update(dict.fromkeys(line for line in lines if _IMPORT.match(line)))
        bodies.append("\n".join(line for line in lines if not _IMPORT.match(line)).strip("\n"))
    order = sorted(heads, key=lambda line: line.startswith("from"))
    return "\n".join((*order, "", *bodies)) if heads else "\n".join(bodies)


def loop(variable: str, names: Sequence[str], body: str) -> str:
    """`for variable in names: body`, the names as short as they can be said."""
    if len(names) == 1:
        return re.sub(rf"\b{variable}\b", lambda _: quoted(names[0]), body)
    return f"for {variable} in {listing(names)}:\n{indent(body, '    ')}"


def listing(names: Sequence[str], *, ordered: bool = False) -> str:
    """A tuple of names; those that differ in one counting number as a range.

    Args:
        names: the names.
        ordered: whether their order matters; else it is kept within a pattern only.
    """
    groups = _runs(names) if ordered else list(_patterns(names).values())
    parts = [part for group in groups for part in _parts(group)]
    if len(parts) == 1 and not parts[0].startswith("*"):
        return f"({parts[0]},)"
    if len(parts) == 1:
        return parts[0].removeprefix("*")
    flat = ", ".join(parts)
    if len(flat) < 70:
        return f"({flat})"
    return "(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _pattern(name: str) -> str:
    """A name with its counting parts taken out: those between dots, not the 1 of `linear1`."""
    return ".".join("0" if part.isdigit() else part for part in name.split("."))


def _patterns(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_pattern(name), []).append(name)
    return found


def _runs(names: Iterable[str]) -> list[list[str]]:
    """The same for neighbors only."""
    return [list(group) for _, group in groupby(names, _pattern)]


def _parts(names: list[str]) -> list[str]:
    if len(names) > _LITERAL and not any(c in names[0] for c in "{}\"'\\"):
        pieces = [name.split(".") for name in names]
        differing = [i for i in range(len(pieces[0])) if len({p[i] for p in pieces}) > 1]
        if len(differing) == 1:
            at = differing[0]
            counts = [int(p[at]) for p in pieces]
            step = counts[1] - counts[0]
            even = [counts[0] + k * step for k in range(len(counts))]
            if step > 0 and even == counts and all(str(int(p[at])) == p[at] for p in pieces):
                text = ".".join((*pieces[0][:at], "{i}", *pieces[0][at + 1 :]))
                by = f", {step}" if step > 1 else ""
                start = f"{counts[0]}, " if counts[0] or by else ""
                return [f'*(f"{text}" for i in range({start}{counts[-1] + 1}{by}))']
    return [quoted(name) for name in names]


def where(model: nn.Module, first: str = "") -> str:
    """Keywords that make a new module's parameters like the model's; empty for the usual ones.

    Args:
        model: the model.
        first: what stands before them where there are any, such as a comma.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    parts = []
    if like is not None and like.device.type != "cpu":
        parts.append(f'device="{like.device}"')
    if like is not None and like.dtype != torch.float32:
        parts.append(f"dtype={like.dtype}")
    return first + ", ".join(parts) if parts else ""


def quoted(name: str) -> str:
    """A name as Python writes it, in double quotes."""
    return json.dumps(name)


def number(value: float) -> str:
    """A number of code: 6 digits, which no draw can tell from more."""
    return f"{value:.6g}"

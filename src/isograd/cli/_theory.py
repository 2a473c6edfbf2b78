"""`isograd theory …`: which activation is meant, and how its numbers are told."""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from isograd.cli import _options, _targets
from isograd.cli._theory_words import GAINS
from isograd.errors import InputError

if TYPE_CHECKING:
    from isograd.theory import Activation

FORMS = ("text", "json", "csv")
POINTS = 80
"""Of a grid, on either side: fine enough for a figure, a fraction of a second to compute."""
MOST_POINTS = 1000

Row = Mapping[str, Any]


def params(words: Iterable[str]) -> dict[str, Any]:
    """Parameters of an activation from words such as `negative_slope=0.2` and `kinks=-1,1`.

    Raises:
        InputError: a word without a name or value, or a name given twice.
    """
    found: dict[str, Any] = {}
    for name, text in _options.named(words, "--param", "negative_slope=0.2").items():
        numbers = tuple(_number(part) for part in text.split(","))
        plain = [number for number in numbers if number is not None]
        if len(plain) < len(numbers):
            found[name] = text
        else:
            found[name] = tuple(plain) if len(plain) > 1 or name == "kinks" else plain[0]
    return found


def activation(text: str, words: Iterable[str]) -> "Activation":
    """The activation that ACTIVATION and --param name.

    Args:
        text: a name, or a target (`file.py:name`, `package.module:name`) of a torch module, its
            class or an elementwise callable.
        words: of --param.

    Raises:
        InputError: there is no such activation or parameter, or it is not elementwise or finite.
        TargetError: a target that cannot be found.
    """
    settings = params(words)
    target = _targets.locate(text, "ACTIVATION") if ":" in text else None
    from isograd.theory import activation

    if target is None:
        return activation(text, **settings)
    found = _targets.load(target)
    with _targets.importable(target):  # its own imports may come as late as its first call
        return activation(found, **settings)


def span(text: str, what: str) -> tuple[float, float, int]:
    """(from, to, points) of an even grid, from words such as `0.5:4` and `0.5:4:50`.

    Raises:
        InputError: not of that form, or not rising.
    """
    parts = [_number(part) for part in text.split(":")]
    found = [part for part in parts if part is not None and math.isfinite(part)]
    if len(found) != len(parts) or len(found) not in (2, 3):
        raise InputError(f"{what}: {text!r} is no range; write from:to or from:to:points, as 0.5:4")
    low, high, points = (*found, POINTS)[:3]
    if not 0 <= low < high or points != int(points) or not 2 <= points <= MOST_POINTS:
        raise InputError(
            f"{what}: {text!r} is no grid; it rises from 0 or more, in 2 to {MOST_POINTS} points"
        )
    return low, high, int(points)


def fields(data: Any, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """The public fields of a result, in order, as plain values: arrays become lists."""
    return {
        field.name: plain(getattr(data, field.name))
        for field in dataclasses.fields(data)
        if not field.name.startswith("_") and field.name not in without
    }


def plain(value: Any) -> Any:
    """Numbers, words, lists and dicts; `None` for what is masked or NaN."""
    if dataclasses.is_dataclass(value):
        return fields(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def tell(form: str, headline: str, row: Row, meanings: Mapping[str, str]) -> None:
    """One result in one of FORMS."""
    if form == "json":
        tell_json(row)
    elif form == "csv":
        tell_csv([row])
    else:
        tell_text(headline, row, meanings)


def tell_line(form: str, name: str, line: Mapping[str, Any]) -> None:
    """A critical line, given as columns, in one of FORMS."""
    if form == "json":
        tell_json({"activation": name, **line})
        return
    rows = [dict(zip(line, point, strict=True)) for point in zip(*line.values(), strict=True)]
    if form == "csv":
        tell_csv(rows)
    else:
        click.echo(f"{name}: where gradients keep their size (chi_1 = 1), by length\n")
        tell_table(rows)


def tell_gains(form: str) -> None:
    """The table of all activations, in one of FORMS."""
    from isograd.theory import gains
    from isograd.theory.activations import NAMES

    rows = [{"activation": name, **fields(gains(name))} for name in NAMES]
    if form == "json":
        tell_json(rows)
    elif form == "csv":
        tell_csv(rows)
    else:
        click.echo("Gains for an input of variance 1: second_moment keeps the signal, std keeps it")
        click.echo("where the mean is taken off, slope keeps the gradient.\n")
        for row in rows:  # a dash says already that torch has no number
            row["remark"] = "" if row["torch_gain"] is None else row["remark"]
        tell_table([{key: row[key] for key in ("activation", *GAINS, "remark")} for row in rows])


def tell_map(name: str, weight_vars: Any, bias_vars: Any, phases: Any) -> None:
    """A phase diagram in letters, and how much of it is what."""
    import numpy as np

    found = np.array(plain(phases), dtype=object)
    shares = {kind: float((found == kind).mean()) for kind in _LETTERS}
    told = [
        f"{share:.0%} {kind or _NOTHING}"
        for kind, share in shares.items()
        if share >= 0.005  # the critical line has no area
    ]
    click.echo(f"{name}: {', '.join(told)}\n")
    columns = np.unique(np.linspace(0, len(weight_vars) - 1, 60).round().astype(int))
    rows = np.unique(np.linspace(0, len(bias_vars) - 1, 16).round().astype(int))
    click.echo("  bias_var")
    for j in reversed(rows):
        letters = "".join(_LETTERS[found[i, j]] for i in columns)
        click.echo(f"  {bias_vars[j]:>8.4g}  {letters}".rstrip())
    low, high = f"{weight_vars[0]:.4g}", f"{weight_vars[-1]:.4g}"
    click.echo(f"  {'':8}  {low}{high:>{max(len(columns) - len(low), 1)}}  weight_var\n")
    legend = [f"{letter} {kind or _NOTHING}" for kind, letter in _LETTERS.items() if shares[kind]]
    click.echo(f"  {', '.join(legend)}")


_NOTHING = "without a stable length"
_LETTERS = {"ordered": "o", "critical": "=", "chaotic": "#", None: "·"}


def grid(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per point of a phase diagram."""
    arrays = {key: rows for key, rows in columns.items() if rows and isinstance(rows[0], list)}
    return [
        {"weight_var": weight, "bias_var": bias, **{k: rows[i][j] for k, rows in arrays.items()}}
        for i, weight in enumerate(columns["weight_vars"])
        for j, bias in enumerate(columns["bias_vars"])
    ]


def tell_table(rows: Sequence[Row]) -> None:
    """Columns under their names; numbers to the right."""
    table = [list(rows[0]), *([short(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = [any(isinstance(row[name], float) for row in rows) for name in rows[0]]
    for line in table:
        cells = [
            f"{cell:>{width}}" if numeric else f"{cell:<{width}}"
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ]
        click.echo(f"  {'  '.join(cells)}".rstrip())


def tell_json(data: Any) -> None:
    """Strict JSON: the infinities are the strings "inf" and "-inf", as in run files."""
    click.echo(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False))


def tell_csv(rows: Sequence[Row]) -> None:
    """One line per row, full precision; an empty cell where there is no number, lists left out."""
    out = io.StringIO()
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    click.echo(out.getvalue(), nl=False)


def tell_text(headline: str, row: Row, meanings: Mapping[str, str]) -> None:
    """A verdict in words, then each number of `meanings` with what it means."""
    click.echo(f"{headline}\n")
    shown = {name: short(row[name]) for name in meanings if name in row}
    names = max(map(len, shown), default=0)
    numbers = max(map(len, shown.values()), default=0)
    for name, text in shown.items():
        click.echo(f"  {name:<{names}}  {text:<{numbers}}  {meanings[name]}")


def short(value: Any) -> str:
    """A value of a table: six digits; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def setting(name: str, **numbers: float | None) -> str:
    """`tanh, weight variance 1.5, bias variance 0.05`."""
    told = [f"{k.replace('_', ' ')} {v:.6g}" for k, v in numbers.items() if v is not None]
    return ", ".join([name, *(re.sub(r" var\b", " variance", word) for word in told)])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _flat(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{key}": item for key, item in _flat(value).items()}
        elif not isinstance(value, (list, tuple)):
            found[name] = value
    return found

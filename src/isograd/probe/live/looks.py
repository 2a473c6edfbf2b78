"""A later look: rows of sums as a Record with the sites of the first one."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from isograd.probe.live.payload import Payload
from isograd.probe.live.sheet import Sheet
from isograd.records import Number, Record
from isograd.statistics import COLUMNS, SUMS, derive

_KEYS = "count nonfinite zero positive mean rms abs_mean kurtosis min max".split()
_BELOW, _ABOVE = COLUMNS.index("below"), COLUMNS.index("above")
_SCALED = tuple(COLUMNS.index(name) for name in ("scale", "min", "max"))


def record_of(sheet: Sheet, payload: Payload, step: int) -> Record:
    """The Record of one look.

    Args:
        sheet: of the first look.
        payload: of this step, all processes together; gradients as the loss scale and the number
            of processes left them. Facts `factor.backward` and `factor.gradients` say by what
            gradients are to be multiplied.
        step: steps done before.
    """
    facts = dict(payload.facts)
    back, grads = facts.pop("factor.backward", 1.0), facts.pop("factor.gradients", 1.0)
    series: dict[str, Sequence[Number]] = dict(sheet.fixed)
    rows = payload.rows
    series.update(_columns("forward", rows["forward"], _KEYS))
    series.update(_columns("backward", times(rows["backward"], back), _KEYS))
    series.update(_forward_shares(sheet, rows["forward"].tolist(), payload.flags))
    series.update(_weights(sheet, rows, grads))
    for key, tensor in rows.items():
        if "." in key:
            series[key] = [n if math.isfinite(n) else None for n in tensor.tolist()]
    loss = facts.pop("loss", None)
    if loss is not None:
        facts["loss.value"] = loss
    # What was read nowhere in this step, such as the sites of a branch not taken, has no numbers.
    return Record(
        sheet.sites,
        sheet.parameters,
        {key: tuple(column) for key, column in series.items()},
        facts=facts,
        step=step,
    )


def times(table: Tensor, factor: float) -> Tensor:
    """Rows of the same tensors multiplied by a positive factor."""
    if factor == 1.0:
        return table
    table = table.clone()
    for column in _SCALED:
        table[:, column] *= factor
    return table


def _columns(side: str, table: Tensor, keys: Sequence[str]) -> dict[str, list[Number]]:
    found: dict[str, list[Number]] = {f"{side}.{key}": [] for key in keys}
    for row in table[:, : len(SUMS)].tolist():
        values: dict[str, Number] = derive(row) if row[0] else {}
        for key in keys:
            found[f"{side}.{key}"].append(values.get(key))
    return found


def _forward_shares(
    sheet: Sheet, table: list[list[float]], flags: Tensor
) -> dict[str, list[Number]]:
    saturated: list[Number] = []
    dead: list[Number] = []
    place = 0
    for row, asked in zip(table, sheet.places(), strict=True):
        count = row[0]
        flat = (row[_BELOW] + row[_ABOVE]) / count if count else None
        told = asked.low is not None or asked.high is not None
        saturated.append(flat if told else None)
        own = flags[place : place + asked.units]
        place += asked.units
        seen = int((own > 0).sum())
        dead.append(int((own == 1).sum()) / seen if seen else None)
    return {"forward.saturated": saturated, "forward.dead": dead}


def _weights(sheet: Sheet, rows: dict[str, Tensor], factor: float) -> dict[str, list[Number]]:
    keys = "mean rms max nonfinite gain grad_rms grad_nonfinite update_ratio".split()
    found: dict[str, list[Number]] = {f"weight.{key}": [] for key in keys}
    fans = sheet.fixed.get("weight.fan_in", (None,) * len(sheet.parameters))
    whole, gradients = rows["weights"], times(rows["gradients"], factor)
    for weight, gradient, moved, fan in zip(
        whole[:, : len(SUMS)].tolist(),
        gradients[:, : len(SUMS)].tolist(),
        rows["moved"].tolist(),
        fans,
        strict=True,
    ):
        values = _of_weight(weight, moved)
        if fan and values.get("rms") is not None:
            values["gain"] = values["rms"] * math.sqrt(fan)  # type: ignore[operator]
        if gradient[0]:
            of = derive(gradient)
            values["grad_rms"], values["grad_nonfinite"] = of["rms"], of["nonfinite"]
        for key in keys:
            found[f"weight.{key}"].append(values.get(key))
    return found


def _of_weight(whole: list[float], moved: list[float]) -> dict[str, Number]:
    squares, change, entries = moved
    values: dict[str, Number] = {}
    if whole[0]:
        of = derive(whole)
        values = {key: of[key] for key in ("mean", "rms", "nonfinite")}
        if of["min"] is not None and of["max"] is not None:
            values["max"] = max(abs(of["min"]), abs(of["max"]))
    elif entries and math.isfinite(squares):
        values["rms"] = math.sqrt(squares / entries)
    elif entries:
        values["nonfinite"] = 1.0  # at least
    if squares > 0 and math.isfinite(squares) and math.isfinite(change):
        values["update_ratio"] = math.sqrt(change / squares)
    return values


def spread_out(found: dict[int, Tensor], rows: int, device: torch.device) -> Tensor:
    """Numbers of some sites as a column, NaN for the others."""
    column = torch.full((rows,), math.nan, dtype=torch.float64, device=device)
    if found:
        values = torch.stack([found[i].double().to(device) for i in found])
        column[torch.tensor(list(found), device=device)] = values
    return column


_OF_FIRST = ("forward.saturated", "forward.dead", "forward.correlation")
"""Columns that the first look takes another way."""


def joined(first: Record, record: Record) -> Record:
    """The first look with what other processes and the update that followed add to it."""
    more = {key: column for key, column in record.series.items() if key not in _OF_FIRST}
    return replace(first, series={**first.series, **more}, facts={**first.facts, **record.facts})

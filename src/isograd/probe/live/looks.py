"""A later look: rows of sums as a Record with the sites of the first one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isograd.probe.live.payload import Payload
from isograd.probe.live.sheet import Sheet
from isograd.records import Number, Record
from isograd.statistics import COLUMNS, SUMS

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
    parts = {
        "forward": (rows["forward"], _OF_SITES),
        "backward": (times(rows["backward"], back), _OF_SITES),
        "weights": (rows["weights"], _OF_WEIGHTS),
        "gradients": (times(rows["gradients"], grads), _OF_GRADIENTS),
    }
    if "inputs" in rows:
        parts["inputs"] = (rows["inputs"], _OF_INPUTS)
    # All at once: what numpy does to a few hundred numbers costs by the call.
    columns = _columns(torch.cat([part for part, _ in parts.values()]))
    start, of = 0, {}
    for name, (part, keys) in parts.items():
        end = start + len(part)
        of[name] = {key: _numbers(columns[key][start:end]) for key in keys}
        start = end
    for side in ("forward", "backward"):
        series.update({f"{side}.{key}": column for key, column in of[side].items()})
    series.update(_forward_shares(sheet, rows["forward"], payload.flags))
    series.update(_weights(sheet, of["weights"], of["gradients"], rows["moved"]))
    for key, tensor in rows.items():
        if "." in key:
            series[key] = [n if math.isfinite(n) else None for n in tensor.tolist()]
    facts.update(_of_batch(**of.get("inputs", {})))
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


_OF_SITES = "count nonfinite zero positive mean rms abs_mean kurtosis min max".split()
_OF_WEIGHTS = "nonfinite mean rms min max".split()
_OF_GRADIENTS = "nonfinite rms".split()
_OF_INPUTS = "mean rms".split()


def _columns(table: Tensor) -> dict[str, Any]:
    """The same numbers as `statistics.derive` has, of all rows at once; NaN: none."""
    of = dict(zip(SUMS, table[:, : len(SUMS)].numpy().T, strict=True))
    with np.errstate(all="ignore"):
        count, finite = of["count"], of["count"] - of["nonfinite"]
        none = np.where(finite > 0, 0.0, np.nan)
        square = of["sum_sq"] / finite
        return {
            "count": np.where(count > 0, count, np.nan),
            "nonfinite": np.where(count > 0, of["nonfinite"], np.nan),
            "zero": of["zero"] / count,
            "positive": of["positive"] / count,
            "mean": of["sum"] / finite * of["scale"],
            "rms": np.sqrt(square) * of["scale"],
            "abs_mean": of["sum_abs"] / finite * of["scale"],
            "kurtosis": np.where(square > 0, of["sum_4"] / finite / square**2, np.nan),
            "min": of["min"] + none,
            "max": of["max"] + none,
        }


def _numbers(column: Any) -> list[Number]:
    """NaN as None."""
    return [None if n != n else n for n in column.tolist()]


def _of_batch(mean: Sequence[Number] = (), rms: Sequence[Number] = ()) -> dict[str, float]:
    """Facts of the inputs of this step, where there were any that are no ids."""
    if not mean or mean[0] is None or rms[0] is None:
        return {}
    std = math.sqrt(max(0.0, rms[0] ** 2 - mean[0] ** 2))
    return {"batch.mean": mean[0], "batch.rms": rms[0], "batch.std": std}


def _forward_shares(sheet: Sheet, table: Tensor, flags: Tensor) -> dict[str, list[Number]]:
    flat = (table[:, _BELOW] + table[:, _ABOVE]) / table[:, 0]
    saturated = [
        share if told and share == share else None
        for share, told in zip(flat.tolist(), sheet.told, strict=True)
    ]
    dead: list[Number] = [None] * len(saturated)
    raised = flags.numpy()
    if raised.any():
        seen, flat_units = (
            np.add.reduceat(found, sheet.starts, dtype=np.int64).tolist()
            for found in (raised > 0, raised == 1)
        )
        for row, count, without in zip(sheet.told_apart, seen, flat_units, strict=True):
            dead[row] = without / count if count else None
    return {"forward.saturated": saturated, "forward.dead": dead}


def _weights(
    sheet: Sheet,
    weights: Mapping[str, list[Number]],
    gradients: Mapping[str, list[Number]],
    moved: Tensor,
) -> dict[str, list[Number]]:
    found = {f"weight.{key}": weights[key] for key in ("mean", "rms", "nonfinite")}
    found["weight.max"] = [
        None if a is None or b is None else max(abs(a), abs(b))
        for a, b in zip(weights["min"], weights["max"], strict=True)
    ]
    found["weight.grad_rms"] = gradients["rms"]
    found["weight.grad_nonfinite"] = gradients["nonfinite"]
    ratios: list[Number] = []
    for index, (squares, change, entries) in enumerate(moved.tolist()):
        good = math.isfinite(squares) and math.isfinite(change)
        ratios.append(math.sqrt(change / squares) if good and squares > 0 else None)
        if not entries or found["weight.rms"][index] is not None:
            continue
        if math.isfinite(squares):  # between two whole readings that of the sample
            found["weight.rms"][index] = math.sqrt(squares / entries)
        else:
            found["weight.nonfinite"][index] = 1.0  # at least
    found["weight.update_ratio"] = ratios
    fans = sheet.fixed.get("weight.fan_in", (None,) * len(ratios))
    found["weight.gain"] = [
        None if rms is None or not fan else rms * math.sqrt(fan)
        for rms, fan in zip(found["weight.rms"], fans, strict=True)
    ]
    return found


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

"""Measured tables: what an architecture does at initialization, over many draws; kept as JSON.

The reference of a site is the square root of its mean energy over the draws of weights and batch.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import isograd
from isograd.records import Number, Record
from patients.architectures.family import Family

FOLDER = Path(__file__).parent / "measured"
DRAWS = 3
"""Draws whose own rms is kept of every site, beside that of them all."""
KEYS = "forward.rms", "forward.mean", "forward.correlation", "backward.rms", "weight.grad_rms"


@dataclass(frozen=True)
class Rms:
    """Root mean square of one quantity, over draws."""

    rms: Number
    """Square root of the mean energy; `None` where nothing was measured."""
    spread: Number
    """Standard deviation of ln rms over the draws; `None` for a single one, or where one is 0."""
    draws: tuple[Number, ...]
    """ln(rms of one draw / `rms`) of the first draws."""


@dataclass(frozen=True)
class SiteRow:
    """One site of a measured table."""

    name: str
    label: str
    forward: Rms
    mean: Number
    correlation: Number
    backward: Rms

    @property
    def is_module(self) -> bool:
        """Whether it is the output of a leaf module, not of an operation in a forward."""
        return ":" not in self.name


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a measured table."""

    name: str
    kind: str
    gradient: Rms

    @property
    def is_weight(self) -> bool:
        """Whether it is a matrix, kernel or embedding, not a bias, scale or other."""
        return self.kind in ("linear", "conv", "recurrent", "embedding")


@dataclass(frozen=True)
class Measured:
    """The measured side of one architecture."""

    name: str
    seeds: int
    inputs: str
    versions: dict[str, str]
    sites: tuple[SiteRow, ...]
    parameters: tuple[ParameterRow, ...] = field(default=())


def draw(family: Family, seed: int) -> Record:
    """One network with one batch, measured in train mode; no targets, so by random probes."""
    # Three seeds, never one: batch and probe of one shape would be the same numbers.
    weights, batch, probe = range(3 * seed, 3 * seed + 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights)
        return isograd.measure(family.build(), family.batch(batch), family.loss, seed=probe)


def measure(name: str, family: Family) -> Measured:
    """The table of one architecture, from all its draws."""
    first = draw(family, 0)
    # Thousands of whole records would take gigabytes.
    kept = [key for key in KEYS if key in first.series]
    draws = [{key: first.series[key] for key in kept}]
    for seed in range(1, family.seeds):
        record = draw(family, seed)
        if [s.name for s in record.sites] != [s.name for s in first.sites]:
            raise RuntimeError(f"{name}: two draws have different sites")
        draws.append({key: record.series[key] for key in kept})
    sites = [
        SiteRow(
            site.name,
            site.label,
            rms_over([one["forward.rms"][place] for one in draws]),
            average([one["forward.mean"][place] for one in draws]),
            average([one["forward.correlation"][place] for one in draws]),
            rms_over([one["backward.rms"][place] for one in draws]),
        )
        for place, site in enumerate(first.sites)
    ]
    gradients = first.parameters if "weight.grad_rms" in kept else ()
    parameters = [
        ParameterRow(
            parameter.name,
            parameter.kind,
            rms_over([one["weight.grad_rms"][place] for one in draws], kept=0),
        )
        for place, parameter in enumerate(gradients)
    ]
    return Measured(
        name,
        family.seeds,
        described(family.batch(0)),
        versions(),
        tuple(sites),
        tuple(parameters),
    )


def rms_over(values: Sequence[Number], kept: int = DRAWS) -> Rms:
    """The rms of several draws, the first of which are kept."""
    known = [v for v in values if v is not None]
    if not known:
        return Rms(None, None, ())
    rms = math.sqrt(sum(v * v for v in known) / len(known))
    if not rms or min(known) == 0:
        return Rms(rms, None, ())
    logs = [math.log(v / rms) for v in known]
    middle = sum(logs) / len(logs)
    variance = sum((v - middle) ** 2 for v in logs) / max(1, len(logs) - 1)
    return Rms(rms, math.sqrt(variance) if len(logs) > 1 else None, tuple(logs[:kept]))


def average(values: Sequence[Number]) -> Number:
    """Mean of what is known; `None` for nothing."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else None


def described(batch: Any) -> str:
    """Types and shapes of a batch."""
    named = batch if isinstance(batch, dict) else {"": batch}
    return ", ".join(
        f"{key} {str(value.dtype).removeprefix('torch.')}{list(value.shape)}".strip()
        for key, value in named.items()
    )


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    from importlib.metadata import version

    return {package: version(package) for package in ("torch", "transformers")}


def path_of(name: str) -> Path:
    """Where the table of an architecture is kept."""
    return FOLDER / f"{name}.json"


def save(table: Measured) -> None:
    """Writes a table, one row a line, so that a difference can be read."""
    head = {"name": table.name, "seeds": table.seeds, "inputs": table.inputs, **table.versions}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in (("sites", table.sites), ("parameters", table.parameters)):
        short = ("  " + json.dumps(_flat(row), separators=(",", ":")) for row in rows)
        lines.append(f' "{key}": [\n' + ",\n".join(short) + "\n ]")
    FOLDER.mkdir(exist_ok=True)
    path_of(table.name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _flat(row: SiteRow | ParameterRow) -> list[Any]:
    """A row as a list, numbers rounded to what they are worth."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            draws = [round(one, 3) for one in value["draws"]]
            return [
                digits(value["rms"], 5),
                digits(value["spread"], 2),
                *([draws] if draws else []),
            ]
        return digits(value, 4) if isinstance(value, float) else value

    return [rounded(value) for value in asdict(row).values()]


def digits(value: Number, count: int) -> Number:
    """The value with so many significant digits."""
    return None if value is None else float(f"{value:.{count}g}")


def load(name: str) -> Measured:
    """Reads a table.

    Raises:
        FileNotFoundError: it was never measured.
    """
    plain = json.loads(path_of(name).read_text())
    sites = [
        SiteRow(row[0], row[1], _rms(row[2]), row[3], row[4], _rms(row[5]))
        for row in plain["sites"]
    ]
    parameters = [ParameterRow(row[0], row[1], _rms(row[2])) for row in plain["parameters"]]
    known = {key: plain[key] for key in ("torch", "transformers")}
    return Measured(
        plain["name"], plain["seeds"], plain["inputs"], known, tuple(sites), tuple(parameters)
    )


def _rms(plain: list[Any]) -> Rms:
    return Rms(plain[0], plain[1], tuple(plain[2]) if len(plain) > 2 else ())

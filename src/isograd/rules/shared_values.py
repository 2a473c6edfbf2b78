"""Layers that start as copies of each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain
from isograd.rules._numbers import words
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class SharedValues(Rule):
    """Layers share their initial values.

    Sees: different parameters that hold the same drawn numbers when the network is looked at;
        biases and norms that are all zeros or ones are left out.

    Matters: nn.TransformerEncoder and copy.deepcopy copy one layer, draws included. The copies
        answer alike, so that their contributions to a residual stream add up in step and not as
        independent ones do: signal and gradient grow faster over depth than the initialization
        was made for, and theory for independent layers is off. They part ways during training,
        since their gradients differ.

    Wrong when: the copy is meant, as that of a teacher or of a target network is, or the layers
        were loaded from a trained network that shares them.

    Do: draw each copy anew before training, layer by layer.
    """

    code: ClassVar[str] = "IG702"
    rank: ClassVar[int] = 69

    copies: int = 2
    """Parameters of the same values from which it is told: draws are never the same by chance."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks for groups of parameters that are the same."""
        record = reading.seen if reading.seen.source == "predicted" else reading.expected
        found = None if record is None else record.fact("prediction.same_values")
        if record is None or not isinstance(found, (list, tuple)):
            return NotApplicable("nothing was predicted, which compares weights with each other")
        groups = [group for given in found if len(group := words(given)) >= self.copies]
        if not groups:
            return Passed(f"the {len(record.parameters)} parameters share no drawn values")
        largest = max(groups, key=len)
        layers, inner = parted(largest)
        several = [group for group in groups if len(group) == len(largest)]
        total = sum(len(group) for group in groups)
        return Finding(
            self.code,
            Severity.INFO,
            "shared-initialization",
            f"{len(layers)} layers share their initial values: {_some(layers)}"
            f"{f' ({inner}' + (' and others' if len(several) > 1 else '') + ')' if inner else ''}"
            f"; {total} of {len(record.parameters)} parameters are copies.",
            largest,
            {"layers": list(layers), "groups": len(groups), "parameters": total},
            (
                f"Draw each copy anew before training: for layer in ({_some(layers)}): "
                "layer.apply(lambda m: m.reset_parameters() if hasattr(m, 'reset_parameters') "
                "else None); attention layers of torch have _reset_parameters().",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """Six layers that were copied from one."""
        return _example([f"layers.{i}.weight" for i in range(6)])

    @staticmethod
    def well() -> Reading:
        """Six layers that were drawn one by one."""
        return _example([])


def parted(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Names as what differs, and the end that all share: (layers.0, layers.1) and fc.weight."""
    parts = [name.split(".") for name in names]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[-1 - shared] for p in parts}) == 1:
        shared += 1
    heads = tuple(".".join(p[: len(p) - shared]) for p in parts)
    return heads, ".".join(parts[0][len(parts[0]) - shared :])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} … {names[-1]}"


def _example(group: list[str]) -> Reading:
    seen = chain(6)
    facts = {"prediction.same_values": [group] if group else []}
    return Reading(seen, replace(chain(6, facts=facts), source="predicted"))

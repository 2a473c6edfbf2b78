"""preprocess-targets: targets of mean zero and unit variance, outputs in their own units."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from isograd.errors import DataError
from isograd.remedies._activations import RANGES, last_activation
from isograd.remedies._code import number, program
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import Parts, gathered
from isograd.remedies._losses import AlignedTargets
from isograd.remedies._preprocessing import Standardize
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch
from isograd.sites.randomness import reseed

_LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}
_UNITS = {
    "mse": "In training, as in the curves of the proof, the loss is in units of the targets' "
    "variance; scores are in yours.",
    "l1": "In training, as in the curves of the proof, the loss is in units of the targets' "
    "standard deviation; scores are in yours.",
}
_KEYS = "The model's keys begin with `model.`; new are `mean` and `std`."


@dataclass(frozen=True)
class PreprocessTargets(Remedy):
    """Standardize the targets.

    Does: puts behind the model what scales its output back to the targets' mean and standard
        deviation, and divides outputs and targets by the latter inside the loss: the model learns
        numbers of order 1, and what it returns is in your units as before. What a last activation
        can give (0 to 1 of a sigmoid) is mapped onto the targets' range, from the least of them to
        the largest; a rectifier, which has no upper end, keeps its 0.

    Needs: a regression (squared or absolute error) whose targets' rms is off by `off`, or a finding
        about them, or targets beyond what a last activation can give, and a model that returns
        one tensor. Behind a rectifier, targets that are never negative; behind a bounded activation
        targets that have two ends as well.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.5; Bishop 1995, Neural networks for
        pattern recognition, section 8.2.
    """

    code: ClassVar[str] = "preprocess-targets"
    family: ClassVar[str] = "preprocessing"
    addresses: ClassVar[tuple[str, ...]] = (
        "target-not-normalized", "output-activation", "lr-too-high", "lr-too-low",
    )  # fmt: skip

    off: float = 10.0
    """Factor from 1 of the targets' rms: gradients of a squared error are off by as much."""
    ends: float = 4.0
    """Standard deviations over which numbers between two ends spread at most: uniform ones over
    3.5, two values over 2; 64 Gaussian ones over 4.7."""
    alike: float = 1e-3
    """Part of their rms by which the means of two sets of numbers differ that are not the same."""
    samples: int = 1024
    """Of which mean and standard deviation are taken, if the data has as many: they are known to a
    thirty-second of the standard deviation, which is also the unit of the loss."""
    written: int = 16
    """Columns whose numbers stand in the code; those of more are fitted where the code runs."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the targets and the loss."""
        record = case.record
        kind, target = record.fact("loss.kind"), record.fact("target.kind")
        if kind not in ("mse", "l1") or target != "real":
            return f"the loss is {kind or 'none'} with targets that are {target or 'absent'}"
        targets = as_batch(case.batch).targets
        shape = tuple(record.fact("output.shape") or ())
        if not isinstance(targets, Tensor) or not _meet(targets, shape, case.loss):
            return "the targets of the batch have not the shape of the outputs"
        mean, std = record.fact("target.mean") or 0.0, record.fact("target.std") or 0.0
        rms = math.hypot(mean, std)
        if std == 0:
            return "the targets are constant"
        ends = _ends(case)
        if isinstance(ends, str):
            return ends
        least, most = record.fact("target.min") or 0.0, record.fact("target.max") or 0.0
        beyond = ends is not None and (least < ends[0] or most > ends[1])
        usual = 1 / self.off <= rms <= self.off and not case.has("target-not-normalized")
        if usual and not (beyond and case.has("output-activation", "dead-output")):
            return f"the targets have rms {number(rms)}"
        own = math.isclose(mean, float(targets.double().mean()), abs_tol=self.alike * rms)
        if ends is not None:
            return self._onto_range(case, kind, targets, ends, own=own)
        effect = _effect(mean, std)
        if not own:
            return Plan(
                self.code,
                effect,
                program(
                    f"model = ScaledOutputs(model, torch.tensor({mean:.6g}), "
                    f"torch.tensor({std:.6g}))"
                ),
                keys=_KEYS,
                notes=(
                    "Mean and standard deviation are those of what the loss makes of the "
                    "targets of one batch.",
                ),
            )
        if targets.ndim > 1 and targets.shape[-1] > self.written:
            return self._fitted(case, kind, effect, f"({targets.ndim - 1},)")
        parts = _parts_of(case, targets, self.samples)
        mean_told, std_told = _numbers_of(parts)
        values = torch.cat([part.double().flatten() for part in parts])
        effect = _effect(float(values.mean()), float(values.std(correction=0)))
        loss = "loss" if case.loss else f"F.{_LOSSES[kind].__name__}"
        return Plan(
            self.code,
            effect,
            program(
                f"std = {std_told}",
                f"model = ScaledOutputs(model, {mean_told}, std)",
                f"loss = InUnitsOfTargets({loss}, std)",
            ),
            keys=_KEYS,
            given={"loss": case.loss},
            notes=(
                _UNITS[kind],
                f"Mean and standard deviation are those of {sum(map(len, parts))} samples.",
            ),
        )

    def _onto_range(
        self, case: Case, kind: str, targets: Tensor, ends: tuple[float, float], *, own: bool
    ) -> Plan | str:
        """Maps what a last activation can give onto the range of the targets.

        Args:
            case: the network.
            kind: of loss, a key of _LOSSES.
            targets: of the batch.
            ends: least and largest that the activation can give.
            own: whether the loss compares with the targets as they are in the batch.
        """
        low, high = ends
        values = torch.cat([p.flatten() for p in _parts_of(case, targets, self.samples)])
        least, most = float(values.min()), float(values.max())
        if not own:
            least, most = (case.record.fact(f"target.{key}") or 0.0 for key in ("min", "max"))
        if least < low and math.isinf(high):
            return f"the targets go down to {number(least)}, and its last activation to 0"
        std = case.record.fact("target.std") or 0.0
        if math.isfinite(high) and most - least > self.ends * std:
            return (
                f"the targets spread over {number((most - least) / std)} standard deviations, and "
                "so have no ends onto which those of the last activation could be mapped"
            )
        scale = (most - least) / (high - low) if math.isfinite(high) else most
        shift = least - low * scale if math.isfinite(high) else 0.0
        loss = "loss" if case.loss else f"F.{_LOSSES[kind].__name__}"
        return Plan(
            self.code,
            f"What the last activation gives is mapped onto {number(least)} to {number(most)}, "
            "from the least to the largest of the targets.",
            program(
                f"std = torch.tensor({scale!r})",
                f"model = ScaledOutputs(model, torch.tensor({shift!r}), std)",
                *([f"loss = InUnitsOfTargets({loss}, std)"] if own else []),
            ),
            keys=_KEYS,
            given={"loss": case.loss},
            notes=("Targets beyond those that were seen cannot be reached.",),
        )

    def _fitted(self, case: Case, kind: str, effect: str, keep: str) -> Plan:
        """The same of so many columns that nobody wants to read their numbers."""
        line, given = gathered(case, "targets", None)
        loss = "loss" if case.loss else f"F.{_LOSSES[kind].__name__}"
        return Plan(
            self.code,
            effect,
            program(
                line,
                f"units = Standardize.fit(targets, keep={keep})",
                "model = ScaledOutputs(model, units.mean, units.std)",
                f"loss = InUnitsOfTargets({loss}, units.std)",
            ),
            keys=_KEYS,
            given={**given, "loss": case.loss},
            notes=(_UNITS[kind],),
        )

    @staticmethod
    def sick() -> Case:
        """Targets around 300."""
        return example(lambda: plain(2, out=1), lambda: _numbers(50.0, 300.0), F.mse_loss)

    @staticmethod
    def well() -> Case:
        """Standardized ones."""
        return example(lambda: plain(2, out=1), lambda: _numbers(1.0, 0.0), F.mse_loss)


def _numbers(std: float, mean: float) -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 20)
    return x, mean + std * x[:, :1]


def _ends(case: Case) -> tuple[float, float] | str | None:
    """Least and largest output of a last activation; None without one, why not if it is scaled."""
    record, last = case.record, last_activation(case)
    if last is None or record.sites[last].kind not in RANGES:
        return None
    scaled = any(
        not math.isclose(
            record.value(f"forward.{end}", last) or 0.0,
            record.fact(f"output.{end}") or 0.0,
            rel_tol=1e-3,
            abs_tol=1e-6,
        )
        for end in ("min", "max")
    )
    site = record.sites[last]
    low, high = RANGES[site.kind]
    if scaled:
        return f"what {site.name} ({site.kind}) gives is scaled by the model already"
    return low, math.inf if high is None else high


def _parts_of(case: Case, targets: Tensor, samples: int) -> list[Tensor]:
    """Targets of batches like the first until there are so many samples."""
    parts, count, like_this = list[Tensor](), 0, (targets.ndim, targets.shape[1:])
    with torch.random.fork_rng(devices=()):
        reseed(0)  # a loader that shuffles gives the same batches every time
        with suppress(DataError):  # batches of other kinds are for the trials to tell of
            for part in Parts(case, None):
                if count >= samples or (part.ndim, part.shape[1:]) != like_this:
                    break
                parts.append(part)
                count += len(part)
    return parts or [targets]


def _meet(targets: Tensor, shape: tuple[int, ...], loss: Any) -> bool:
    """Whether the loss compares every output with its own target."""
    aligned = isinstance(loss, AlignedTargets) and targets.numel() == math.prod(shape)
    return aligned or targets.shape == shape


def _effect(mean: float, std: float) -> str:
    return (
        f"The model learns targets of mean 0 and unit variance in place of {number(mean)} and "
        f"{number(std)}."
    )


def _numbers_of(parts: list[Tensor]) -> tuple[str, str]:
    """Mean and standard deviation of the columns as code."""
    first = parts[0]
    units = Standardize.fit(parts, keep=(first.ndim - 1,) if first.ndim > 1 else ())
    like = f', device="{first.device}"' if first.device.type != "cpu" else ""
    like += f", dtype={units.mean.dtype}" if units.mean.dtype != torch.float32 else ""

    def told(values: Tensor) -> str:
        # Eight digits: what is small beside a large mean is not rounded off.
        each = [f"{v:.8g}" for v in values.double().flatten().tolist()]
        each = [v if {".", "e", "n"} & set(v) else f"{v}.0" for v in each]
        return f"torch.tensor({each[0] if len(each) == 1 else '[' + ', '.join(each) + ']'}{like})"

    return told(units.mean), told(units.std)

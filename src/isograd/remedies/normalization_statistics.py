"""normalization-statistics: batch norms whose running statistics arrive, or that need none."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from isograd.remedies._activations import aliases_of
from isograd.remedies._code import loop, number, program, where
from isograd.remedies._examples import classes, example
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy

_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class NormalizationStatistics(Remedy):
    """Make norms see enough values, and batch norms the same in training and evaluation.

    Does: sets the momentum of batch norms whose running statistics arrive too late to `momentum`;
        or (`by="group"`) replaces batch norms by group norms, which need no statistics of a batch.
        Norms that average over a single value, so that nothing of their input is left, go; group
        norms of single values may (`by="group"`) average over all channels instead. An eps above
        the variance of what a norm gets is set to `eps`.

    Needs: batch norms with running statistics and a momentum below `slow`, batches of fewer than
        eight values per channel, norms of single values, an eps that swallows the variance, or a
        finding about the two modes.

    Source: Ioffe and Szegedy 2015, Batch normalization; Wu and Johnson 2021, Rethinking "batch" in
        BatchNorm; Wu and He 2018, Group normalization.
    """

    code: ClassVar[str] = "normalization-statistics"
    family: ClassVar[str] = "normalization"
    addresses: ClassVar[tuple[str, ...]] = ("norm-mode",)

    by: Literal["momentum", "group"] = "momentum"
    """Group norms leave nothing to go wrong in evaluation, and start from other numbers."""
    momentum: float = 0.1
    """torch's default: statistics arrive within thirty batches."""
    slow: float = 0.01
    """Below this they take hundreds of batches."""
    eps: float = 1e-5
    """torch's default."""
    few: int = 8
    """Values per channel below which the mean is off by a third of a standard deviation."""

    def plan(self, case: Case) -> Plan | str:
        """Finds batch norms, their momentum, and what they average over."""
        norms = [
            (n, m) for n, m in case.model.named_modules() if isinstance(m, _Norm) and m.momentum
        ]
        alone = case.record.fact("norm.alone") or ()
        if alone and self.by == "momentum":
            return self._without(case, [str(name) for name in alone])
        if alone:
            return self._over_channels(case, [str(name) for name in alone])
        large = case.record.fact("norm.swallowed") or ()
        if large and self.by == "momentum":
            return self._small_eps(case, [str(name) for name in large])
        least = case.record.fact("norm.min_values")
        small = least is not None and least < self.few
        slow = [n for n, m in norms if (m.momentum or 1.0) < self.slow]
        if not norms:
            return "it has no batch norm with running statistics"
        if not slow and not small and not case.has(*self.addresses):
            momentum = min(m.momentum or 1.0 for _, m in norms)
            return f"its {len(norms)} batch norms have a momentum of at least {number(momentum)}"
        if self.by == "momentum":
            late = slow or [n for n, m in norms if (m.momentum or 1.0) < self.momentum]
            if not late:
                return "the running statistics arrive in time; the batch is too small, or another"
            body = f"model.get_submodule(name).momentum = {number(self.momentum)}"
            return Plan(
                self.code,
                "Running statistics are those of the data after thirty batches, in place of "
                f"{3 / max(min(m.momentum or 1.0 for _, m in norms), 1e-9):.0f}.",
                program(loop("name", late, body)),
            )
        lines = []
        flat = {s.name.split("#")[0] for s in case.record.sites if len(s.shape) == 2}
        for channels, vectors in sorted({(m.num_features, n in flat) for n, m in norms}):
            same = [n for n, m in norms if (m.num_features, n in flat) == (channels, vectors)]
            groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and g <= channels)
            # A channel of a vector is a single value: only all of them together are enough.
            groups = 1 if vectors else max(1, min(groups, channels // 4))
            groups = next(g for g in range(groups, 0, -1) if channels % g == 0)
            new = f"nn.GroupNorm({groups}, {channels}{where(case.model, ', ')})"
            lines.append(loop("name", same, f"model.set_submodule(name, {new})"))
        return Plan(
            self.code,
            "Every sample is normalized by its own statistics, in both modes alike.",
            program(*lines),
            keys="running_mean, running_var and num_batches_tracked of the norms are gone.",
        )

    def _small_eps(self, case: Case, found: list[str]) -> Plan | str:
        known = dict(case.model.named_modules())
        names = [name for name in found if isinstance(known.get(name), _Norm)]
        if not names:
            return f"{found[0]} is called in the forward, not a module: set its eps there"
        return Plan(
            self.code,
            "What comes out of these norms has unit variance: eps is no more than a rounding.",
            program(loop("name", names, f"model.get_submodule(name).eps = {number(self.eps)}")),
        )

    def _without(self, case: Case, found: list[str]) -> Plan | str:
        names = [alias for name in found for alias in aliases_of(case.model, name)]
        if not names:
            return f"{found[0]} is called in the forward, not a module: leave it out there"
        for name in names:
            holder = case.model.get_submodule(name.rpartition(".")[0])
            if isinstance(holder, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                told = type(holder).__name__
                return f"{name} is part of a {told}, which needs it: give it more than one feature"
        return Plan(
            self.code,
            "What comes out of these norms depends on what goes in again.",
            program(loop("name", names, "model.set_submodule(name, nn.Identity())")),
            keys="weight and bias of these norms are gone.",
        )

    def _over_channels(self, case: Case, found: list[str]) -> Plan | str:
        known = dict(case.model.named_modules())
        for name in found:
            norm = known.get(name)
            if not isinstance(norm, nn.GroupNorm):  # torch's other norms refuse single values
                return f"{name} has no groups that could be larger"
            if norm.num_channels < self.few:
                return f"{name} has {norm.num_channels} channels, too few to take a variance of"
        return Plan(
            self.code,
            "What comes out of these norms tells the channels of a sample apart.",
            program(loop("name", found, "model.get_submodule(name).num_groups = 1")),
        )

    @property
    def invasive(self) -> int:
        """Norms of another kind are another architecture; momentum and eps are values.

        What a norm of single values passes on is a constant: without it nothing is lost.
        """
        return FAMILIES.index("optimizer" if self.by == "momentum" else self.family)

    def variants(self) -> tuple[Remedy, ...]:
        """A larger momentum first."""
        return (self, replace(self, by="group"))

    @staticmethod
    def sick() -> Case:
        """Momentum 0.001."""
        return example(lambda: _normed(0.001), classes)

    @staticmethod
    def well() -> Case:
        """Momentum 0.1."""
        return example(lambda: _normed(0.1), classes)


def _normed(momentum: float) -> nn.Module:
    layers = [nn.Linear(20, 24), nn.BatchNorm1d(24, momentum=momentum), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(24, 7))

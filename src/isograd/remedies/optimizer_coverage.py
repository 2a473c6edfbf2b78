"""optimizer-coverage: every parameter in the optimizer, and none of them frozen."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from isograd.remedies._code import listing, loop, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._optimizers import Like, factory_of, settings_of
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerCoverage(Remedy):
    """Hand all parameters to the optimizer.

    Does: makes the optimizer anew with all parameters of the model, in one group with the settings
        of the first; where a finding says that frozen parameters do harm, thaws them.

    Needs: the optimizer, and trainable parameters that it does not hold, or a finding about frozen
        ones.

    Source: torch.optim, whose optimizers change only what they are given.
    """

    code: ClassVar[str] = "optimizer-coverage"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("frozen-parameters", "graph-cut")

    def plan(self, case: Case) -> Plan | str:
        """Compares the model's parameters with the optimizer's."""
        record = case.record
        missing = list(record.fact("optimizer.missing") or ())
        frozen = list(record.fact("model.frozen") or ()) if case.has("frozen-parameters") else []
        if not missing and not frozen:
            return (
                "the optimizer holds every trainable parameter, and no finding is about frozen ones"
            )
        make, told = factory_of(case), settings_of(case)
        if isinstance(make, str) or told is None:
            return f"{len(missing or frozen)} parameters stand still, but {make}"
        kind, settings, _ = told
        count = sum(1 for _ in case.model.parameters())
        lines = [f"group = {{'params': [model.get_parameter(n) for n in {listing(missing)}]}}"]
        lines.append("optimizer.add_param_group(group)")
        thaw = loop("name", frozen, "model.get_parameter(name).requires_grad_()") if frozen else ""
        return Plan(
            self.code,
            f"{len(missing) + len(frozen)} parameters that stood still are trained.",
            program(thaw),
            training="\n".join(lines) if missing else "# make the optimizer again after this",
            optimizer=Like(kind, ((settings, tuple(range(count))),), count),
        )

    @staticmethod
    def sick() -> Case:
        """An optimizer that was given the last layer alone."""

        def make(p: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(list(p)[-2:], lr=0.01)

        return example(lambda: plain(2), classes, optimizer=make)

    @staticmethod
    def well() -> Case:
        """One that was given all."""
        return example(lambda: plain(2), classes, optimizer=lambda p: torch.optim.SGD(p, lr=0.01))

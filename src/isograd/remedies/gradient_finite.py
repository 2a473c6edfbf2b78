"""gradient-finite: a module whose gradient is not finite guarded, entry by entry."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._activations import aliases_of
from isograd.remedies._code import loop, program
from isograd.remedies._examples import classes, example
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class GradientFinite(Remedy):
    """Set gradients that are not finite to zero where they arise.

    Does: wraps the module in which the first non-finite gradient arises, so that entries of its
        input's gradient that are NaN or infinite become zero. Where a branch is masked out
        (torch.where over a square root or a logarithm), zero is the right gradient of the masked
        entries; elsewhere it gives such entries up for this step, and no others. Where values of
        a module without weights are not finite on the way forward already (0 / 0 of a sample of
        zeros, the logarithm of a unit that is off), they become zero, and so does their gradient.

    Needs: a backward whose first non-finite gradient, or a forward whose first non-finite value,
        arises inside a module of the model, not in its own forward or in the loss; of a value, a
        module that has no weights and gives one tensor.

    Source: the chain rule over a masked branch, 0 times infinity; pytorch/pytorch issues 4132 and
        23156, whose remedy in the code itself is to mask the input of the function too.
    """

    code: ClassVar[str] = "gradient-finite"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = ("local-nan",)

    def plan(self, case: Case) -> Plan | str:
        """Looks at where the first non-finite gradient arose."""
        record = case.record
        value = record.fact("loss.value")
        if value is not None and not math.isfinite(value):
            return self._forward(case, value)
        # A masked value that is not finite forward is where the gradient's trouble begins.
        event = record.fact("event.backward") or record.fact("event.forward")
        if not event or not any(n for _, n in record.pairs("weight.grad_nonfinite")):
            return "every gradient is finite"
        op, name = event.get("op"), event.get("module") or ""
        names = aliases_of(case.model, name)
        if event.get("phase") == "loss" or not names:
            where = "the loss" if event.get("phase") == "loss" else "the model's own forward"
            return (
                f"the gradient of {op} is not finite in {where}: mask its input there too, as in "
                "torch.where(x > 0, torch.where(x > 0, x, 1).sqrt(), 0)"
            )
        body = "model.set_submodule(name, FiniteGradient(model.get_submodule(name)))"
        return Plan(
            self.code,
            f"What {op} in {name} makes NaN or infinite of the gradient is zero, and the layers "
            "before it learn from the rest.",
            program(loop("name", names, body)),
            keys="NAME.* becomes NAME.body.* for the wrapped module."
            if any(True for _ in case.model.get_submodule(name).state_dict())
            else "",
            notes=(f"In the code of {name}: mask the input of {op} as well as its output.",),
        )

    def _forward(self, case: Case, value: float) -> Plan | str:
        """Guards the module in which a value is not finite."""
        event = case.record.fact("event.forward") or {}
        op, name = event.get("op"), event.get("module") or ""
        names = () if event.get("phase") == "loss" else aliases_of(case.model, name)
        told = f"the loss is {value}: a value is not finite on the way forward already"
        if not names:
            return told
        if next(case.model.get_submodule(name).parameters(), None) is not None:
            return f"{told}, in {name}, whose weights would get such gradients all the same"
        new = "FiniteGradient(model.get_submodule(name), values=True)"
        return Plan(
            self.code,
            f"What {op} in {name} makes NaN or infinite is zero, and the loss is a number.",
            program(loop("name", names, f"model.set_submodule(name, {new})")),
            notes=(f"In the code of {name}: keep what goes into {op} away from where it is not.",),
        )

    @staticmethod
    def sick() -> Case:
        """A square root behind a mask."""
        return example(lambda: _masked(_Root()), classes)

    @staticmethod
    def well() -> Case:
        """A ReLU in its place."""
        return example(lambda: _masked(nn.ReLU()), classes)


class _Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.sqrt(x), torch.zeros_like(x))


def _masked(module: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), module, nn.Linear(16, 7))

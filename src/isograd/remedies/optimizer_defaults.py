"""optimizer-defaults: settings of the optimizer that make sense."""

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from isograd.remedies._code import number, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._optimizers import Made, constructor, settings_of
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.rates import BOLD


@dataclass(frozen=True)
class OptimizerDefaults(Remedy):
    """Set the optimizer's other settings back to usual ones.

    Does: keeps class and learning rate and sets what is odd to its usual value: momentum 0.9, betas
        (0.9, 0.999), eps 1e-8, weight decay 1e-2 of an optimizer that decouples it (AdamW) and 5e-4
        of others; a negative rate becomes positive, and an error is no longer maximized. A rate
        that would still be unusually high with what the new momentum adds up falls to 1 less that.
        A finding that names a value is followed; Adam whose weight decay is the fault becomes
        AdamW, which decouples it.

    Needs: an optimizer of torch.optim with one group of parameters, and a setting out of range
        or named by a finding.

    Source: Sutskever et al. 2013, On the importance of initialization and momentum in deep
        learning; Kingma and Ba 2015, Adam, section 2.1 (the condition on the betas).
    """

    code: ClassVar[str] = "optimizer-defaults"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("optimizer-hyperparameter",)

    long_momentum: float = 0.99
    """Above this more than a hundred steps add up."""
    large_eps: float = 1e-5
    """Larger than any default."""
    decay: float = 0.1
    """Part of every weight that one step may take away."""

    def plan(self, case: Case) -> Plan | str:
        """Goes through the settings."""
        told = settings_of(case)
        if told is None:
            return "it needs the optimizer: hand it in as optimizer="
        kind, settings, groups = told
        if groups > 1 or not kind.__module__.startswith("torch.optim"):
            return f"{kind.__name__} with {groups} groups of parameters has settings of its own"
        told_values = _named(case)
        if kind is torch.optim.Adam and "weight_decay" in told_values:
            kind, known = torch.optim.AdamW, inspect.signature(torch.optim.AdamW).parameters
            settings = {k: v for k, v in settings.items() if k in known}
        usual = self._usual(kind, settings) | {
            k: v for k, v in told_values.items() if k in settings
        }
        rate, momentum = (float(settings.get(k) or 0.0) for k in ("lr", "momentum"))
        if usual.get("momentum", momentum) < momentum and rate > BOLD * (1 - usual["momentum"]):
            usual["lr"] = 1 - usual["momentum"]
        changed = {k: v for k, v in usual.items() if settings[k] != v}
        if not changed:
            return f"{kind.__name__}: 0 of {len(settings)} settings are odd"
        new = {**settings, **changed}
        was = ", ".join(f"{k} {_told(settings[k])} becomes {_told(v)}" for k, v in changed.items())
        return Plan(
            self.code,
            f"Steps follow the gradient again: {was}.",
            training=program(constructor(kind, new)),
            optimizer=Made(kind, new),
        )

    def _usual(self, kind: type, settings: dict[str, Any]) -> dict[str, Any]:
        usual: dict[str, Any] = {}
        rate = float(settings.get("lr") or 0.0)
        if rate < 0:
            usual["lr"] = -rate
        if float(settings.get("momentum") or 0.0) > self.long_momentum:
            usual["momentum"] = 0.9
        betas = settings.get("betas")
        if betas is not None and len(betas) == 2:
            first, second = (float(b) for b in betas)
            if max(first, second) >= 1 or second < first**2:
                usual["betas"] = (0.9, 0.999)
        eps = settings.get("eps")
        if isinstance(eps, float) and eps > self.large_eps:
            usual["eps"] = 1e-8
        built_up = 1 / max(1 - float(usual.get("momentum", settings.get("momentum") or 0.0)), 0.01)
        if float(settings.get("weight_decay") or 0.0) * abs(rate) * built_up > self.decay:
            usual["weight_decay"] = 1e-2 if "W" in kind.__name__ else 5e-4
        return usual

    @staticmethod
    def sick() -> Case:
        """Momentum of one."""
        return _case(1.0)

    @staticmethod
    def well() -> Case:
        """Momentum of 0.9."""
        return _case(0.9)


def _named(case: Case) -> dict[str, Any]:
    """Settings that a finding says to use: {name: value}."""
    every = [f for one in case.findings for f in (one, *one.symptoms)]
    found = [f.evidence.get("settings") for f in every if f.cause == "optimizer-hyperparameter"]
    new = {k: v for settings in found if isinstance(settings, dict) for k, v in settings.items()}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in new.items()}


def _told(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _case(momentum: float) -> Case:
    def make(p: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(p, lr=0.01, momentum=momentum)

    return example(lambda: plain(2), classes, optimizer=make)

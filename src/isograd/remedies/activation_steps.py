"""activation-steps: functions of steps, through which no gradient comes, made smooth."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._activations import aliases_of
from isograd.remedies._code import loop, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._remedy import Case, Plan, Remedy

_SMOOTH = {
    **dict.fromkeys(("sign", "sgn"), "nn.Tanh()"),
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix"), "nn.Identity()"),
}
"""What goes where a function of steps goes, and has a slope."""


@dataclass(frozen=True)
class ActivationSteps(Remedy):
    """Put a smooth function in the place of steps.

    Does: puts tanh in the place of every module that takes the sign, and the identity in the place
        of every module that rounds: the slope of steps is zero wherever there is one, so that
        nothing before them learns.

    Needs: a function of steps on the way to the loss, in a module of its own without parameters
        that keeps its input's shape. Parameters that get no gradient.

    Source: Bengio, Leonard and Courville 2013, Estimating or propagating gradients through
        stochastic neurons for conditional computation (what else can be done where the steps are
        wanted); Rumelhart, Hinton and Williams 1986, Learning representations by back-propagating
        errors.
    """

    code: ClassVar[str] = "activation-steps"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = ("graph-cut",)

    def plan(self, case: Case) -> Plan | str:
        """Finds the modules whose operations cut the graph."""
        record = case.record
        steps = [c for c in record.fact("graph.cuts") or () if c.get("op") in _SMOOTH]
        if not steps or not record.fact("model.unreached"):
            return "no function of steps keeps a parameter from its gradient"
        lines, done = [], list[str]()
        for op in dict.fromkeys(str(cut["op"]) for cut in steps):
            own = dict.fromkeys(str(cut["module"]) for cut in steps if cut["op"] == op)
            for name in own:
                if reason := _unfit(case, name):
                    return f"`{op}` {reason}: put {_SMOOTH[op]} there"
            names = [alias for name in own for alias in aliases_of(case.model, name)]
            lines.append(loop("name", names, f"model.set_submodule(name, {_SMOOTH[op]})"))
            done += names
        return Plan(
            self.code,
            f"A gradient passes {len(done)} modules that had steps.",
            program(*lines),
            notes=(
                "Where the steps are wanted, keep them in the forward and let the gradient pass: "
                "soft + (hard - soft).detach().",
            ),
        )

    @staticmethod
    def sick() -> Case:
        """Three layers of signs."""
        return example(lambda: plain(3, _Sign), classes)

    @staticmethod
    def well() -> Case:
        """Three of tanh."""
        return example(lambda: plain(3, nn.Tanh), classes)


def _unfit(case: Case, name: str) -> str:
    """Why a module cannot be exchanged as a whole; empty if it can."""
    if not aliases_of(case.model, name):
        return "is called in the model's own forward, not in a module"
    module, sites = case.model.get_submodule(name), case.record.sites
    if next(module.children(), None) is not None or next(module.parameters(), None) is not None:
        return f"is a part of what {name} does"
    own = [site for site in sites if site.name.partition("#")[0] == name]
    kept = (len(s.inputs) == 1 and s.shape == sites[s.inputs[0]].shape for s in own if s.inputs)
    return "" if all(kept) else f"is a part of what {name} does"


class _Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x)

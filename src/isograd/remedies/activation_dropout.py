"""activation-dropout: dropout that leaves enough to learn from."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import classes, example
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.paths import dropped_outputs


@dataclass(frozen=True)
class ActivationDropout(Remedy):
    """Drop fewer units.

    Does: sets the probability of every dropout module above `share` to it, or, of `k` such modules,
        to 1 / (1 + k): their noise adds up, and then is as much as the signal behind the last. A
        dropout of the outputs themselves, whose masks no weight mixes, drops nothing any more.

    Needs: a dropout module above `share`, or one behind the last weight layer.

    Source: Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from
        overfitting, section 7.3, where error is flat in the share that is kept from 0.4 to 0.8.
    """

    code: ClassVar[str] = "activation-dropout"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = ("dropout-too-high",)

    share: float = 0.5
    """As much noise as signal: the largest in use."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the modules that drop more."""
        found = {n: m.p for n, m in case.model.named_modules() if isinstance(m, _DropoutNd)}
        sites = case.record.sites
        ends = {sites[i].name.partition("#")[0] for i in dropped_outputs(case.record)}
        last = [name for name, p in found.items() if name in ends and p]
        high = [name for name, p in found.items() if p > self.share and name not in ends]
        none = [loop("name", last, "model.get_submodule(name).p = 0.0")] if last else []
        if last and not high:
            effect = "The loss sees the outputs as evaluation will: none of them is set to zero."
            return Plan(self.code, effect, program(*none))
        if not high:
            told = f"at most {max(found.values()):.0%} of its entries" if found else "nothing"
            return f"its dropout sets {told} to zero"
        p = max(found.values())
        noise = f"{p / (1 - p):.0f}" if p < 1 else "nothing but noise"
        share = round(min(self.share, 1 / (1 + len(high))), 2)
        return Plan(
            self.code,
            f"Each dropout lets through {number(share / (1 - share))} times as much noise as "
            f"signal, in place of {noise}.",
            program(loop("name", high, f"model.get_submodule(name).p = {number(share)}"), *none),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Half of the units, and a tenth, which small networks bear better."""
        return (self, replace(self, share=0.1))

    @staticmethod
    def sick() -> Case:
        """Nineteen of twenty."""
        return example(lambda: _dropped(0.95), classes)

    @staticmethod
    def well() -> Case:
        """Half."""
        return example(lambda: _dropped(0.5), classes)


def _dropped(share: float) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Dropout(share), nn.Linear(24, 7))

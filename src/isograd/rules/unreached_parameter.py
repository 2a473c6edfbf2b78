"""A parameter that should learn gets no gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import hidden_layers, initializer
from isograd.rules._course import course
from isograd.rules._examples import reading
from isograd.rules._numbers import some, words
from isograd.rules._profile import PATIENCE, outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_DEPTH

_SHOWN = 3
"""Names spelled out in a message; the evidence holds them all."""


@dataclass(frozen=True)
class UnreachedParameter(Rule):
    """The gradient does not reach a parameter.

    Sees: trainable parameters that the forward used and the backward left without a gradient,
        with the operation that cut the graph (round and sign do, whose slope is zero); parameters
        that no operation used; models in which nothing asks for a gradient; trainable weights that
        are not registered in the model; parameters that the optimizer was not given; frozen layers
        with weights as they are drawn, where the rest gets nowhere in a rehearsal.

    Matters: such a parameter keeps its initial value for ever. Nothing fails and nothing warns:
        the rest of the network learns around it, or not at all.

    Wrong when: the cut is meant (a stop-gradient, as in target networks or straight-through
        tricks) or part of the model is frozen for fine-tuning; a frozen part is not reported as
        long as what is left to train learns.

    Do: remove the detach(), .item(), .numpy(), .data, argmax or no_grad() that is named, or put
        a differentiable operation there; register modules in nn.ModuleList; give the optimizer
        model.parameters().
    """

    code: ClassVar[str] = "IG103"
    rank: ClassVar[int] = 10
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, "IG304", "IG604")

    def judge(self, reading: Reading) -> Outcome:
        """Looks at cuts, then at what is frozen or forgotten, then at what is unused."""
        seen = reading.seen
        if not seen.parameters and seen.fact("model.unreached") is None:
            return NotApplicable("the record holds no parameters")
        trainable = [p for p in seen.parameters if p.trainable]
        unreached = words(seen.fact("model.unreached"))
        if unreached:
            return self._cut(seen, unreached, len(trainable))
        if seen.parameters and not trainable:
            return self._frozen(
                tuple(p.name for p in seen.parameters),
                f"None of the {len(seen.parameters)} parameters asks for a gradient",
                "Set requires_grad back: model.requires_grad_(True).",
            )
        strangers = words(seen.fact("model.unregistered"))
        if strangers:
            return self._frozen(
                strangers,
                f"The trainable weights of {len(strangers)} layers ({some(strangers)}) are no "
                "parameters of the model, so that model.parameters() does not list them",
                "Put the layers into nn.ModuleList, nn.ModuleDict or nn.Sequential in place of a "
                "list or dict; wrap tensors in nn.Parameter.",
            )
        missing = words(reading.last.fact("optimizer.missing"))
        if missing:
            return self._frozen(
                missing,
                f"The optimizer does not hold {len(missing)} of {len(trainable)} trainable "
                f"parameters ({some(missing)})",
                "Give the optimizer all parameters: Optimizer(model.parameters(), …), after the "
                "last layer has been added or replaced.",
            )
        unused = words(seen.fact("model.unused"))
        if unused:
            return Finding(
                self.code,
                Severity.INFO,
                "frozen-parameters",
                f"No operation of this forward uses {len(unused)} of {len(trainable)} trainable "
                f"parameters ({some(unused)}).",
                unused,
                {"unused": list(unused)},
                (f"If {unused[0]} is meant to take part, call its module in forward().",),
            )
        idle = self._never_trained(reading)
        if idle:
            return self._frozen(
                idle,
                f"{len(idle)} layers are frozen as they were drawn ({some(idle)}), and the rest "
                "does not learn from what they give",
                "Set requires_grad back, or load the weights that they were to have.",
                Severity.WARNING,
            )
        return Passed(f"all {len(trainable)} trainable parameters are reached")

    def _never_trained(self, reading: Reading) -> tuple[str, ...]:
        """Frozen hidden weights that an initializer has drawn, where training gets nowhere."""
        seen, path = reading.seen, course(reading)
        tried = path is not None and path.steps >= PATIENCE
        if not tried or outcome(reading) == "trains":
            return ()
        frozen = [x for x in hidden_layers(seen) if not seen.parameters[x.parameter].trainable]
        if not frozen or initializer(seen, frozen) is None:
            return ()
        return tuple(seen.parameters[x.parameter].name for x in frozen)

    def _cut(self, record: Record, unreached: tuple[str, ...], trainable: int) -> Finding:
        given = record.fact("graph.cuts") or ()
        cuts = [cut for cut in given if isinstance(cut, Mapping)]
        places = [f"`{cut.get('op')}`{_at(cut, record)}" for cut in cuts]
        where = f"; the graph is cut by {', '.join(places[:_SHOWN])}" if places else ""
        first = (
            f"Remove {places[0]}, or the no_grad() around it, from the way to the loss; or apply "
            "it to a copy that the loss does not use."
            if places
            else "Look for detach(), .item(), .numpy(), .data, argmax or no_grad() between "
            f"{unreached[-1]} and the loss."
        )
        return Finding(
            self.code,
            Severity.ERROR,
            "graph-cut",
            f"{len(unreached)} of {trainable} trainable parameters are used but get no gradient "
            f"({some(unreached)}){where}.",
            unreached,
            {"unreached": list(unreached), "cuts": cuts},
            (first,),
            self.explains,
        )

    def _frozen(
        self, names: tuple[str, ...], what: str, remedy: str, severity: Severity = Severity.ERROR
    ) -> Finding:
        return Finding(
            self.code,
            severity,
            "frozen-parameters",
            f"{what}: they keep their initial values.",
            names,
            {"names": list(names)},
            (remedy,),
            self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """A detach() in front of the last layer."""
        cut = {"op": "detach", "site": 3, "module": ""}
        facts = {
            "model.unreached": ["layers.0.weight", "layers.1.weight"],
            "model.unused": [],
            "graph.cuts": [cut],
        }
        return reading(3, facts=facts)

    @staticmethod
    def well() -> Reading:
        """The same network without it."""
        return reading(3, facts={"model.unreached": [], "model.unused": [], "graph.cuts": []})


def _at(cut: Mapping[str, object], record: Record) -> str:
    site = cut.get("site")
    if cut.get("module"):
        return f" in {cut['module']}"
    if isinstance(site, int) and 0 <= site < len(record.sites):
        return f" after {record.sites[site].name}"
    return ""

"""What a remedy is: a change of model, loss or optimizer as code, that can be taken back."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import nn

from isograd.catalogue import field_texts, sections_of, title_of
from isograd.errors import RemedyError
from isograd.findings import Diagnosis, Finding
from isograd.records import Record
from isograd.remedies._snapshot import Snapshot
from isograd.sites.randomness import reseed

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]
Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Case:
    """A network that may need a remedy, with what is known of it."""

    model: nn.Module
    batch: Any
    """As `measure` takes it."""
    diagnosis: Diagnosis
    """Of this model on this batch; remedies read its numbers, and take no measure of their own."""
    loss: Loss | None = None
    """None where it is chosen by the types of output and targets."""
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None
    """The model's optimizer, or a factory that takes parameters."""
    data: Iterable[Any] | None = None
    """More batches, for statistics of the inputs; the one batch where None."""

    @property
    def record(self) -> Record:
        """The network as it was measured."""
        return self.diagnosis.reading.seen

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules said, worst first; empty where nobody asked them."""
        return self.diagnosis.findings

    def has(self, *causes: str) -> bool:
        """Whether a finding or one of its symptoms names one of the causes."""
        told = [f for one in self.findings for f in (one, *one.symptoms)]
        return any(f.cause in causes for f in told)

    def copied(self) -> "Case":
        """The same case around a copy of the model, to try things on.

        An optimizer is handed over as it is: it still holds the original's parameters.
        """
        return replace(self, model=copy.deepcopy(self.model))


@dataclass(frozen=True)
class Plan:
    """What a remedy would do to one network; holds no model, so that it fits every copy of it."""

    remedy: str
    """Code of the remedy."""
    effect: str
    """What is expected of it, in one sentence."""
    code: str = ""
    """Runnable Python about `model` and `loss`: exactly this is what `apply` runs."""
    training: str = ""
    """Runnable Python about `optimizer`, or the lines to put into the training loop."""
    optimizer: MakeOptimizer | None = None
    """What `training` says, as a factory; None where the optimizer stays as it is."""
    keys: str = ""
    """What becomes of the keys of `state_dict`; empty where they stay as they are."""
    notes: tuple[str, ...] = ()
    """What a user should know: what is lost, what goes with it."""
    settles: int = 0
    """Steps of training before which nothing can be said of the effect."""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the code uses besides `model`, by name: `loss`, `batch`, `data`."""

    @property
    def script(self) -> str:
        """The whole change as code."""
        return "\n".join(part for part in (self.code, self.training) if part)

    def apply(self, model: nn.Module, *, seed: int = 0, undoable: bool = True) -> "Change":
        """Changes a model: the one that was planned for, or a copy of it.

        Random numbers come from `seed` alone; the caller's generators are left as they were. On
        an error the model is as it was.

        Args:
            model: it is changed in place, where the change is not a module around it.
            seed: of what is drawn.
            undoable: whether it can be taken back, which costs a copy of the tensors; a copy that
                is thrown away need not be.

        Raises:
            RemedyError: the code does not run on this model.
        """
        snapshot = Snapshot(model) if undoable else None
        names: dict[str, Any] = {"loss": None, **self.given, "model": model}
        before = {id(m) for m in model.modules()}
        known = {id(p) for p in model.parameters()}
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        try:
            with torch.random.fork_rng(devices=devices):
                reseed(seed)
                exec(compile(self.code, f"<{self.remedy}>", "exec"), names)
        except Exception as error:
            if snapshot is not None:
                snapshot.restore()
            raise RemedyError(
                f"{self.remedy}: its change does not run on this {type(model).__name__} "
                f"({type(error).__name__}: {error}); plan it for the model as it is now"
            ) from error
        changed: nn.Module = names["model"]
        for module in changed.modules():
            if id(module) not in before:
                module.training = model.training
        given = self.given.get("loss")
        loss = None if names["loss"] is given else names["loss"]
        grown = any(id(p) not in known for p in changed.parameters())
        return Change(self, changed, loss, self.optimizer, grown, snapshot)


@dataclass(frozen=True)
class Change:
    """A change that was made, and that can be taken back."""

    plan: Plan
    model: nn.Module
    """What is to be trained now: the same object, or a new one around it."""
    loss: Loss | None
    """The loss to train with now; None where it stays."""
    optimizer: MakeOptimizer | None
    """Makes the optimizer to train with now, of `model.parameters()`; None where it stays."""
    grown: bool
    """Whether there are new parameters, so that the optimizer has to be made after the change."""
    _snapshot: Snapshot | None = field(repr=False)

    @property
    def code(self) -> str:
        """The change as runnable Python, in the words of the user's model."""
        return self.plan.script

    @property
    def effect(self) -> str:
        """What is expected of it."""
        return self.plan.effect

    def __str__(self) -> str:
        plan = self.plan
        notes = [*plan.notes, *([f"state_dict: {plan.keys}"] if plan.keys else [])]
        notes += [GROWN] if self.grown else []
        notes += [MADE] if self.optimizer is not None else []
        told = [f"{plan.remedy}: {plan.effect}", *(f"note: {note}" for note in notes)]
        return "\n".join(told) + f"\n\n{plan.script}"

    def undo(self) -> None:
        """Gives back the very same model, bit for bit: also what training has done to it since."""
        if self._snapshot is None:
            raise RemedyError(
                f"{self.plan.remedy}: cannot be taken back; apply it with undoable=True"
            )
        self._snapshot.restore()


GROWN = "optimizer: make it after this change, or the new parameters are not trained"
"""What a user has to know of a change that adds parameters."""

MADE = "optimizer: the code says it of yours; change.optimizer(change.model.parameters()) makes one"
"""What `Change.optimizer` is: a function."""

FAMILIES = (
    "optimizer",
    "loss",
    "init",
    "preprocessing",
    "activation",
    "normalization",
    "residual",
)
"""Kinds of remedies, the least invasive first."""

HEADINGS = ("Does", "Needs", "Source")


class Remedy(ABC):
    """One remedy: a frozen dataclass whose fields are its settings, each with its reason.

    The docstring is the one text for every surface. Its first line is the title; then come the
    headings `Does:`, `Needs:` (the preconditions) and `Source:`, a paragraph each.
    """

    code: ClassVar[str]
    """In kebab-case, the family first where it helps: `init-gain`."""
    family: ClassVar[str]
    """One of FAMILIES."""
    addresses: ClassVar[tuple[str, ...]]
    """Causes (of `isograd.findings.CAUSES`) that it takes away, the most typical first."""

    @abstractmethod
    def plan(self, case: Case) -> Plan | str:
        """What it would do to this network, or why it cannot help here; changes nothing, is cheap.

        The reason names the precondition that failed, with what was found.
        """

    @staticmethod
    @abstractmethod
    def sick() -> Case:
        """A small network that it helps."""

    @staticmethod
    @abstractmethod
    def well() -> Case:
        """One in which it finds nothing to do."""

    @property
    def invasive(self) -> int:
        """How much of the user's network it changes: the higher, the more."""
        return FAMILIES.index(self.family)

    def variants(self) -> tuple["Remedy", ...]:
        """Itself in other settings that are worth trying, itself first."""
        return (self,)

    @classmethod
    def title(cls) -> str:
        """First line of the docstring, without its period."""
        return title_of(cls)

    def settings(self) -> list[tuple[str, object, str]]:
        """(name, value, reason) of each field; the reasons are the docstrings under the fields."""
        reasons = field_texts(type(self))
        own = (f.name for f in fields(self) if f.name in reasons)  # type: ignore[arg-type]  # subclasses are dataclasses
        return [(name, getattr(self, name), reasons[name]) for name in own]

    @classmethod
    def sections(cls) -> dict[str, str]:
        """The docstring's text under each of HEADINGS, line breaks removed."""
        return sections_of(cls, HEADINGS)

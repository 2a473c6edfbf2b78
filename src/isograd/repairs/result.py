"""Repair: what was found, what was tried, what came of it, and the change as code."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isograd.findings import Diagnosis
from isograd.repairs.comparing import Comparison

if TYPE_CHECKING:
    import torch

VERDICTS = {
    "healthy": "nothing was found to be wrong, so that nothing was changed",
    "repaired": "a change was found that is really better",
    "improved": "a change was found that is really better, but an error stands, or a constant "
    "answer is still as good",
    "nothing-helps": "something is wrong, and nothing that was tried is really better",
    "no-remedy": "something is wrong, and there was nothing to try",
}
"""Every outcome of a repair, in words."""


@dataclass(frozen=True)
class Skipped:
    """A remedy that was not kept."""

    remedy: str
    reason: str
    """Which precondition failed, or how it fell behind."""


@dataclass(frozen=True)
class Trial:
    """Short trainings of one network, one for each seed."""

    treatment: str
    """Codes of the remedies, joined by +; `as it is` for the user's network."""
    losses: tuple[tuple[float, ...], ...]
    """Training loss at every step, by the loss it was trained on; a curve for each seed."""
    scores: tuple[float, ...]
    """At the end, by the same measure for all trials; lower is better, infinite where it broke."""
    broke: tuple[str | None, ...]
    """Why a run came to an early end."""


@dataclass(frozen=True)
class Cost:
    """What a repair took."""

    steps: int
    """Optimizer steps of all trials together, and of the training before the diagnosis."""
    seconds: float


@dataclass(frozen=True)
class Repair:
    """The outcome of `repair`: ready to train, with the proof."""

    verdict: str
    """A key of VERDICTS."""
    reason: str
    """One sentence: why this verdict."""
    model: "torch.nn.Module"
    """Train this: a changed copy, with weights as they are before training; the user's own, as it
    was found, where nothing was changed."""
    loss: Any
    """Train on this: the user's own where it was not changed."""
    optimizer: "torch.optim.Optimizer | None"
    """Train with this: it holds the parameters of `model`. None where none was handed in and none
    is needed."""
    before: Diagnosis
    """Of the user's network."""
    after: Diagnosis | None = None
    """Of the repaired one, before training; None where nothing was changed."""
    remedies: tuple[str, ...] = ()
    """Codes of what was done, in this order."""
    code: str = ""
    """The change as runnable Python, in the words of the user's model."""
    effects: tuple[str, ...] = ()
    """What each remedy is expected to do, one sentence each."""
    trials: tuple[Trial, ...] = ()
    """The proof: the network as it is, and each change that was put to it, on the same seeds."""
    comparison: Comparison | None = None
    """Of the network as it is and the change that was kept, or came nearest to it."""
    measure: str = ""
    """What the scores are, in words."""
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """What was chosen for the user, what is lost, what the numbers rest on."""
    cost: Cost = field(default_factory=lambda: Cost(0, 0.0))
    learned: bool | None = None
    """Of a network in which nothing was found: whether a copy learned within the steps that it was
    trained for. None where none was trained, and where something was found."""

    @property
    def changed(self) -> bool:
        """Whether `model`, `loss` or `optimizer` differ from what was handed in."""
        return self.verdict in ("repaired", "improved")

    def __str__(self) -> str:
        from isograd.reporting import render  # late: what shows itself knows how it is shown

        return render(self, "text")

    def _repr_html_(self) -> str:
        from isograd.reporting import render

        return render(self, "html-fragment")

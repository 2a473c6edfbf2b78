"""Shapes that stretch each other inside the loss."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH


@dataclass(frozen=True)
class LossBroadcast(Rule):
    """Outputs and targets broadcast against each other in the loss.

    Sees: two tensors of different rank inside the loss, one of them made from the outputs and one
        from the targets, whose elementwise operation has more entries than either.

    Matters: outputs of shape (N, 1) minus targets of shape (N) give N x N differences: every
        output is compared with every target. The best answer is then the mean of the targets for
        all inputs; the loss falls to their variance and stays, without an error message.

    Wrong when: all pairs are meant, as in a contrastive loss; then both tensors have the same
        rank, and this is only a remark.

    Do: make the shapes equal: targets.view_as(outputs), or outputs.squeeze(-1).
    """

    code: ClassVar[str] = "IG607"
    rank: ClassVar[int] = 0
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING, "IG602")

    def judge(self, reading: Reading) -> Outcome:
        """Judges the pair of shapes the probe saw."""
        seen = reading.seen
        if seen.fact("loss.value") is None and seen.fact("loss.broadcast") is None:
            return NotApplicable("no loss was measured (hand targets and a loss to measure())")
        shapes = _shapes(seen.fact("loss.broadcast"))
        if shapes is None:
            return Passed("0 pairs of tensors stretch each other in the loss")
        a, b = shapes
        both = _stretched(a, b)
        if prod(both) <= max(prod(a), prod(b)):
            return Passed(f"{prod(both)} entries after broadcasting, no more than before")
        meant = len(a) == len(b)
        return Finding(
            self.code,
            Severity.INFO if meant else Severity.ERROR,
            "shape-broadcast",
            f"Inside the loss {a} meets {b} and is stretched to {both}: {prod(both)} comparisons "
            f"instead of {max(prod(a), prod(b))}.",
            evidence={"shapes": [list(a), list(b)]},
            remedies=(
                "Make the shapes equal before the loss: targets.view_as(outputs) or "
                "outputs.squeeze(-1).",
            ),
            explains=() if meant else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """A column against a row."""
        return Reading(chain(2, facts={"loss.value": 2.7, "loss.broadcast": [[64, 1], [64]]}))

    @staticmethod
    def well() -> Reading:
        """Two columns."""
        return Reading(chain(2, facts={"loss.value": 1.8}))


def _shapes(given: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        return None
    if not all(isinstance(s, (list, tuple)) and all(isinstance(n, int) for n in s) for s in given):
        return None
    return tuple(given[0]), tuple(given[1])


def _stretched(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    padded = ((1,) * (rank - len(s)) + s for s in (a, b))
    return tuple(max(x, y) for x, y in zip(*padded, strict=True))

"""loss-broadcast: targets in the shape of the outputs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from isograd.remedies._code import program
from isograd.remedies._examples import example, plain
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch


@dataclass(frozen=True)
class LossBroadcast(Remedy):
    """Give the targets the shape of the outputs.

    Does: wraps the loss so that targets which are as many as the outputs are reshaped to them:
        (N, 1) against (N) broadcasts to every pair of samples otherwise, and the best answer to
        that is the mean of the targets.

    Needs: a loss that was handed in, inside of which outputs broadcast against something else, and
        as many targets as outputs, in another shape.

    Source: NumPy's broadcasting rules (Harris et al. 2020, Array programming with NumPy), which
        torch follows.
    """

    code: ClassVar[str] = "loss-broadcast"
    family: ClassVar[str] = "loss"
    addresses: ClassVar[tuple[str, ...]] = ("shape-broadcast",)

    def plan(self, case: Case) -> Plan | str:
        """Looks for a broadcast inside the loss."""
        shapes = case.record.fact("loss.broadcast")
        if not shapes:
            return "nothing broadcasts inside the loss"
        if case.loss is None:
            return "the loss is chosen by isograd, which reshapes the targets already"
        targets, place = as_batch(case.batch).targets, case.record.fact("loss.input_site")
        out = case.record.sites[place].shape if isinstance(place, int) else ()
        if isinstance(targets, Tensor) and tuple(targets.shape) == tuple(out):
            return (
                "the targets come in the shape of the outputs: the loss itself takes an axis away "
                "(squeeze, an index); take that out"
            )
        told = " against ".join(str(tuple(shape)) for shape in shapes)
        return Plan(
            self.code,
            f"The loss compares every output with its own target, not {told} all with all.",
            program("loss = AlignedTargets(loss)"),
            given={"loss": case.loss},
            notes=("The same in your code: loss(outputs, targets.reshape(outputs.shape)).",),
        )

    @staticmethod
    def sick() -> Case:
        """Outputs (N, 1), targets (N)."""
        return example(lambda: plain(2, out=1), lambda: _numbers(flat=True), _squared)

    @staticmethod
    def well() -> Case:
        """Both (N, 1)."""
        return example(lambda: plain(2, out=1), lambda: _numbers(flat=False), F.mse_loss)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def _numbers(*, flat: bool) -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 20)
    return x, x[:, 0] if flat else x[:, :1]

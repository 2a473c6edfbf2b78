"""init-embedding: tables of vectors that start at a size from which they can learn."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import example
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitEmbedding(Remedy):
    """Scale embeddings that start far too small or too large.

    Does: multiplies every table of vectors whose entries are below `least` or above `most` by one
        number, so that their rms becomes `size`. Rows of zeros, as those of padding, stay.

    Needs: a trainable embedding with such entries. Where embeddings are multiplied with each other,
        as in a factorization, gradients are as small as they are: at 1e-4 gradient descent stands
        still at a saddle.

    Source: torch.nn.Embedding, whose entries are N(0, 1); Saxe, McClelland and Ganguli 2014, Exact
        solutions to the nonlinear dynamics of learning in deep linear neural networks (the saddle,
        which takes a time of ln(1/size)/gradient to leave); Radford et al. 2019, Language models
        are unsupervised multitask learners (0.02, the least in common use).
    """

    code: ClassVar[str] = "init-embedding"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("init-too-small", "init-too-large")

    size: float = 0.3
    """Rms of the entries: products of two tables start undecided, where torch's own 1 makes them
    confident guesses, and their gradients are not far below those of 1."""
    least: float = 0.005
    """A quarter of the smallest in common use."""
    most: float = 10.0
    """Ten times torch's."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the tables."""
        record = case.record
        tables = {
            place: rms
            for site in record.sites
            if site.kind == "embedding"
            for place in site.parameters
            if record.parameters[place].trainable and (rms := record.value("weight.rms", place))
        }
        if not tables:
            return "it has no trainable embedding whose entries differ from zero"
        odd = {p: rms for p, rms in tables.items() if not self.least <= rms <= self.most}
        if not odd:
            low, high = (number(ends(tables.values())) for ends in (min, max))
            told = low if low == high else f"{low} to {high}"
            return f"the entries of its embeddings have an rms of {told}"
        names = [record.parameters[place].name for place in odd]
        body = (
            "weight = model.get_parameter(name)\n"
            f"weight.mul_({number(self.size)} / weight.square().mean().sqrt())"
        )
        return Plan(
            self.code,
            f"The entries of {len(odd)} embedding{'s' if len(odd) > 1 else ''} have an rms of "
            f"{number(self.size)} in place of {number(min(odd.values()))}.",
            program("with torch.no_grad():", *_indented(loop("name", names, body))),
        )

    @staticmethod
    def sick() -> Case:
        """Factors of 1e-4."""
        return example(lambda: _Factors(1e-4), _ratings, nn.functional.mse_loss)

    @staticmethod
    def well() -> Case:
        """Those of a language model."""
        return example(lambda: _Factors(0.02), _ratings, nn.functional.mse_loss)


def _indented(code: str) -> list[str]:
    return [f"    {line}" for line in code.splitlines()]


def _ratings() -> tuple[Tensor, Tensor]:
    return torch.randint(10, (48, 2)), torch.randn(48)


class _Factors(nn.Module):
    """Products of users and things."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(10, 8), nn.Embedding(10, 8)
        for table in (self.users, self.things):
            nn.init.normal_(table.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.users(x[:, 0]) * self.things(x[:, 1])).sum(1)
        return out

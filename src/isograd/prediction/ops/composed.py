"""Functions that are shorthand for others, run as those others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Call


class Composed(Op):
    """What torch's documentation says that they are."""

    code = "composed"
    functions = tuple(
        "glu prelu outer ger cosine_similarity pairwise_distance std_mean var_mean "
        "weight_norm embedding_bag triplet_margin_loss cosine_embedding_loss".split()
    )
    source = "torch's own definitions"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions; its steps are recorded one by one."""
        if call.name == "prelu":
            kwargs["usual"] = call.field(args[1] if len(args) > 1 else kwargs["weight"]).average
        if call.name == "weight_norm":
            kwargs["length"] = _length(call.field(args[0]), call.field(args[1]))
        with call.run:
            return Outcome(getattr(self, f"_{call.name}")(*args, **kwargs))

    @staticmethod
    def _glu(input: Tensor, dim: int = -1) -> Tensor:  # noqa: A002
        kept, gate = input.chunk(2, dim)
        return kept * torch.sigmoid(gate)

    @staticmethod
    def _prelu(input: Tensor, weight: Tensor, *, usual: float) -> Tensor:  # noqa: A002
        """With the mean slope, and what a slope has more or less, which is independent of it."""
        if weight.numel() > 1:
            weight = weight.reshape(-1, *([1] * (input.ndim - 2)))
        return functional.leaky_relu(input, usual) + input.clamp(max=0.0) * (weight - usual)

    @staticmethod
    def _weight_norm(v: Tensor, g: Tensor, dim: int = 0, *, length: float) -> Tensor:
        """Of many entries, whose length hardly differs from one vector to the next."""
        del dim
        return v * (g / length)

    @staticmethod
    def _embedding_bag(
        input: Tensor,  # noqa: A002
        weight: Tensor,
        offsets: Tensor | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        per_sample_weights: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Tensor:
        """Rows of a table, added up in bags; of unlike sizes by a known matrix."""
        del max_norm, norm_type, scale_grad_by_freq, sparse
        rows = functional.embedding(input, weight)
        if mode == "max":
            return rows.amax(1)
        share = torch.ones(input.shape) if per_sample_weights is None else per_sample_weights
        if padding_idx is not None:
            share = share * (input != padding_idx)
        if offsets is None:
            number = share.sum(1, keepdim=True) if mode == "mean" else 1.0
            return (rows * (share / number)[..., None]).sum(1)
        ends = (
            offsets[1:]
            if include_last_offset
            else torch.cat([offsets[1:], offsets.new_tensor([len(input)])])
        )
        bag = torch.bucketize(torch.arange(len(input)), ends, right=True)
        table = functional.one_hot(bag, len(ends)).to(share.dtype).t() * share
        if mode == "mean":
            table = table / table.sum(1, keepdim=True).clamp(min=1.0)
        return table @ rows

    @staticmethod
    def _outer(input: Tensor, vec2: Tensor) -> Tensor:  # noqa: A002
        return input[:, None] * vec2

    _ger = _outer

    @staticmethod
    def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
        one, other = (functional.normalize(x, 2.0, dim, eps) for x in (x1, x2))
        return (one * other).sum(dim)

    @staticmethod
    def _pairwise_distance(
        x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
    ) -> Tensor:
        distance: Tensor = torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim)
        return distance

    @staticmethod
    def _triplet_margin_loss(
        anchor: Tensor,
        positive: Tensor,
        negative: Tensor,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *_: Any,
        reduction: str = "mean",
        **__: Any,
    ) -> Tensor:
        near = functional.pairwise_distance(anchor, positive, p, eps)
        far = functional.pairwise_distance(anchor, negative, p, eps)
        if swap:
            far = torch.minimum(far, functional.pairwise_distance(positive, negative, p, eps))
        return _reduced((near - far + margin).clamp(min=0.0), reduction)

    @staticmethod
    def _cosine_embedding_loss(
        input1: Tensor,
        input2: Tensor,
        target: Tensor,
        margin: float = 0.0,
        *_: Any,
        reduction: str = "mean",
        **__: Any,
    ) -> Tensor:
        cosine = functional.cosine_similarity(input1, input2, dim=-1)
        same = (target > 0).to(torch.get_default_dtype())
        each = same * (1 - cosine) + (1 - same) * (cosine - margin).clamp(min=0.0)
        return _reduced(each, reduction)

    @staticmethod
    def _std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: A002
        return input.std(*args, **kwargs), input.mean(*args, **_without_correction(kwargs))

    @staticmethod
    def _var_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: A002
        return input.var(*args, **kwargs), input.mean(*args, **_without_correction(kwargs))


def _reduced(each: Tensor, reduction: str) -> Tensor:
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()


def _without_correction(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: kwargs[key] for key in ("dim", "axis", "keepdim") if key in kwargs}


def _length(v: Field, g: Field) -> float:
    """Of the vectors of v that have one factor each."""
    return math.sqrt(v.energy * math.prod(v.shape) / math.prod(g.shape))

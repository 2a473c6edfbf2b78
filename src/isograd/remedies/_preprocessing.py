"""Modules in front of a model: fitted in one pass, kept with it, the same at test time."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from isograd.errors import DataError, InputError, a_kind

CONSTANT = 1e-8
"""Standard deviation over |mean| of a feature that counts as constant: it becomes 0, not noise."""
FLOOR = 1e-4
"""Share of the largest variance: a hundredth of the largest size is mostly noise."""

Scale = Literal["each", "one", "none"]
Method = Literal["decorrelate", "pca", "zca"]


class Preprocessed(nn.Module):
    """A model behind a module that prepares its input.

    Args:
        preprocessing: takes the input tensor, gives one of the same shape.
        model: the model; its keys in `state_dict` begin with `model.`.
        place: which argument is prepared: its position, or its keyword.
    """

    def __init__(self, preprocessing: nn.Module, model: nn.Module, place: int | str = 0) -> None:
        super().__init__()
        self.preprocessing, self.model, self.place = preprocessing, model, place
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output for the prepared input."""
        if isinstance(self.place, str):
            kwargs = {**kwargs, self.place: self.preprocessing(kwargs[self.place])}
        else:
            before, after = args[: self.place], args[self.place + 1 :]
            args = (*before, self.preprocessing(args[self.place]), *after)
        return self.model(*args, **kwargs)


class Standardize(nn.Module):
    """(x - mean) / std, with statistics that are kept as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def fit(
        cls,
        inputs: Iterable[Tensor],
        keep: Sequence[int] = (1,),
        scale: Scale = "each",
    ) -> "Standardize":
        """From one pass over tensors [samples, …], in float64 (Chan, Golub and LeVeque 1979).

        Args:
            inputs: the training inputs, in parts; a single tensor is one part.
            keep: axes that have statistics of their own: (1,) columns or channels, () one for all,
                every axis but 0 for a mean image.
            scale: a standard deviation for each mean, one for all, or none (1). That of a feature
                that is constant, within 1e-8 of its mean, is 1.

        Raises:
            InputError: `keep` holds an axis that there is not, or `scale` is none of the three.
            DataError: there are no samples, a part is no tensor, holds NaN or infinite values, or
                has other columns than the first.
        """
        _check_choice("Standardize.fit: scale", scale, Scale)
        count, mean, squares, like = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
        for place, x in _parts("Standardize.fit", inputs):
            kept = _axes(x, keep)
            axes = [k for k in range(x.ndim) if k not in kept]
            like, part = x, x.detach().to(torch.float64)
            size = math.prod(x.shape[k] for k in axes)
            part_mean = part.mean(axes, keepdim=True)
            spread = (part - part_mean).square().sum(axes, keepdim=True)
            if not count:
                count, mean, squares = size, part_mean, spread
                continue
            _check_alike("Standardize.fit", place, part_mean.shape, mean.shape)
            shift = part_mean - mean
            total = count + size
            mean = mean + shift * (size / total)
            squares = squares + spread + shift.square() * (count * size / total)
            count = total
        if not count:
            raise DataError("preprocessing: there are no inputs to fit to; hand in a batch")
        std = (squares / count).sqrt()
        if scale == "one":
            # Of what is left once the means are taken off.
            std = (squares.mean() / count).sqrt().expand_as(std)
        still = std <= CONSTANT * mean.abs() if scale != "one" else std == 0
        std = torch.where(still | (std == 0), torch.ones_like(std), std)
        std = torch.ones_like(std) if scale == "none" else std
        kind = like.dtype if like.is_floating_point() else torch.float32
        return cls(mean[0].to(kind).clone(), std[0].to(kind).clone())

    def forward(self, x: Tensor) -> Tensor:
        """The standardized input."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Shape of the statistics."""
        return f"shape={list(self.mean.shape)}"


class Whiten(nn.Module):
    """(x - mean) turned, and scaled: features without correlation."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    @classmethod
    def fit(
        cls,
        inputs: Iterable[Tensor],
        method: Method = "zca",
        floor: float = FLOOR,
    ) -> "Whiten":
        """From one pass over tensors [samples, …], flattened behind axis 0, in float64.

        Args:
            inputs: the training inputs, in parts; a single tensor is one part.
            method: turn to the principal axes (largest variance first); turn and divide by the
                standard deviations; or turn back after that, so that images stay images.
            floor: variances below this share of the largest are taken for it: directions in which
                the data have next to none are not blown up. The default is that of the remedy
                preprocess-whiten.

        Raises:
            InputError: `method` is none of the three, or `floor` is not from 0 to 1.
            DataError: there are fewer than two samples, a part is no tensor of samples and
                features, holds NaN or infinite values, or has other features than the first.
        """
        _check_choice("Whiten.fit: method", method, Method)
        if not 0 <= floor <= 1:
            raise InputError(
                f"Whiten.fit: floor={floor!r}; give a share of the largest variance, from 0 to 1"
            )
        count, mean, scatter, like = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
        for place, x in _parts("Whiten.fit", inputs):
            if x.ndim < 2:
                raise DataError(
                    f"Whiten.fit: part {place} has shape {list(x.shape)}; give tensors "
                    "[samples, features]"
                )
            like, part = x, x.detach().flatten(1).to(torch.float64)
            part_mean = part.mean(0)
            centered = part - part_mean
            if not count:
                count, mean, scatter = len(part), part_mean, centered.T @ centered
                continue
            _check_alike("Whiten.fit", place, part_mean.shape, mean.shape)
            shift, total = part_mean - mean, count + len(part)
            scatter = scatter + centered.T @ centered
            scatter = scatter + torch.outer(shift, shift) * (count * len(part) / total)
            mean = mean + shift * (len(part) / total)
            count = total
        if count < 2:
            raise DataError(f"preprocessing: {count} samples have no covariance; hand in more")
        values, vectors = torch.linalg.eigh(scatter / (count - 1))
        values, vectors = values.flip(0), vectors.flip(1)
        scales = values.clamp_min(float(floor * values[0].clamp_min(1e-300))).rsqrt()
        matrix = vectors.T if method == "decorrelate" else scales[:, None] * vectors.T
        matrix = vectors @ matrix if method == "zca" else matrix
        kind = like.dtype if like.is_floating_point() else torch.float32
        return cls(mean.to(kind), matrix.to(kind))

    def forward(self, x: Tensor) -> Tensor:
        """The whitened input, in its shape."""
        flat = (x.flatten(1) - self.mean) @ self.matrix.T
        return flat.reshape(x.shape)

    def extra_repr(self) -> str:
        """Number of features."""
        return f"features={len(self.mean)}"


class ScaledOutputs(nn.Module):
    """A model whose output is scaled back to the units of the targets.

    Args:
        model: gives one tensor; its keys in `state_dict` begin with `model.`.
        mean: of the targets, [] or [columns].
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The model's output times std plus mean."""
        out: Tensor = self.model(*args, **kwargs)
        return out * self.std + self.mean


def _check_choice(what: str, given: Any, choices: Any) -> None:
    if given not in get_args(choices):
        raise InputError(f"{what}={given!r}; it is one of {', '.join(get_args(choices))}")


def _parts(who: str, inputs: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Place and tensor of each part that holds samples."""
    for place, x in enumerate([inputs] if isinstance(inputs, Tensor) else inputs):
        if not isinstance(x, Tensor):
            raise DataError(
                f"{who}: part {place} is {a_kind(x)}; give tensors [samples, …], such as "
                "(batch[0] for batch in loader)"
            )
        if not bool(torch.isfinite(x.detach().sum())):
            count = int((~torch.isfinite(x.detach())).sum())
            if count:
                raise DataError(
                    f"{who}: part {place} holds {count} NaN or infinite values of {x.numel()}; "
                    "remove or impute them"
                )
        if x.numel():
            yield place, x


def _axes(x: Tensor, keep: Sequence[int]) -> set[int]:
    """The axes that are kept, counted from the first."""
    for axis in keep:
        if not -x.ndim < axis < x.ndim or axis == 0:
            most = x.ndim - 1
            having = f"it has axes 1 to {most} besides" if most else "it has no axis besides"
            raise InputError(
                f"Standardize.fit: keep={tuple(keep)} for inputs of shape {list(x.shape)}: "
                f"{having} the samples; keep=() is one mean for all"
            )
    return {axis % x.ndim for axis in keep}


def _check_alike(who: str, place: int, found: Sequence[int], first: Sequence[int]) -> None:
    if tuple(found) != tuple(first):
        raise DataError(
            f"{who}: part {place} has {math.prod(found)} columns, where the first has "
            f"{math.prod(first)}; hand in inputs of one kind"
        )

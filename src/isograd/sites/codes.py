"""Gaussian codes among a model's outputs: where they are, what they cost, what they could tell.

A variational autoencoder returns what it reconstructs, and mean and log-variance of a code, whose
divergence from N(0, 1) its loss adds. Which numbers are which shows in the loss: the gradient at a
code does not change with the targets, and is that of the divergence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isograd.sites.losses import Loss

SAME = 1e-5
"""Change of an entry's gradient with the targets, over its size, that is a rounding."""
BETWEEN = 0.37
"""Where other targets lie between the least and the largest: at no number that entries have."""
EXACT = 1e-3
"""Relative deviation from the gradient of the divergence that is one."""
FEWEST = 8
"""Samples below which one direction of the data is no direction."""
MOST = 2**22
"""Entries of the outputs up to which they are looked at."""

Places = Sequence[Sequence[int]]
"""Index among the output's tensors, first entry of a sample's, and the one past the last."""


@dataclass(frozen=True)
class Code:
    """A Gaussian code in a loss."""

    places: Places
    weight: float
    """Of a sample's divergence [nats] in the loss of the batch."""
    reach: float
    """What that weight has to be below for the code to tell anything, to second order."""


def gaussian_code(loss: Loss | None, outputs: Any, targets: Any) -> Code | None:
    """The code in the outputs; None where there is none, or it cannot be told.

    For a loss that is quadratic in the reconstruction r, a constant answer stays the best one
    where the largest eigenvalue of the mean of g g'/h over the samples is below the weight of the
    divergence; g and h are the first two derivatives of a sample's loss by r, less the mean of g
    (Lucas et al. 2019, Don't blame the ELBO: sigma^2 against the eigenvalues of the data, where
    g = (r - x)/sigma^2 and h = 1/sigma^2).

    Args:
        loss: handed in.
        outputs: of the model: a tensor, or a list, tuple or mapping of tensors [samples, ...].
        targets: what the outputs are compared with, [samples, ...].
    """
    given = parts(outputs)
    if loss is None or not given or not isinstance(targets, Tensor) or targets.ndim < 2:
        return None
    if not targets.is_floating_point() or any(len(t) != len(targets) for t in given):
        return None
    room = sum(t[0].numel() for t in given) > targets[0].numel()  # for more than an answer
    if not room or len(targets) < FEWEST or sum(t.numel() for t in given) > MOST:
        return None
    try:
        with torch.enable_grad():
            return _found(loss, outputs, targets, given)
    except Exception:  # a loss that cannot be asked again
        return None


def parts(outputs: Any) -> list[Tensor]:
    """The tensors of a flat output with a row for each sample; empty where it is anything else."""
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    given = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    fits = all(isinstance(t, Tensor) and t.is_floating_point() and t.ndim > 1 for t in given)
    return list(given) if fits else []


def replaced(outputs: Any, tensors: Sequence[Tensor]) -> Any:
    """Outputs of the same form with other tensors."""
    if isinstance(outputs, Tensor):
        return tensors[0]
    if isinstance(outputs, Mapping):
        return dict(zip(outputs, tensors, strict=True))
    if hasattr(outputs, "_fields"):
        return type(outputs)(*tensors)
    return type(outputs)(tensors)


def at_prior(outputs: Any, places: Places) -> Any:
    """Outputs whose code is N(0, 1), of which the divergence is zero."""
    return _with_code(outputs, places, lambda flat, code: flat.masked_fill(code, 0.0))


def code_alone(outputs: Any, places: Places) -> Any:
    """The same outputs, of which the code alone hands on a gradient."""
    return _with_code(outputs, places, lambda flat, code: flat.where(code, flat.detach()))


def _with_code(outputs: Any, places: Places, change: Callable[[Tensor, Tensor], Tensor]) -> Any:
    given = []
    for index, tensor in enumerate(parts(outputs)):
        flat = tensor.flatten(1)
        code = torch.zeros(flat.shape[1], dtype=torch.bool, device=flat.device)
        for place, first, last in places:
            if place == index:
                code[first:last] = True
        given.append(change(flat, code).view_as(tensor))
    return replaced(outputs, given) if given else outputs


def _found(loss: Loss, outputs: Any, targets: Tensor, given: list[Tensor]) -> Code | None:
    leaves = [t.detach().clone().requires_grad_() for t in given]

    def gradient(wanted: Tensor) -> Tensor:
        value = loss(replaced(outputs, leaves), wanted)
        found = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True)
        return _rows([leaf * 0 if g is None else g for g, leaf in zip(found, leaves, strict=True)])

    # Targets that stay within their range, and differ in entries that are the same for all.
    between = targets.min() + BETWEEN * (targets.max() - targets.min())
    own, other = gradient(targets), gradient((targets.roll(1, 0) + between) / 2).detach()
    flat, was = own.detach(), _rows(leaves).detach()
    told = (other - flat).abs().amax(0) > SAME * flat.abs().amax(0)
    columns, weights = _divergence(flat, was, ~told)
    if not weights or max(weights) > (1 + EXACT) * min(weights) or not bool(told.any()):
        return None
    curved = torch.autograd.grad(own[:, told].sum(), leaves, allow_unused=True)
    bent = [leaf * 0 if c is None else c for c, leaf in zip(curved, leaves, strict=True)]
    sharp = _rows(bent).detach()[:, told].mean(0)
    away = flat[:, told] - flat[:, told].mean(0)
    scaled = away[:, sharp > 0] / sharp[sharp > 0].sqrt()
    if not scaled.numel():
        return None
    wide = len(scaled) <= scaled.shape[1]
    both = (scaled @ scaled.T if wide else scaled.T @ scaled).double()
    reach = float(torch.linalg.eigvalsh(both)[-1]) / len(scaled)
    return Code(_ranges(columns, [t[0].numel() for t in given]), weights[0], reach)


def _ranges(columns: Sequence[int], widths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Columns of tensors side by side as (tensor, first entry, past the last)."""
    places = [(i, entry) for i, width in enumerate(widths) for entry in range(width)]
    found: list[tuple[int, int, int]] = []
    for index, entry in (places[k] for k in columns):
        if found and found[-1][0] == index and found[-1][2] == entry:
            found[-1] = (index, found[-1][1], entry + 1)
        else:
            found.append((index, entry, entry + 1))
    return tuple(found)


def _rows(given: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten(1) for t in given], 1)


def _divergence(gradient: Tensor, value: Tensor, free: Tensor) -> tuple[list[int], list[float]]:
    """Columns that are means or log-variances, and the weight that each has.

    The divergence (m^2 + e^s - 1 - s)/2 has the gradients m and (e^s - 1)/2. Both kinds have to be
    there, and as many of them.

    Args:
        gradient: [samples, entries]
        value: [samples, entries]
        free: [entries], whether the targets leave the gradient as it is.
    """
    columns: list[list[int]] = [[], []]
    weights = []
    for k in free.nonzero().flatten().tolist():
        g, v = gradient[:, k].double(), value[:, k].double()
        for kind, shape in enumerate((v, (v.exp() - 1) / 2)):
            size = float(shape.square().sum())
            weight = float((g * shape).sum()) / size if size else 0.0
            if weight > 0 and float((g - weight * shape).norm()) < EXACT * float(g.norm()):
                columns[kind].append(k)
                weights.append(weight)
                break
    if len(columns[0]) != len(columns[1]):
        return [], []
    return sorted(columns[0] + columns[1]), weights

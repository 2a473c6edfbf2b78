"""Spectral normalization: weights divided by their largest singular value, as it is estimated.

`torch.nn.utils.spectral_norm` and its parametrization estimate that value by power iteration from
a random vector. After k rounds the square of the estimate is E λ^2k / E λ^(2k-1) over the squared
singular values λ, whose moments are those of Marchenko and Pastur (1967) for independent entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from isograd.errors import PredictionError
from isograd.prediction.recording import law_of
from isograd.sites.tree import Modules

_STARTED = 16
"""Rounds of power iteration that the parametrization makes before its first forward."""


@contextmanager
def estimated(modules: Modules) -> Iterator[None]:
    """Divides weights by the value that is to be expected, in place of iterating for it."""
    undo: list[tuple[dict[Any, Any], Any, Any]] = []
    try:
        for path, module in modules:
            for key, hook in module._forward_pre_hooks.items():
                if isinstance(hook, SpectralNorm):
                    undo.append((module._forward_pre_hooks, key, hook))
                    module._forward_pre_hooks[key] = _as_hook(path, module, hook)
            for name, child in module._modules.items():
                if isinstance(child, _SpectralNorm) and hasattr(child, "_u"):
                    undo.append((module._modules, name, child))
                    module._modules[name] = _Divided(_of_parametrization(module, child))
        yield
    finally:
        for held, key, value in undo:
            held[key] = value


def largest(rows: int, columns: int, rounds: int) -> float:
    """Singular value of a matrix of independent entries of variance 1, as it is estimated.

    Args:
        rows: of the matrix.
        columns: of it.
        rounds: of power iteration, from a random vector of as many entries as there are rows.
    """
    ratio = rows / columns
    above, below = (
        sum(math.comb(j, r) * math.comb(j, r - 1) // j * ratio ** (r - 1) for r in range(1, j + 1))
        for j in (2 * rounds, 2 * rounds - 1)
    )
    return math.sqrt(columns * above / below)


class _Divided(nn.Module):
    """Stands in for a parametrization."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, weight: Tensor) -> Tensor:
        return weight / self.norm


def _as_hook(path: str, module: nn.Module, hook: SpectralNorm) -> Callable[..., None]:
    weight = getattr(module, f"{hook.name}_orig")
    u, v = getattr(module, f"{hook.name}_u"), getattr(module, f"{hook.name}_v")
    rounds = hook.n_power_iterations if module.training else 0
    if weight.is_meta and not rounds:
        raise PredictionError(
            f"predict: spectral_norm of {path!r} divides in eval mode by a number made of vectors "
            "that have not been trained; predict it in train mode"
        )
    norm = _norm(weight, u, v, dim=hook.dim, rounds=rounds, first="v")

    def divide(module: nn.Module, _: Any) -> None:
        setattr(module, hook.name, getattr(module, f"{hook.name}_orig") / norm)

    return divide


def _of_parametrization(owner: nn.Module, child: _SpectralNorm) -> float:
    weight: Any = owner.original
    rounds = child.n_power_iterations if child.training else 0
    if weight.is_meta:
        rounds += _STARTED
    return _norm(weight, child._u, child._v, dim=child.dim, rounds=rounds, first="u")


def _norm(weight: Tensor, u: Any, v: Any, *, dim: int, rounds: int, first: str) -> float:
    """What a weight is divided by; `first` is the vector that a round renews first."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        matrix = weight.movedim(dim, 0).flatten(1)
        if not weight.is_meta and not u.is_meta:
            return _iterated(matrix.double(), u.double(), v.double(), rounds, first)
        law = law_of(weight)
        if law is None:
            return math.nan
        rows, columns = matrix.shape if first == "v" else matrix.shape[::-1]
        bulk = math.sqrt(law.variance) * largest(rows, columns, rounds)
        return max(bulk, abs(law.mean) * math.sqrt(rows * columns))


def _iterated(matrix: Tensor, u: Tensor, v: Tensor, rounds: int, first: str) -> float:
    for _ in range(rounds):
        if first == "u":
            u = nn.functional.normalize(matrix @ v, dim=0)
        v = nn.functional.normalize(matrix.t() @ u, dim=0)
        if first == "v":
            u = nn.functional.normalize(matrix @ v, dim=0)
    return float(u @ matrix @ v)

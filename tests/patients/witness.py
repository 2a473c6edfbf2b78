"""The second witness of the probe's numbers: torch's own hooks, one tensor at a time."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.records import Record
from patients.patient import Patient
from patients.snapshot import tensors


def rms(tensor: Tensor) -> float:
    """Root mean square; a complex number counts as two real ones."""
    tensor = tensor.detach()
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return float(real.double().square().mean().sqrt())


def witness(patient: Patient) -> tuple[dict[str, float], dict[str, float]]:
    """Root mean squares of what the innermost layers return, and of its gradient."""
    forward: dict[str, float] = {}
    backward: dict[str, float] = {}
    over: list[bool] = []

    def listen(name: str) -> Callable[..., None]:
        calls = 0

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls
            if over:  # a checkpoint's recomputation
                return
            calls += 1
            site = name if calls == 1 else f"{name}#{calls}"
            out = next(tensors(output))
            forward[site] = rms(out)
            if out.requires_grad:
                out.register_hook(lambda gradient: backward.update({site: rms(gradient)}))

        return hook

    for name, module in patient.model.named_modules():
        inner = {child for child, _ in module.named_children()} - {"parametrizations"}
        if not inner and list(module.parameters()):
            module._forward_hooks[-1] = listen(name)  # in place of register: first of all hooks
            module._forward_hooks.move_to_end(-1, last=False)
    with torch.compiler.set_stance("force_eager"):  # hooks are not for the compiler
        loss = patient.objective()
    over.append(True)
    if loss.requires_grad:
        loss.backward()
    return forward, backward


def plain(name: str) -> str:
    """A site's name without what torch.compile puts in front."""
    return name.replace("_orig_mod.", "")


def compare(record: Record, key: str, expected: Mapping[str, float], tolerance: float) -> None:
    """Fails where the record misses a number or holds another one."""
    places = {plain(site.name): index for index, site in enumerate(record.sites)}
    for name, number in expected.items():
        seen = record.value(key, places[plain(name)])
        if math.isfinite(number):
            assert seen is not None, f"{key} of {name} is missing"
            assert seen == pytest.approx(number, rel=tolerance, abs=1e-12), f"{key} of {name}"

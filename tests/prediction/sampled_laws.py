"""The second witness of a recorded law: the same code run for real."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from isograd.prediction.recording import Law, law_of, recording, values_law

# Of some thousand comparisons none should be off by more: two-sided 2e-9 each.
SIGMAS = 6.0


def law(tensor: Tensor) -> Law | None:
    """Recorded, or of the values where a tensor stayed real."""
    return law_of(tensor) if tensor.is_meta else values_law(tensor)


def assert_law(found: Law | None, tensor: Tensor, name: str = "") -> None:
    """The values' mean and variance are within the sampling error of the law's."""
    assert found is not None, f"{name}: no law"
    x = tensor.detach().double().flatten()
    n, mean, variance = x.numel(), float(x.mean()), float(x.var(correction=0))
    fourth = float(((x - mean) ** 4).mean())
    mean_error = SIGMAS * math.sqrt(variance / n) + 1e-6 * abs(mean)
    variance_error = SIGMAS * math.sqrt(max(fourth - variance**2, 0.0) / n) + 1e-5 * variance
    # The variance of the values is about their own mean: smaller by the variance of that mean.
    variance_error += SIGMAS**2 * variance / n
    assert abs(found.mean - mean) <= mean_error, f"{name}: {found}, mean {mean}"
    assert abs(found.variance - variance) <= variance_error, f"{name}: {found}, var {variance}"


def assert_same_model(build: Callable[[], nn.Module]) -> nn.Module:
    """A model recorded and one built for real agree in every parameter and buffer."""
    with recording():
        seen = build()
    torch.manual_seed(5)
    real = build()
    known, found = dict(real.named_parameters()), dict(seen.named_parameters())
    assert list(found) == list(known)
    for name, parameter in found.items():
        twin = known[name]
        assert (parameter.shape, parameter.dtype) == (twin.shape, twin.dtype), name
        assert parameter.requires_grad == twin.requires_grad, name
        assert_law(law(parameter), twin, name)
    buffers = dict(seen.named_buffers())
    for name, buffer in real.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    return seen

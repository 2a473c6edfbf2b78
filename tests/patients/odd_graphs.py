"""Odd patients: unusual things done to the graph, in place, by hand or in other formats."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from patients.odd_calls import SAMPLES, points
from patients.patient import Patient, seeded


class Written(nn.Module):
    """Three layers of sizes 7, 11, 11, 5; `write` is the forward."""

    def __init__(self, write: Any):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 11), nn.Linear(11, 11), nn.Linear(11, 5)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        return self.write(self, x)


@seeded
def in_place_activation() -> Patient:
    model = nn.Sequential(
        nn.Linear(7, 11), nn.ReLU(inplace=True), nn.Linear(11, 11), nn.SiLU(inplace=True),
        nn.Linear(11, 11), nn.LeakyReLU(0.1, inplace=True), nn.Dropout(0.0, inplace=True),
        nn.Linear(11, 5),
    )  # fmt: skip
    return Patient(model, points())


@seeded
def in_place_residual() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        x = F.relu_(net.a(x))
        y = net.b(x)
        y += x
        y *= 0.5
        return net.c(y.tanh_())

    return Patient(Written(write), points())


@seeded
def in_place_on_views() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        x = net.a(x)
        x[:, :3].mul_(2.0)
        x = net.b(x).clone()
        x.view(-1).add_(0.1)
        x[x < 0] = 0.0
        x[:, 4:6] = torch.sigmoid(x[:, 4:6].clone())
        return net.c(x)

    return Patient(Written(write), points())


@seeded
def shared_module() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        return net.c(net.b(torch.tanh(net.b(torch.tanh(net.a(x))))))

    return Patient(Written(write), points())


@seeded
def frozen_part() -> Patient:
    patient = Patient(Written(lambda net, x: net.c(F.gelu(net.b(F.gelu(net.a(x)))))), points())
    patient.model.a.requires_grad_(False)
    patient.model.c.bias.requires_grad_(False)
    return patient


@seeded
def frozen_middle() -> Patient:
    patient = Patient(Written(lambda net, x: net.c(F.gelu(net.b(F.gelu(net.a(x)))))), points())
    patient.model.b.requires_grad_(False)
    return patient


@seeded
def frozen_whole() -> Patient:
    patient = Patient(Written(lambda net, x: net.c(F.gelu(net.b(F.gelu(net.a(x)))))), points())
    patient.model.requires_grad_(False)
    return patient


def _checkpointed(reentrant: bool) -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        x = F.gelu(net.a(x))
        x = checkpoint(lambda t: F.dropout(F.gelu(net.b(t)), 0.0), x, use_reentrant=reentrant)
        return net.c(x)

    return Patient(Written(write), points())


@seeded
def checkpoint_reentrant() -> Patient:
    return _checkpointed(True)


@seeded
def checkpoint_modern() -> Patient:
    return _checkpointed(False)


@seeded
def autocast_inside() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net.c(F.relu(net.b(F.relu(net.a(x))))).float()

    return Patient(Written(write), points())


@seeded
def bfloat16_model() -> Patient:
    x, y = points()
    model = Written(lambda net, x: net.c(F.relu(net.b(F.relu(net.a(x))))))
    return Patient(model.bfloat16(), (x.bfloat16(), y), F.cross_entropy)


@seeded
def float64_model() -> Patient:
    x, y = points()
    model = Written(lambda net, x: net.c(F.relu(net.b(F.relu(net.a(x))))))
    return Patient(model.double(), (x.double(), y))


class Fourier(nn.Module):
    """A complex filter between two real layers."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(7, 12), nn.Linear(12, 5)
        self.filter = nn.Parameter(torch.randn(7, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(self.a(x)) * self.filter
        return self.c(torch.fft.irfft(spectrum, n=12))


@seeded
def complex_inside() -> Patient:
    return Patient(Fourier(), points())


@seeded
def complex_layers() -> Patient:
    x, y = points()
    model = nn.Sequential(
        nn.Linear(7, 11, dtype=torch.complex64), nn.Tanh(), nn.Linear(11, 5, dtype=torch.complex64)
    )
    return Patient(model, (x + 0j, y), lambda out, labels: F.cross_entropy(out.abs(), labels))


@seeded
def gradient_penalty() -> Patient:
    def write(net: Written, x: Tensor) -> Any:
        x = x.detach().requires_grad_()
        out = net.c(torch.tanh(net.b(torch.tanh(net.a(x)))))
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return out, slope

    def loss(out: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(out[0], labels) + 0.1 * (out[1].norm(dim=1) - 1).square().mean()

    return Patient(Written(write), points(), loss)


@seeded
def backward_in_forward() -> Patient:
    """Finds a latent by two gradient steps before it answers; touches its own gradients."""

    def write(net: Written, x: Tensor) -> Tensor:
        latent = net.a(x).detach().requires_grad_()
        for _ in range(2):
            error = (net.b(latent) - net.a(x).detach()).square().mean()
            error.backward()
            latent = (latent - latent.grad).detach().requires_grad_()
        return net.c(torch.tanh(net.a(x) + latent.detach()))

    return Patient(Written(write), points())


@seeded
def no_grad_in_parts() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = torch.tanh(net.a(x))
        return net.c(torch.tanh(net.b(features)))

    return Patient(Written(write), points())


@seeded
def inference_mode_in_parts() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        with torch.inference_mode():
            features = torch.tanh(net.a(x))
        return net.c(torch.tanh(net.b(features.clone())))

    return Patient(Written(write), points())


class Swish(torch.autograd.Function):
    """x * sigmoid(x) with its own backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate))


@seeded
def custom_function() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        return net.c(Swish.apply(net.b(Swish.apply(net.a(x)))))

    return Patient(Written(write), points())


@seeded
def vmapped_ensemble() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        scales = torch.tensor([0.5, 1.0, 2.0])
        members = torch.func.vmap(lambda s: torch.tanh(net.b(s * torch.tanh(net.a(x)))))(scales)
        return net.c(members.mean(0))

    return Patient(Written(write), points())


@seeded
def stateless_call() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        doubled = {"weight": 2 * net.b.weight, "bias": net.b.bias}
        x = torch.func.functional_call(net.b, doubled, (torch.tanh(net.a(x)),))
        return net.c(torch.tanh(x))

    return Patient(Written(write), points())


@seeded
def gradient_hooks_inside() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        x = torch.tanh(net.a(x))
        x.retain_grad()
        x.register_hook(lambda gradient: 0.5 * gradient)
        return net.c(torch.tanh(net.b(x)))

    return Patient(Written(write), points())


@seeded
def nan_inside() -> Patient:
    def write(net: Written, x: Tensor) -> Tensor:
        return net.c(torch.tanh(net.b(torch.log(net.a(x)))))

    return Patient(Written(write), points())


@seeded
def caught_exception() -> Patient:
    """A branch fails inside a module; the model goes on without it."""

    def write(net: Written, x: Tensor) -> Tensor:
        x = torch.tanh(net.a(x))
        try:
            net.c(x[:, :3])
        except RuntimeError:
            x = torch.tanh(net.b(x))
        return net.c(x)

    return Patient(Written(write), points())


@seeded
def hooked_by_user() -> Patient:
    patient = Patient(Written(lambda net, x: net.c(torch.tanh(net.b(net.a(x))))), points())
    model = patient.model
    model.a.register_forward_hook(lambda module, args, out: torch.tanh(out))
    model.b.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    model.b.register_full_backward_hook(lambda module, into, out: (0.5 * into[0],))
    model.c.weight.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return patient


@seeded
def fast_path_encoder() -> Patient:
    """Frozen and in eval mode, torch's encoder layers run as one fused, nested kernel."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 5))
    model[0].requires_grad_(False)
    x, y = points()
    wide = F.pad(x, (0, 1))[:, None] + torch.randn(SAMPLES, 4, 8)
    return Patient(model.eval(), (wide, y))

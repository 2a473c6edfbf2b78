"""Tests of weight gradients whose terms do not average out: the gradient holds the input itself."""

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.series import rate
from isograd.prediction.moments.fields import Field


def batch(kind):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(6, 3, 18, 18, generator=generator)
    if kind == "images":
        return images, torch.arange(6) % 5
    samples = torch.randn(1500, 24, generator=generator)
    return samples, torch.randn(1500, 7, generator=generator)


def pooled(norm):
    layers = []
    for width in (3, 32):
        layers += [nn.Conv2d(width, 32, 3, padding=1), *norm(), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))


def perceptron():
    return nn.Sequential(
        nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 7)
    )


CASES = {
    "regression": (lambda: nn.Linear(24, 7), "samples", 0.05),
    "perceptron": (perceptron, "samples", 0.15),
    "pooled maps": (lambda: pooled(list), "images", 0.12),
    "group norm": (lambda: pooled(lambda: [nn.GroupNorm(4, 32)]), "images", 0.2),
}


@pytest.mark.parametrize("name", CASES)
def test_weight_gradients(name):
    """Against draws of the weights; as if independent, some would be too low by a factor of 2."""
    build, kind, within = CASES[name]
    data = batch(kind)
    record = isograd.predict(build, data)
    found = {}
    for seed in range(40):
        torch.manual_seed(seed)
        drawn = isograd.measure(build(), data)
        for place, one in enumerate(drawn.parameters):
            value = drawn.series["weight.grad_rms"][place]
            found.setdefault(one.name, []).append(value)
    for place, one in enumerate(record.parameters):
        if one.name.endswith("weight"):
            truth = float(np.sqrt(np.mean(np.square(found[one.name]))))
            assert record.series["weight.grad_rms"][place] == pytest.approx(truth, rel=within), one


def per_place(norm, depth):
    layers = []
    for width in (3, *[32] * (depth - 1)):
        layers += [nn.Conv2d(width, 32, 3, padding=1), norm(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 5, 1))


@pytest.mark.parametrize(
    ("norm", "depth", "within"),
    [
        (lambda width: nn.GroupNorm(8, width), 4, 0.2),
        (lambda width: nn.GroupNorm(1, width), 3, 0.35),
        (nn.BatchNorm2d, 1, 0.15),
        (lambda width: nn.InstanceNorm2d(width, affine=True), 1, 0.15),
    ],
    ids=["groups", "layer", "batch", "instance"],
)
def test_a_loss_at_every_place(norm, depth, within):
    """What answers to its own output is taken away by norms: else 1.5 to 1.9, or 0.66 times."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, 24, 24, generator=generator)
    shape = (4, 24, 24)
    labels = torch.randint(5, shape, generator=generator)
    record = isograd.predict(lambda: per_place(norm, depth), (images, labels))
    found = []
    for seed in range(24):
        torch.manual_seed(seed)
        drawn = isograd.measure(per_place(norm, depth), (images, torch.randint(5, shape)))
        found.append(drawn.series["weight.grad_rms"])
    truth = np.sqrt(np.mean(np.square(np.array(found, dtype=float)), axis=0))
    for place, one in enumerate(record.parameters):
        cancels = one.name.endswith("bias") and one.kind != "norm"
        if not cancels or place == len(record.parameters) - 1:
            value = record.series["weight.grad_rms"][place]
            assert value == pytest.approx(truth[place], rel=within), one


def autoencoder():
    layers = nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 12), nn.Linear(12, 48), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(48, 24))


def upscaled():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 32, 3, padding=1), nn.GELU(),
        nn.Conv2d(32, 24, 3, padding=1),
    )  # fmt: skip


@pytest.mark.parametrize(("build", "kind"), [(autoencoder, "samples"), (upscaled, "images")])
def test_gradients_along_their_own_output(build, kind):
    """Of the mean square of the output: as if independent, they are 30 to 60 % too low."""
    data = batch(kind)[0][:64]
    loss = lambda output, _: output.square().mean()  # noqa: E731
    found = isograd.predict(build, data, loss=loss).series["backward.rms"]
    drawn = []
    for seed in range(60):
        torch.manual_seed(seed)
        drawn.append(isograd.measure(build(), data, loss).series["backward.rms"])
    truth = np.sqrt(np.mean(np.square(np.array(drawn, dtype=float)), axis=0))
    assert np.array(found, dtype=float) == pytest.approx(truth, rel=0.08)


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        (nn.BCEWithLogitsLoss(), []),
        (nn.L1Loss(), []),
        (nn.SmoothL1Loss(), []),
        (nn.MSELoss(), [nn.Sigmoid()]),
    ],
)
def test_losses_of_one_layer(loss, last):
    """Targets drawn in [0, 1]; as if independent, gradients are too low by a factor of 2 to 4."""
    inputs, _ = batch("samples")
    targets = torch.rand(len(inputs), 7, generator=torch.Generator().manual_seed(2))

    def build():
        return nn.Sequential(nn.Linear(24, 7), *last)

    guess = isograd.predict(build, (inputs, targets), loss=loss).series["weight.grad_rms"][0]
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        drawn = isograd.measure(build(), (inputs, targets), loss)
        found.append(drawn.series["weight.grad_rms"][0])
    assert guess == pytest.approx(float(np.sqrt(np.mean(np.square(found)))), rel=0.08)


def test_the_rate_of_a_pair():
    """D E f f' / d Cov(u, u') by a difference of covariances, for two sizes of u."""
    sizes = (4, 3)
    values = {}
    for covariance in (0.30, 0.32):
        second = np.array([1.0, 2.0, 0.4, 0.35, 0.35, covariance])
        u = Field(second, (sizes,), (1,), np.zeros(2))
        quadrature = Quadrature.of(u)
        f = np.tanh(quadrature.x)
        nodes = Nodes(quadrature, f, 1 - f**2)
        values[covariance] = nodes.moments(u)[1], rate(quadrature, f, u)
    slope = (values[0.32][0] - values[0.30][0])[5] / 0.02
    mean = (values[0.32][1] + values[0.30][1])[5] / 2
    assert mean == pytest.approx(slope, rel=1e-4)
    assert values[0.30][1][0] == 0.0

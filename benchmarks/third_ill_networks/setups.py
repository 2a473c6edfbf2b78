"""A third set of ill networks: questions that practitioners ask, rebuilt small.

    python benchmarks/repairs.py benchmarks/third_ill_networks

Written before any repair was run. What they showed at first sight, and which reasons of misses
were mended since, is in LOG.md. X40 and above are well, though they look like ill ones.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ill_networks.setups import BCE, CE, MSE, Config, Setup, adam, ended, mlp, sgd, titled
from ill_networks.setups import train as train
from third_ill_networks.data import data
from third_ill_networks.networks import (
    Chars,
    Clamp,
    Conv1,
    Last,
    Plain,
    Res,
    Sign,
    Sine,
    Soft,
    Tied,
    Vit,
    Words,
    affine,
    convnet,
    gamma,
    halved,
    he,
    normal,
    siren,
    xavier,
)

Loss = Callable[[Tensor, Tensor], Tensor]


def rms(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    """RMSprop."""
    return lambda p: torch.optim.RMSprop(p, lr)


def adagrad(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    """Adagrad."""
    return lambda p: torch.optim.Adagrad(p, lr)


def timid(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    """Adam with an epsilon of 1."""
    return lambda p: torch.optim.Adam(p, lr, eps=1.0)


def scaled(loss: Loss, unit: float) -> Loss:
    """A loss of outputs and targets in a unit of their own."""
    return lambda out, y: loss(out / unit, y / unit)


def of_steps(out: Tensor, y: Tensor) -> Tensor:
    """Cross entropy over all steps of all samples."""
    return CE(out.flatten(0, 1), y.flatten())


def in_float(out: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of logits in half precision."""
    return CE(out.float(), y)


def rmsle(out: Tensor, y: Tensor) -> Tensor:
    """Root of the mean squared error of logarithms."""
    return (torch.log(out + 1) - torch.log(y + 1)).pow(2).mean().sqrt()


def hinge(out: Tensor, y: Tensor) -> Tensor:
    """Hinge loss, of labels -1 and 1."""
    return F.relu(1 - y * out).mean()


def hinge_of_signs(out: Tensor, y: Tensor) -> Tensor:
    """The same of labels 0 and 1."""
    return hinge(out, 2 * y - 1)


def naive_mixture(out: Tensor, y: Tensor) -> Tensor:
    """Negative log-likelihood of three normal densities, by their values."""
    weights, means, widths = out.chunk(3, 1)
    widths = widths.exp()
    densities = torch.exp(-0.5 * ((y - means) / widths) ** 2) / (widths * 2.5066283)
    return -torch.log((weights.softmax(1) * densities).sum(1)).mean()


def mixture(out: Tensor, y: Tensor) -> Tensor:
    """The same, by their logarithms."""
    weights, means, widths = out.chunk(3, 1)
    squares = 0.5 * ((y - means) * torch.exp(-widths)) ** 2
    return -torch.logsumexp(weights.log_softmax(1) - widths - 0.9189385 - squares, 1).mean()


def sigmoids() -> nn.Sequential:
    """An autoencoder with sigmoids throughout."""
    return ended(mlp(*CODER, act=nn.Sigmoid), nn.Sigmoid())


def lstm(layers: int) -> Last:
    """An LSTM that is read at its last step."""
    return Last(nn.LSTM(5, 32, num_layers=layers, batch_first=True), 32, 5)


def residual() -> nn.Sequential:
    """Thirty residual blocks with layer norms."""
    blocks = (Res(32) for _ in range(30))
    return nn.Sequential(nn.Linear(64, 32), *blocks, nn.LayerNorm(32), nn.Linear(32, 10))


def zeroed() -> nn.Sequential:
    """Twelve residual blocks that begin at zero."""
    return nn.Sequential(nn.Linear(64, 48), *(Plain(48) for _ in range(12)), nn.Linear(48, 10))


def dropped() -> nn.Sequential:
    """A classifier with a usual dropout."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10))


CODER = (64, 48, 24, 8, 24, 48, 64)
PIXELS = (64, 32, 12, 32, 64)
SINES = (2, 64, 64, 64, 64, 1)
HARD = (64, 100, 100, 100, 10)
WIDE = (64, 128, 128, 128, 10)

CASES: dict[str, tuple[str, Config, dict[str, Config]]] = {
    "X01 neural network cannot learn the sine of an angle in degrees": (
        "INPUT_SCALE SATURATION", {"loss": MSE, "opt": adam(3e-3), "steps": 500,
                                   "net": lambda: mlp(1, 32, 32, 1, act=nn.Tanh)},
        {"broken": {"data": "degrees:raw"}, "fixed": {"data": "degrees:unit"}},
    ),
    "X02 Q-values of hundreds with the Huber loss, network is far too slow": (
        "TARGET_SCALE", {"data": "returns", "opt": adam(1e-3), "steps": 400},
        {"broken": {"loss": F.smooth_l1_loss, "net": lambda: mlp(6, 64, 64, 1)},
         "fixed": {"loss": scaled(MSE, 250.0),
                   "net": lambda: ended(mlp(6, 64, 64, 1), affine(600, 250))}},
    ),
    "X03 stock returns of 0.002: network gives a constant": (
        "TARGET_SCALE", {"data": "stock", "opt": sgd(0.05, 0.9), "steps": 400},
        {"broken": {"loss": MSE, "net": lambda: mlp(10, 32, 32, 1)},
         "fixed": {"loss": scaled(MSE, 0.002),
                   "net": lambda: ended(mlp(10, 32, 32, 1), affine(0.001, 0.002))}},
    ),
    "X04 EEG in volts, one-dimensional convolutions stay at ln 3": (
        "INPUT_SCALE", {"opt": adam(1e-3), "steps": 250, "net": Conv1},
        {"broken": {"data": "eeg:raw"}, "fixed": {"data": "eeg:unit"}},
    ),
    "X05 weather in pascal and kelvin, GRU says the same for all": (
        "INPUT_SCALE SATURATION", {"loss": MSE, "opt": adam(5e-3), "steps": 300,
                                   "net": lambda: Last(nn.GRU(4, 32, batch_first=True), 32, 1)},
        {"broken": {"data": "weather:raw"}, "fixed": {"data": "weather:unit"}},
    ),
    "X06 a unix timestamp among the features, loss of millions": (
        "INPUT_SCALE", {"loss": BCE, "opt": adam(3e-3), "steps": 300,
                        "net": lambda: mlp(6, 32, 32, 1)},
        {"broken": {"data": "clock:raw"}, "fixed": {"data": "clock:unit"}},
    ),
    "X07 multi-label classification with softmax and categorical cross entropy": (
        "LOSS_MISMATCH", {"data": "tags", "opt": adam(3e-3), "steps": 300,
                          "net": lambda: mlp(16, 64, 12)},
        {"broken": {"loss": CE}, "fixed": {"loss": BCE}},
    ),
    "X08 root mean squared log error turns into nan": (
        "NAN_LOCAL LOSS_MISMATCH", {"data": "sales", "loss": rmsle, "opt": adam(3e-3),
                                    "steps": 300},
        {"broken": {"net": lambda: he(mlp(8, 48, 48, 1))},
         "fixed": {"net": lambda: he(ended(mlp(8, 48, 48, 1), nn.Softplus()))}},
    ),
    "X09 one LSTM layer learns, five stacked ones do not": (
        "VANISH_DEPTH FWD_COLLAPSE", {"data": "moves", "opt": adam(2e-3), "steps": 150},
        {"broken": {"net": lambda: lstm(5), "opt": sgd(0.1, 0.0)},
         "fixed": {"net": lambda: lstm(1)}},
    ),
    "X10 autoencoder gives the average of all images (sigmoids, SGD)": (
        "VANISH_DEPTH SATURATION LR_TOO_LOW", {"data": "digits:auto", "loss": MSE, "steps": 400},
        {"broken": {"opt": sgd(0.1, 0.0), "net": sigmoids},
         "fixed": {"opt": adam(3e-3), "net": lambda: ended(mlp(*CODER), nn.Sigmoid())}},
    ),
    "X11 regression is biased towards zero: dropout after the output layer": (
        "DROPOUT", {"data": "smooth", "loss": MSE, "opt": adam(3e-3), "steps": 400},
        {"broken": {"net": lambda: ended(mlp(10, 64, 64, 1), nn.Dropout(0.5))},
         "fixed": {"net": lambda: mlp(10, 64, 64, 1)}},
    ),
    "X12 Adam with epsilon=1.0 as the Inception page advises: hardly any progress": (
        "LR_TOO_LOW OPTIMIZER", {"data": "digits:flat", "steps": 300,
                                 "net": lambda: mlp(64, 64, 64, 10)},
        {"broken": {"opt": timid(1e-3)}, "fixed": {"opt": adam(1e-3)}},
    ),
    "X13 softmax as activation of the hidden layers": (
        "SATURATION VANISH_DEPTH LOSS_MISMATCH", {"data": "digits:flat", "steps": 300},
        {"broken": {"net": lambda: mlp(64, 64, 64, 10, act=Soft), "opt": sgd(0.1, 0.9)},
         "fixed": {"net": lambda: mlp(64, 64, 64, 10), "opt": sgd(0.05, 0.9)}},
    ),
    "X14 group norm with one channel a group after global pooling: loss at ln 10": (
        "NORM_MODE NORM_PLACEMENT FWD_COLLAPSE", {"data": "digits:img", "opt": adam(3e-3),
                                                  "steps": 250},
        {"broken": {"net": lambda: convnet(nn.GroupNorm(32, 32))},
         "fixed": {"net": lambda: convnet(nn.GroupNorm(4, 32))}},
    ),
    "X15 character RNN from scratch with randn weights": (
        "SATURATION RECURRENT_CHI EXPLODE_DEPTH", {"data": "chars", "loss": of_steps,
                                                   "opt": adagrad(0.1), "steps": 250},
        {"broken": {"net": lambda: Chars(1.0)}, "fixed": {"net": lambda: Chars(0.05)}},
    ),
    "X16 sine activations with torch's initialization do not fit a picture": (
        "GAIN_MISMATCH", {"data": "picture", "loss": MSE, "opt": adam(1e-3), "steps": 300,
                          "batch": 256},
        {"broken": {"net": lambda: mlp(*SINES, act=Sine)},
         "fixed": {"net": lambda: siren(mlp(*SINES, act=Sine))}},
    ),
    "X17 hardtanh network with unit normal weights stays where it was": (
        "SATURATION EXPLODE_DEPTH", {"data": "digits:flat", "opt": sgd(0.05, 0.0), "steps": 300},
        {"broken": {"net": lambda: normal(mlp(*HARD, act=nn.Hardtanh))},
         "fixed": {"net": lambda: xavier(mlp(*HARD, act=nn.Hardtanh))}},
    ),
    "X18 all batch norm weights initialized to zero": (
        "FWD_COLLAPSE SYMMETRY DEAD_UNITS", {"data": "digits:img", "opt": sgd(0.05, 0.9),
                                             "steps": 200},
        {"broken": {"net": lambda: gamma(convnet(norm=True), 0.0)},
         "fixed": {"net": lambda: gamma(convnet(norm=True), 1.0)}},
    ),
    "X19 tf.random_normal weights and biases, Adam: cost begins at thousands": (
        "EXPLODE_DEPTH", {"data": "digits:flat01", "opt": adam(1e-3), "steps": 300},
        {"broken": {"net": lambda: normal(mlp(*WIDE), bias=1.0)},
         "fixed": {"net": lambda: he(mlp(*WIDE))}},
    ),
    "X20 small vision transformer trained with SGD at 1e-3": (
        "LR_TOO_LOW", {"data": "digits:rows", "steps": 200, "net": lambda: Vit(2)},
        {"broken": {"opt": sgd(1e-3, 0.0)}, "fixed": {"opt": adam(2e-3)}},
    ),
    "X21 own transformer block, the additions were forgotten": (
        "VANISH_DEPTH FWD_COLLAPSE", {"data": "digits:rows", "steps": 200, "opt": adam(1e-3)},
        {"broken": {"net": lambda: Vit(6, skip=False)}, "fixed": {"net": lambda: Vit(6)}},
    ),
    "X22 one layer called twenty times in a loop": (
        "GAIN_MISMATCH RECURRENT_CHI VANISH_DEPTH", {"data": "digits:flat", "steps": 250,
                                                     "opt": sgd(0.05, 0.9)},
        {"broken": {"net": lambda: Tied(20)}, "fixed": {"net": lambda: Tied(20, skip=True)}},
    ),
    "X23 own RMS norm in half precision: squares overflow": (
        "PRECISION NAN_LOCAL INPUT_SCALE", {"data": "digits:bytes", "loss": in_float,
                                            "opt": sgd(0.05, 0.0), "steps": 200},
        {"broken": {"net": lambda: halved(up=False)}, "fixed": {"net": lambda: halved(up=True)}},
    ),
    "X24 mixture density network: nan": (
        "NAN_LOCAL TARGET_SCALE", {"data": "inverse:far", "opt": adam(3e-3), "steps": 300,
                                   "net": lambda: mlp(1, 32, 9, act=nn.Tanh)},
        {"broken": {"loss": naive_mixture}, "fixed": {"loss": mixture}},
    ),
    "X26 output clamped to 0..1, pixels stay black": (
        "DEAD_OUTPUT SATURATION", {"data": "digits:auto", "loss": MSE, "opt": adam(3e-3),
                                   "steps": 400},
        {"broken": {"net": lambda: ended(mlp(*PIXELS), Clamp())},
         "fixed": {"net": lambda: ended(mlp(*PIXELS), nn.Sigmoid())},
         "fixed_plain": {"net": lambda: mlp(*PIXELS)}},
    ),
    "X27 six tanh layers, Adam at 0.05": (
        "LR_TOO_HIGH SATURATION", {"data": "digits:flat", "steps": 250,
                                   "net": lambda: mlp(64, *[64] * 6, 10, act=nn.Tanh)},
        {"broken": {"opt": adam(0.05)}, "fixed": {"opt": adam(1e-3)}},
    ),
    "X28 hinge loss with labels 0 and 1": (
        "LOSS_MISMATCH DATA_LABELS", {"data": "moons", "opt": adam(5e-3), "steps": 250,
                                      "net": lambda: mlp(2, 32, 1)},
        {"broken": {"loss": hinge}, "fixed": {"loss": hinge_of_signs}},
    ),
    "X29 torch.sign as activation": (
        "SATURATION DEAD_UNITS", {"data": "digits:flat", "opt": adam(3e-3), "steps": 300},
        {"broken": {"net": lambda: mlp(64, 32, 16, 16, 10, act=Sign)},
         "fixed": {"net": lambda: mlp(64, 32, 16, 16, 10, act=nn.Tanh)}},
    ),
    "X30 age of 1 to 100 from images, nan with SGD": (
        "TARGET_SCALE LR_TOO_HIGH", {"data": "digits:age", "opt": sgd(0.05, 0.9), "steps": 200},
        {"broken": {"loss": MSE, "net": lambda: convnet(out=1)},
         "fixed": {"loss": scaled(MSE, 29.0),
                   "net": lambda: nn.Sequential(convnet(out=1), affine(50, 29.0))}},
    ),
    "X31 deep and narrow rectifiers give a constant": (
        "DEAD_UNITS FWD_COLLAPSE", {"data": "smooth", "loss": MSE, "opt": adam(5e-3),
                                    "steps": 400},
        {"broken": {"net": lambda: he(mlp(10, *[4] * 12, 1))},
         "fixed": {"net": lambda: he(mlp(10, 64, 64, 1))}},
    ),
    "X32 vanilla RNN classifier with a rate of 0.1 in RMSprop": (
        "LR_TOO_HIGH", {"data": "moves", "steps": 200,
                        "net": lambda: Last(nn.RNN(5, 32, batch_first=True), 32, 5)},
        {"broken": {"opt": rms(0.1)}, "fixed": {"opt": rms(2e-3)}},
    ),
    "X40 bytes behind a batch norm": (
        "", {"data": "digits:bytes", "opt": sgd(0.05, 0.9), "steps": 200},
        {"ok": {"net": lambda: nn.Sequential(nn.BatchNorm1d(64), mlp(64, 48, 10))}},
    ),
    "X41 logistic regression at a rate of 0.5": (
        "", {"data": "digits:flat01", "opt": sgd(0.5, 0.0), "steps": 200},
        {"ok": {"net": lambda: mlp(64, 10)}},
    ),
    "X42 thirty residual blocks with layer norm": (
        "", {"data": "digits:flat", "opt": adam(5e-4), "steps": 150}, {"ok": {"net": residual}},
    ),
    "X43 sigmoid output with BCELoss": (
        "", {"data": "moons", "loss": F.binary_cross_entropy, "opt": adam(1e-2), "steps": 250},
        {"ok": {"net": lambda: ended(mlp(2, 32, 1), nn.Sigmoid())}},
    ),
    "X44 residual branches that begin at zero, no norm": (
        "", {"data": "digits:flat", "opt": sgd(0.05, 0.9), "steps": 200}, {"ok": {"net": zeroed}},
    ),
    "X45 GRU of words with RMSprop": (
        "", {"data": "words", "opt": rms(3e-3), "steps": 200}, {"ok": {"net": Words}},
    ),
    "X46 tanh autoencoder with a code of three": (
        "", {"data": "digits:auto", "loss": MSE, "opt": adam(5e-3), "steps": 400},
        {"ok": {"net": lambda: mlp(64, 32, 3, 32, 64, act=nn.Tanh)}},
    ),
    "X47 labels smoothed": (
        "", {"data": "digits:flat", "opt": adam(2e-3), "steps": 250,
             "loss": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        {"ok": {"net": dropped}},
    ),
    "X48 eight leaky layers by He": (
        "", {"data": "digits:flat", "opt": sgd(0.02, 0.0), "steps": 300},
        {"ok": {"net": lambda: he(mlp(64, *[64] * 8, 10, act=nn.LeakyReLU))}},
    ),
    "X49 rectifier as output of positive targets": (
        "", {"data": "sales", "loss": F.smooth_l1_loss, "opt": adam(3e-3), "steps": 300},
        {"ok": {"net": lambda: ended(mlp(8, 48, 1), nn.Softplus())},
         "ok_relu6": {"net": lambda: mlp(8, 48, 48, 1, act=nn.ReLU6)}},
    ),
    "X50 two sigmoid layers with Adam": (
        "", {"data": "digits:flat", "opt": adam(1e-2), "steps": 250},
        {"ok": {"net": lambda: mlp(64, 48, 48, 10, act=nn.Sigmoid)}},
    ),
    "X51 character LSTM, rate 0.5 with momentum": (
        "", {"data": "chars", "loss": of_steps, "opt": sgd(0.5, 0.9), "steps": 300},
        {"ok": {"net": lambda: Chars(kind=nn.LSTM)}},
    ),
}  # fmt: skip
"""Question: (diagnoses, base, variants)."""

load, variants = titled(CASES)


def build(config: Config, seed: int = 0) -> Setup:
    """A variant, drawn from a seed."""
    x, y = data(config["data"])
    torch.manual_seed(seed)
    return Setup(config["net"](), config["loss"], config["opt"], x, y, config["batch"], seed)

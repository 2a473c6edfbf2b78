"""A fourth set of ill networks: questions that practitioners ask, rebuilt small.

    ISOGRAD_DATA=FOLDER python benchmarks/repairs.py benchmarks/fourth_ill_networks

Written before any repair was run; FOLDER holds MNIST. What they showed at first sight, and which
reasons of misses were mended since, is in LOG.md. Y41 and above are well, though they look like
ill ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fourth_ill_networks.data import data
from fourth_ill_networks.networks import (
    Rounded,
    Rows,
    constant,
    convs,
    dropped,
    glorot,
    skips,
    topped,
    unit_normal,
)
from ill_networks.setups import (
    BCE,
    MSE,
    Config,
    Encoder,
    Setup,
    adam,
    drawn,
    ended,
    he,
    lecun,
    mlp,
    sgd,
    titled,
)
from ill_networks.setups import train as train
from third_ill_networks.networks import affine
from third_ill_networks.setups import rms, scaled


def of_probabilities(p: Tensor, y: Tensor) -> Tensor:
    """Binary cross entropy as Keras has it: probabilities are kept off 0 and 1."""
    near = 1e-7
    one = y * torch.log(p.clamp(near, 1 - near))
    return -(one + (1 - y) * torch.log((1 - p).clamp(near, 1 - near))).mean()


def naive_likelihood(p: Tensor, y: Tensor) -> Tensor:
    """Cross entropy as beginners write it."""
    return -torch.log(p[torch.arange(len(y)), y]).mean()


def squares_of_classes(out: Tensor, y: Tensor) -> Tensor:
    """Squared error of one-hot labels."""
    return MSE(out, F.one_hot(y, 10).float())


def summed(out: Tensor, y: Tensor) -> Tensor:
    """Cross entropy, summed over the batch."""
    return F.cross_entropy(out, y, reduction="sum")


def rnn(gain: float, kind: str = "relu") -> Rows:
    """A plain recurrence."""
    return Rows(nn.RNN(28, 64, nonlinearity=kind, batch_first=True), gain)


class Leaky02(nn.LeakyReLU):
    """As DCGAN's discriminator has it."""

    def __init__(self) -> None:
        super().__init__(0.2)


def coder() -> nn.Sequential:
    """An autoencoder with a code of 32 and linear outputs."""
    return mlp(784, 128, 32, 128, 784)


def sure(last: nn.Module) -> nn.Sequential:
    """A classifier of yes and no that ends in this, by Glorot."""
    return glorot(ended(mlp(30, 16, 1), last))


def plain_conv() -> nn.Sequential:
    """Four convolutions and two layers, by He."""
    return topped(convs(8, 8, 0, 16, 16, 0), 64)


def small_conv() -> nn.Sequential:
    """Two convolutions and two layers."""
    return topped(convs(8, 0, 16, 0), 32)


SILU = (16, 0, 16, 16, 16, 16, 0, 16, 16, 16, 16, 16)
PRELU = (784, *[96] * 22, 10)
NIELSEN = (784, 30, 30, 10)

ROWS = {"rows": 28, "width": 32, "heads": 4}

CASES: dict[str, tuple[str, Config, dict[str, Config]]] = {
    "Y01 DCGAN's weights_init (normal 0.02) in a dense LeakyReLU classifier": (
        "FWD_COLLAPSE VANISH_DEPTH GAIN_MISMATCH", {"opt": sgd(0.01), "steps": 300},
        {"broken": {"net": lambda: drawn(mlp(784, *[128] * 6, 10, act=Leaky02), lambda _: 0.02)},
         "fixed": {"net": lambda: he(mlp(784, *[128] * 6, 10, act=Leaky02))}},
    ),
    "Y02 deep linear network, 25 layers without activations": (
        "FWD_COLLAPSE VANISH_DEPTH GAIN_MISMATCH", {"opt": sgd(0.005, 0.0), "steps": 300},
        {"broken": {"net": lambda: mlp(784, *[64] * 25, 10, act=nn.Identity)},
         "fixed": {"net": lambda: lecun(mlp(784, *[64] * 25, 10, act=nn.Identity))}},
    ),
    "Y03 PReLU network of 22 layers stays at 10 %": (
        "GAIN_MISMATCH FWD_COLLAPSE VANISH_DEPTH", {"opt": sgd(0.01), "steps": 300},
        {"broken": {"net": lambda: mlp(*PRELU, act=nn.PReLU)},
         "fixed": {"net": lambda: he(mlp(*PRELU, act=nn.PReLU))},
         "fixed_bn": {"net": lambda: mlp(*PRELU, act=nn.PReLU, norm=0.1)}},
    ),
    "Y04 ReLU replaced by SiLU in a CNN of ten layers without norms": (
        "GAIN_MISMATCH FWD_COLLAPSE VANISH_DEPTH",
        {"data": "mnist:img", "opt": sgd(0.01), "steps": 120, "batch": 32},
        {"broken": {"net": lambda: convs(*SILU, act=nn.SiLU, head=nn.Linear(16, 10))},
         "fixed": {"net": lambda: convs(*SILU, act=nn.SiLU, norm=True, head=nn.Linear(16, 10))}},
    ),
    "Y05 Nielsen's network: random_normal weights, sigmoids, quadratic cost": (
        "SATURATION LOSS_MISMATCH EXPLODE_DEPTH",
        {"data": "mnist:01", "opt": sgd(0.5, 0.0), "steps": 400},
        {"broken": {"net": lambda: unit_normal(ended(mlp(*NIELSEN, act=nn.Sigmoid), nn.Sigmoid())),
                    "loss": squares_of_classes},
         "fixed": {"net": lambda: lecun(mlp(*NIELSEN, act=nn.Sigmoid))}},
    ),
    "Y06 plain CNN with the rate of the ResNet paper: 2.303 for ever": (
        "LR_TOO_HIGH DEAD_UNITS",
        {"data": "mnist:img", "net": lambda: he(plain_conv()), "steps": 120, "batch": 32},
        {"broken": {"opt": sgd(0.1)}, "fixed": {"opt": sgd(0.01)}},
    ),
    "Y07 RMSprop trains in Keras but not in PyTorch, whose default rate is 0.01": (
        "LR_TOO_HIGH DEAD_UNITS", {"net": lambda: mlp(784, *[256] * 5, 10), "steps": 200},
        {"broken": {"opt": rms(0.01)}, "fixed": {"opt": rms(0.001)}},
    ),
    "Y08 LSTM stays around ln 10 with SGD at 0.01": (
        "LR_TOO_LOW", {"data": "rows:1", "steps": 200, "batch": 32,
                       "net": lambda: Rows(nn.LSTM(28, 64, batch_first=True))},
        {"broken": {"opt": sgd(0.01, 0.0)}, "fixed": {"opt": adam(3e-3)}},
    ),
    "Y09 loss goes from 2.30 to 2.29 in an epoch, SGD at 1e-3": (
        "LR_TOO_LOW", {"data": "mnist:01", "net": lambda: mlp(784, 512, 512, 10), "steps": 250},
        {"broken": {"opt": sgd(1e-3, 0.0)}, "fixed": {"opt": sgd(0.1, 0.0)}},
    ),
    "Y10 wine: one class for all, accuracy 0.39": (
        "INPUT_SCALE LR_TOO_HIGH DEAD_UNITS SATURATION",
        {"net": lambda: mlp(13, 16, 8, 3), "batch": 32, "steps": 300},
        {"broken": {"data": "wine:raw", "opt": sgd(0.01, 0.0)},
         "broken_sigmoid": {"data": "wine:raw", "opt": adam(1e-2),
                            "net": lambda: mlp(13, 16, 3, act=nn.Sigmoid)},
         "fixed": {"data": "wine:unit", "opt": sgd(0.1, 0.0)}},
    ),
    "Y11 age, blood pressure and cholesterol as they are: nan": (
        "INPUT_SCALE LR_TOO_HIGH",
        {"net": lambda: mlp(10, 64, 32, 1), "loss": MSE, "opt": sgd(0.01, 0.0), "batch": 32,
         "steps": 300},
        {"broken": {"data": "diabetes:columns"}, "fixed": {"data": "diabetes:unit"}},
    ),
    "Y12 tanh network for targets of 25 to 346: far too small, hardly differ": (
        "TARGET_SCALE", {"data": "diabetes:target", "opt": adam(1e-3), "batch": 32, "steps": 400},
        {"broken": {"net": lambda: glorot(mlp(10, 32, 32, 1, act=nn.Tanh)), "loss": MSE},
         "fixed": {"net": lambda: glorot(ended(mlp(10, 32, 32, 1, act=nn.Tanh), affine(152, 77))),
                   "loss": scaled(MSE, 77.0)}},
    ),
    "Y13 ReLU RNN over 84 steps forgets, an IRNN does not": (
        "RECURRENT_CHI VANISH_DEPTH",
        {"data": "rows:3", "opt": adam(1e-3), "steps": 200, "batch": 32},
        {"broken": {"net": lambda: rnn(0.4)}, "fixed": {"net": lambda: rnn(1.0)}},
    ),
    "Y14 ReLU RNN is nan after some updates": (
        "LR_TOO_HIGH RECURRENT_CHI EXPLODE_DEPTH",
        {"data": "rows:2", "net": lambda: rnn(1.0), "steps": 120, "batch": 32},
        {"broken": {"opt": sgd(0.3)}, "fixed": {"opt": sgd(0.003)}},
    ),
    "Y15 autoencoder of normalized images with a sigmoid output": (
        "LOSS_MISMATCH DEAD_OUTPUT TARGET_SCALE",
        {"data": "mnist:auto", "loss": MSE, "opt": adam(3e-3), "steps": 200},
        {"broken": {"net": lambda: ended(coder(), nn.Sigmoid())}, "fixed": {"net": coder}},
    ),
    "Y16 autoencoder gives the same blurred digit for all, SGD at 0.01": (
        "LR_TOO_LOW", {"data": "mnist:auto01", "loss": MSE, "steps": 200,
                       "net": lambda: ended(coder(), nn.Sigmoid())},
        {"broken": {"opt": sgd(0.01, 0.0)}, "fixed": {"opt": adam(3e-3)}},
    ),
    "Y17 a sigmoid's output is rounded before the loss": (
        "DEAD_OUTPUT", {"data": "cancer:column", "loss": MSE, "opt": adam(3e-3), "batch": 32,
                        "steps": 200},
        {"broken": {"net": lambda: ended(ended(mlp(30, 16, 1), nn.Sigmoid()), Rounded())},
         "fixed": {"net": lambda: ended(mlp(30, 16, 1), nn.Sigmoid())}},
    ),
    "Y18 binary cross entropy by hand, outputs (N, 1), labels (N)": (
        "SHAPE_BROADCAST",
        {"net": lambda: ended(mlp(30, 16, 1), nn.Sigmoid()), "loss": of_probabilities,
         "opt": adam(3e-3), "batch": 32, "steps": 200},
        {"broken": {"data": "cancer:flat"}, "fixed": {"data": "cancer:column"}},
    ),
    "Y19 binary cross entropy with tanh, or a rectifier, on the last unit": (
        "LOSS_MISMATCH DEAD_OUTPUT",
        {"data": "cancer:column", "loss": of_probabilities, "opt": adam(3e-3), "batch": 32,
         "steps": 200},
        {"broken": {"net": lambda: sure(nn.Tanh())},
         "broken_relu": {"net": lambda: sure(nn.ReLU())},
         "fixed": {"net": lambda: sure(nn.Sigmoid())}},
    ),
    "Y20 logarithm of a softmax on raw pixels: inf": (
        "NAN_LOCAL INPUT_SCALE LOSS_MISMATCH LR_TOO_HIGH",
        {"opt": sgd(0.1, 0.0), "steps": 200, "loss": naive_likelihood,
         "net": lambda: ended(mlp(784, 64, 10), nn.Softmax(1))},
        {"broken": {"data": "mnist:bytes"}, "fixed": {"data": "mnist:01"}},
    ),
    "Y21 kernel_initializer='ones' in a small CNN": (
        "SYMMETRY EXPLODE_DEPTH",
        {"data": "mnist:img", "opt": adam(1e-3), "steps": 120, "batch": 32},
        {"broken": {"net": lambda: constant(small_conv(), 1.0)},
         "fixed": {"net": lambda: glorot(small_conv())}},
    ),
    "Y22 TransformerEncoder of six layers, Adam at 0.01": (
        "LR_TOO_HIGH NORM_PLACEMENT VANISH_DEPTH",
        {"data": "rows:1", "net": lambda: Encoder(6, **ROWS), "steps": 150, "batch": 32},
        {"broken": {"opt": adam(1e-2)}, "fixed": {"opt": adam(1e-3)}},
    ),
    "Y23 batch norm behind the last layer of a regression": (
        "NORM_PLACEMENT NORM_MODE TARGET_SCALE",
        {"data": "diabetes:positive", "loss": MSE, "opt": adam(3e-3), "batch": 32, "steps": 400},
        {"broken": {"net": lambda: ended(mlp(10, 64, 1), nn.BatchNorm1d(1))},
         "fixed": {"net": lambda: mlp(10, 64, 1)}},
    ),
    "Y24 randn * 0.1 for every layer of a wide net: nan": (
        "EXPLODE_DEPTH GAIN_MISMATCH LR_TOO_HIGH", {"opt": sgd(0.01, 0.0), "steps": 100},
        {"broken": {"net": lambda: drawn(mlp(784, *[512] * 8, 10), lambda _: 0.1)},
         "fixed": {"net": lambda: he(mlp(784, *[512] * 8, 10))}},
    ),
    "Y25 forty blocks x + f(x) without norms: thousands, then nan": (
        "RES_VARIANCE EXPLODE_DEPTH LR_TOO_HIGH",
        {"data": "mnist:01", "opt": sgd(0.01), "steps": 120},
        {"broken": {"net": lambda: skips(norm=False)}, "fixed": {"net": lambda: skips(norm=True)}},
    ),
    "Y41 fifteen tanh layers by Glorot": (
        "", {"opt": sgd(0.02), "steps": 250},
        {"ok": {"net": lambda: glorot(mlp(784, *[64] * 15, 10, act=nn.Tanh))}},
    ),
    "Y42 log-softmax before a cross entropy": (
        "", {"opt": sgd(0.1, 0.0), "steps": 200},
        {"ok": {"net": lambda: ended(mlp(784, 64, 64, 10), nn.LogSoftmax(1))}},
    ),
    "Y43 summed cross entropy under Adam": (
        "", {"loss": summed, "opt": adam(1e-3), "steps": 200},
        {"ok": {"net": lambda: mlp(784, 128, 10)}},
    ),
    "Y44 batch norms at a rate of 0.5": (
        "", {"opt": sgd(0.5, 0.0), "steps": 200},
        {"ok": {"net": lambda: he(mlp(784, 100, 100, 100, 10, norm=0.1))}},
    ),
    "Y45 weights of 0.01 in one hidden layer under Adam": (
        "", {"opt": adam(1e-3), "steps": 200},
        {"ok": {"net": lambda: drawn(mlp(784, 128, 10), lambda _: 0.01)}},
    ),
    "Y46 softplus output of positive targets": (
        "", {"data": "diabetes:positive", "loss": MSE, "opt": adam(1e-2), "batch": 32,
             "steps": 300},
        {"ok": {"net": lambda: ended(mlp(10, 32, 1), nn.Softplus())}},
    ),
    "Y47 dropout of a half in a wide net": (
        "", {"opt": adam(1e-3), "steps": 200}, {"ok": {"net": dropped}},
    ),
    "Y48 squared error of classes, linear outputs": (
        "", {"loss": squares_of_classes, "opt": adam(3e-3), "steps": 200},
        {"ok": {"net": lambda: mlp(784, 128, 10)}},
    ),
    "Y49 orthogonal tanh recurrence of 28 steps": (
        "", {"data": "rows:1", "opt": adam(1e-3), "steps": 200, "batch": 32},
        {"ok": {"net": lambda: rnn(1.0, "tanh")}},
    ),
    "Y50 small CNN, half of its rectifiers off": (
        "", {"data": "mnist:img", "opt": sgd(0.05), "steps": 120, "batch": 32},
        {"ok": {"net": lambda: convs(8, 0, 16, 0)}},
    ),
    "Y51 pre-norm transformer of four layers": (
        "", {"data": "rows:1", "opt": adam(1e-3), "steps": 120, "batch": 32},
        {"ok": {"net": lambda: Encoder(4, norm_first=True, **ROWS)}},
    ),
    "Y52 running statistics that have caught up": (
        "", {"opt": sgd(0.05, 0.0), "steps": 300},
        {"ok": {"net": lambda: he(mlp(784, 100, 100, 10, norm=0.02))}},
    ),
    "Y53 one hidden layer of sigmoids at a rate of 0.5": (
        "", {"data": "cancer:column", "loss": BCE, "opt": sgd(0.5, 0.0), "batch": 32, "steps": 200},
        {"ok": {"net": lambda: mlp(30, 16, 1, act=nn.Sigmoid)}},
    ),
}  # fmt: skip
"""Question: (diagnoses, base, variants)."""

load, variants = titled(CASES, data="mnist:unit")


def build(config: Config, seed: int = 0) -> Setup:
    """A variant, drawn from a seed."""
    x, y = data(config["data"])
    torch.manual_seed(seed)
    return Setup(config["net"](), config["loss"], config["opt"], x, y, config["batch"], seed)

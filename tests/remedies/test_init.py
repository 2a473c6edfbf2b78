"""Initializations against brute force: what wide networks do, and what the matrices are."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from isograd import remedies
from isograd.errors import RemedyError
from isograd.remedies._code import listing
from isograd.remedies._examples import plain
from isograd.theory import gains

WIDTHS = (300, 500, 400, 640, 350, 450)


def stack(act: nn.Module, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    model = nn.Sequential()
    for a, b in pairwise(widths):
        model.extend((nn.Linear(a, b), act))
    return model.append(nn.Linear(widths[-1], 7))


def batch(features: int = 300, samples: int = 64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(samples, features), torch.randint(7, (samples,))


def signal(model: nn.Sequential, x: Tensor) -> list[float]:
    """Rms after every activation, and of the input, by running the layers one by one."""
    sizes = [float(x.square().mean().sqrt())]
    for layer in model.requires_grad_(False):
        x = layer(x)
        if not isinstance(layer, nn.Linear):
            sizes.append(float(x.square().mean().sqrt()))
    return sizes


def gradient(model: nn.Sequential, x: Tensor) -> list[float]:
    """Rms of d(a random projection of the output)/d(pre-activation), layer by layer."""
    held = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            x.retain_grad()
            held.append(x)
    (x * torch.randn_like(x)).sum().backward()
    return [float(h.grad.square().mean().sqrt()) for h in held[:-1]]  # type: ignore[union-attr]


@pytest.mark.parametrize("act", [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.LeakyReLU(0.4), nn.SiLU()])
@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_the_forward_gain_keeps_the_signal(act: nn.Module, law: str) -> None:
    model, data = stack(act), batch()
    remedies.apply("init-gain", model, data, law=law)
    sizes = signal(model, data[0])
    # At these widths five layers of ReLU fluctuate by sqrt(5 * 5 / 400) / 2 = 0.12.
    # Unit variance of all pre-activations; those of a rectifier may be of any size.
    expected = 1.0 if act.__class__ in (nn.ReLU, nn.LeakyReLU) else 1 / gains(act).second_moment
    assert sizes[1:] == pytest.approx([expected] * (len(sizes) - 1), rel=0.25)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.4)])
def test_the_backward_gain_keeps_the_gradient(act: nn.Module) -> None:
    model, data = stack(act), batch()
    remedies.apply("init-gain", model, data, keep="backward")
    sizes = gradient(model, data[0])
    assert sizes == pytest.approx([sizes[-1]] * len(sizes), rel=0.12)


def test_the_compromise_is_glorots_for_linear_layers() -> None:
    model, data = stack(nn.Tanh(), (300, 200, 500)), batch()
    change = remedies.apply("init-gain", model, data, keep="compromise")
    # Glorot 2010: variance 2 / (fan_in + fan_out), times the gain that lies between the two.
    assert f"std={(2 / 500) ** 0.5:.6g}" in change.code
    square = 2 / (1.5925374197228314**-2 + 1.4674135916307951**-2)
    assert f"std={(2 * square / 700) ** 0.5:.6g}" in change.code


def gram(weight: Tensor) -> Tensor:
    w = weight.detach().flatten(1)
    small = w if w.shape[0] <= w.shape[1] else w.T
    return small @ small.T


@pytest.mark.parametrize("sizes", [(100, 400), (400, 100), (128, 128)])
def test_orthogonal_layers_give_every_unit_its_gain(sizes: tuple[int, int]) -> None:
    model = nn.Sequential(nn.Linear(*sizes), nn.ReLU(), nn.Linear(sizes[1], 7))
    data = batch(sizes[0], 2000)
    remedies.apply("init-orthogonal", model, data)
    weight = model[0].weight
    square = 2 * max(1, sizes[1] / sizes[0])
    assert torch.allclose(gram(weight), square * torch.eye(min(sizes)), atol=1e-4)
    assert float(model[0](data[0]).detach().square().mean()) == pytest.approx(2.0, rel=0.02)


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = Conv1D(90, 30), Conv1D(7, 90)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.narrow(torch.tanh(self.wide(x)))
        return out


def test_weights_laid_out_the_other_way_get_the_same_gain() -> None:
    for code in ("init-gain", "init-orthogonal"):
        model, data = Turned(), batch(30, 2000)
        with torch.no_grad():
            model.wide.weight.mul_(90)
        remedies.apply(code, model, data)
        out = model.wide(data[0])
        assert float(out.detach().square().mean()) == pytest.approx(1.0, rel=0.06)


def test_the_projections_of_an_attention_are_orthogonal_one_by_one() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(24, 3, batch_first=True)
            self.head = nn.Linear(24, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.attention(x, x, x)[0][:, 0])
            return out

    model = Attends()
    nn.init.normal_(model.attention.in_proj_weight, std=3.0)
    change = remedies.apply(
        "init-orthogonal", model, (torch.randn(8, 6, 24), torch.randint(5, (8,)))
    )
    assert "chunk(3)" in change.code
    for block in model.attention.in_proj_weight.chunk(3):
        assert torch.allclose(gram(block), torch.eye(24), atol=1e-5)


def test_a_delta_orthogonal_convolution_keeps_every_position() -> None:
    model = nn.Sequential(
        nn.Conv2d(12, 30, 3, padding=1), nn.Tanh(), nn.Conv2d(30, 30, (5, 3), padding=(2, 1)),
        nn.Tanh(), nn.Flatten(), nn.Linear(30 * 42, 4),
    )  # fmt: skip
    x = torch.randn(8, 12, 6, 7)
    remedies.apply("init-delta-orthogonal", model, (x, torch.randint(4, (8,))))
    out = model[0](x)
    # Norms over channels at every position, the borders too: sqrt(30/12) more in total.
    want = math.sqrt(30 / 12) * x.norm(dim=1)
    assert torch.allclose(out.norm(dim=1), want, rtol=1e-4)
    second = torch.tanh(out)
    assert torch.allclose(
        model[2](second).norm(dim=1), 1.5925374197228314 * second.norm(dim=1), rtol=1e-4
    )
    assert int((model[2].weight != 0).sum()) == 30 * 30


def test_the_critical_point_keeps_the_gradient_of_a_deep_tanh_network() -> None:
    torch.manual_seed(0)
    model = plain(60, nn.Tanh, width=128)
    x = torch.randn(16, 20)
    change = remedies.apply("init-critical", model, (x, torch.randint(7, (16,))))
    assert "orthogonal_" in change.code
    sizes = gradient(model, x)
    # q falls as 1/(1/q_1 + 2 l), so that the gradient's energy loses 1/(1 + 2 l q_1): a power.
    assert sizes[0] / sizes[-1] == pytest.approx((1 + 2 * 60) ** -0.5, rel=0.4)
    change.undo()
    assert gradient(model, x)[0] < 1e-8
    biased = remedies.apply(
        "init-critical", model, (x, torch.randint(7, (16,))), bias_var=0.05, orthogonal=False
    )
    assert f"std={0.05**0.5:.6g}" in biased.code  # THEORY: sigma_w^2 = 1.7609546
    assert f"std={(1.7609546396067391 / 128) ** 0.5:.6g}" in biased.code
    with pytest.raises(RemedyError, match=r"softplus, at .* has no critical point"):
        remedies.apply("init-critical", plain(9, nn.Softplus), (x, torch.randint(7, (16,))))


class Backwards(nn.Module):
    """Registers its layers in another order than it runs them, and uses one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(31, 5)
        self.second, self.shared = nn.Linear(23, 31), nn.Linear(31, 31)
        self.norm = nn.BatchNorm1d(20)
        self.first = nn.Linear(20, 23)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(self.norm(x)))))
        for _ in range(2):
            x = torch.relu(self.shared(x))
        out: Tensor = self.head(x)
        return out


def test_lsuv_follows_the_order_of_execution() -> None:
    torch.manual_seed(2)
    model, x = Backwards(), torch.randn(64, 20)
    shared, head = model.shared.weight.clone(), model.head.weight.clone()
    data = (x, torch.randint(5, (64,)))
    state = torch.get_rng_state()
    change = remedies.apply("init-lsuv", model, data)
    assert torch.equal(torch.get_rng_state(), state)
    first = model.first(model.norm(x))
    second = model.second(torch.relu(first))
    for out in (first, second):
        assert float(out.detach().std()) == pytest.approx(1.0, abs=0.03)
    assert torch.equal(model.shared.weight, shared)
    assert torch.equal(model.head.weight, head)
    assert any("shared.weight: used 2 times" in note for note in change.plan.notes)


def test_lsuv_leaves_the_buffers_of_norms() -> None:
    model, x = Backwards(), torch.randn(64, 20)
    before = {k: v.clone() for k, v in model.norm.state_dict().items()}
    remedies.lsuv_(model, x, ["first.weight", "second.weight"])
    assert all(torch.equal(before[k], v) for k, v in model.norm.state_dict().items())
    assert model.training


def test_lsuv_sets_an_attention_by_its_output() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    x = torch.randn(8, 5, 16)
    factors = remedies.lsuv_(layer, x, ["self_attn.out_proj.weight", "linear1.weight"])
    assert set(factors) == {"self_attn.out_proj.weight", "linear1.weight"}
    assert float(layer.self_attn(x, x, x)[0].detach().std()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("kind", ["classes", "binary", "numbers"])
def test_a_head_starts_at_the_loss_of_guessing(kind: str) -> None:
    torch.manual_seed(3)
    out = {"classes": 4, "binary": 1, "numbers": 3}[kind]
    model = plain(2, out=out)
    nn.init.normal_(model[-1].weight, std=4.0)  # type: ignore[arg-type]
    x = torch.randn(500, 20)
    if kind == "classes":
        targets = torch.multinomial(torch.tensor([0.7, 0.2, 0.06, 0.04]), 500, replacement=True)
        loss = nn.functional.cross_entropy
        shares = torch.bincount(targets).double() / 500
        guess = float(-(shares * shares.log()).sum())
    elif kind == "binary":
        targets = (torch.rand(500, 1) < 0.05).float()
        loss = nn.functional.binary_cross_entropy_with_logits
        p = float(targets.mean())
        guess = -p * math.log(p) - (1 - p) * math.log(1 - p)
    else:
        targets = 1e-3 * (torch.randn(500, 3) + torch.tensor([5.0, -3.0, 0.0]))
        loss = nn.functional.mse_loss
        guess = float(targets.var(0, correction=0).mean())
    above = guess * 0.3**2 if kind == "numbers" else 0.0  # variances of what is unlike add up
    names = {"model": copy.deepcopy(model), "batch": (x, targets)}
    change = remedies.apply("init-head", model, (x, targets), loss)
    assert float(loss(model(x), targets).detach()) == pytest.approx(guess + above, rel=0.06)
    assert str(guess)[:3] in change.effect
    exec(change.code, names)  # as it stands
    assert torch.equal(names["model"](x), model(x))  # type: ignore[operator]


def test_only_constant_weights_are_drawn_to_break_the_symmetry() -> None:
    model = plain(3, gain=1.0)
    nn.init.constant_(model[2].weight, 0.3)  # type: ignore[arg-type]
    kept = model[0].weight.clone()  # type: ignore[operator]
    remedies.apply("init-symmetry", model, batch(20))
    assert torch.equal(model[0].weight, kept)  # type: ignore[arg-type]
    assert float(model[2].weight.detach().std()) == pytest.approx((2 / 32) ** 0.5, rel=0.1)  # type: ignore[operator]


def test_names_are_said_as_ranges() -> None:
    names = [f"a.{i}.w" for i in range(0, 20, 2)]
    for given in (names, [*names, "head.w"], ["x{0}.w", *names], names[:2], ["a.3.w", *names]):
        for ordered in (True, False):
            told = list(eval(listing(given, ordered=ordered)))
            assert told == given if ordered else sorted(told) == sorted(given)
    assert listing(names) == '(f"a.{i}.w" for i in range(0, 19, 2))'


class _Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(6, 11, batch_first=True), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


@pytest.mark.parametrize(("steps", "by", "value"), [(13, "value", 1.0), (120, "length", 4.779)])
def test_forget_gates_stay_open_for_the_length_of_the_sequence(
    steps: int, by: str, value: float
) -> None:
    torch.manual_seed(0)
    batch = torch.randn(16, steps, 6), torch.randint(5, (16,))
    change = remedies.apply("init-forget-bias", _Reader(), batch, by=by)
    own, given = (change.model.get_parameter(f"layer.bias_{k}_l0") for k in ("hh", "ih"))
    gate = (own + given).detach()[11:22]
    assert gate.tolist() == pytest.approx([value] * 11, rel=1e-3)
    assert float(gate[0].sigmoid()) ** steps > 1 / 300  # 1 / e where it is told by the length
    if by == "length":
        assert (own + given)[:11].tolist() == pytest.approx([-value / 2] * 11, rel=1e-3)
        # With whole steps it is above 8: the biases of what enters add up, too.
        state = change.model.get_submodule("layer")(batch[0])[1][1]
        assert 0.3 < float(state.detach().square().mean().sqrt()) < 3
        with pytest.raises(RemedyError, match=r"of 120 steps 1 would leave 5e-17"):
            remedies.apply("init-forget-bias", _Reader(), batch)


def test_tables_of_tiny_vectors_become_of_a_size_that_learns() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.kinds = nn.Embedding(30, 8, padding_idx=0), nn.Embedding(4, 8)
            self.head = nn.Linear(8, 3)
            with torch.no_grad():
                self.words.weight.mul_(1e-4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.words(x).mean(1) + self.kinds(x[:, 0] % 4))
            return out

    torch.manual_seed(0)
    model = Bag()
    kept, drawn = model.kinds.weight.clone(), model.words.weight.clone()
    remedies.apply("init-embedding", model, (torch.randint(30, (16, 5)), torch.randint(3, (16,))))
    assert float(model.words.weight.detach().square().mean().sqrt()) == pytest.approx(0.3, rel=1e-5)
    assert torch.equal(model.words.weight[0], torch.zeros(8))  # of padding
    ratio = model.words.weight[1:] / drawn[1:]
    assert float(ratio.detach().std()) < 1e-3 * float(ratio.detach().mean())  # as they were drawn
    assert torch.equal(model.kinds.weight, kept)


def test_what_all_outputs_have_in_common_is_not_added_to_the_mean_of_the_targets() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        model[0].weight.mul_(0.1)
        model[0].bias.fill_(3.0)  # type: ignore[operator]  # hidden units are about 3 for everybody
        model[2].weight.fill_(1.0)
    x = torch.randn(256, 4)
    y = 5 + x[:, :1]
    change = remedies.apply("init-head", model, (x, y), torch.nn.functional.mse_loss)
    start = float(torch.nn.functional.mse_loss(change.model(x), y).detach())
    assert 0.5 < start < 1.5  # the variance of the targets is 1


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_input_weights_and_biases_that_shut_the_gates_are_drawn_too(kind: Any) -> None:
    class Model(nn.Module):
        def __init__(self, std: float, only: str = "") -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.head = kind(20, 24, 2, batch_first=True), nn.Linear(24, 5)
            for name, parameter in self.layer.named_parameters():
                if only in name:
                    nn.init.normal_(parameter, std=std)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.layer(x)[0][:, -1])
            return out

    torch.manual_seed(1)
    batch = torch.randn(32, 13, 20), torch.randint(5, (32,))
    model = Model(5.0)
    change = remedies.apply("init-recurrent", model, batch)
    first = batch[0][:, 0] @ model.layer.weight_ih_l0.T
    assert float(first.detach().square().mean()) == pytest.approx(1.0, rel=0.15)  # was 25 * 20
    assert all(bool((p == 0).all()) for n, p in model.layer.named_parameters() if "bias" in n)
    assert "input weights and biases leave its gates free" in change.effect
    wide = Model(5.0, "weight_ih_l1")  # read the state alone
    before = {n: p.clone() for n, p in wide.named_parameters()}
    remedies.apply("init-recurrent", wide, batch)
    moved = [n for n, p in wide.named_parameters() if not torch.equal(p, before[n])]
    assert moved == ["layer.weight_hh_l0", "layer.weight_ih_l1", "layer.weight_hh_l1"]

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import init

from isograd.errors import PredictionError
from isograd.prediction.recording import Law, recording, same_values, values_law

# -- values of real tensors ---------------------------------------------------------------------


def test_values_law() -> None:
    torch.manual_seed(0)
    x = torch.randn(301, 7) * 3
    found = values_law(x)
    assert found.mean == 0
    assert found.variance == pytest.approx(float((x.double() ** 2).mean()), rel=1e-12)
    shifted = values_law(x + 1)
    assert shifted.mean == pytest.approx(float((x + 1).double().mean()))
    assert shifted.variance == pytest.approx(float((x + 1).double().var(correction=0)))
    assert values_law(torch.full((5,), 0.25)) == Law(0.25, 0.0, "constant")
    assert values_law(torch.zeros(5, 2)) == Law(0.0, 0.0, "zeros")
    assert values_law(torch.tensor(3.0)) == Law(3.0, 0.0, "constant")
    assert values_law(torch.ones(4, dtype=torch.bfloat16)) == Law(1.0, 0.0, "constant")


def test_large_tensors_are_known_from_a_sample() -> None:
    """Of columns of very different size, each is met as often as the others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4096, 256, generator=generator) * torch.logspace(-2, 1, 256)
    found = values_law(x)
    assert found.mean == 0
    assert found.variance == pytest.approx(float(x.double().square().mean()), rel=0.02)
    shifted = values_law(x + 2)
    assert shifted.mean == pytest.approx(2.0, rel=0.01)


def test_a_large_tensor_of_one_number_but_for_a_few() -> None:
    x = torch.zeros(4096, 256)
    x[17, 4] = 5.0  # where the sample does not look
    assert values_law(x).variance == pytest.approx(25 / x.numel(), rel=1e-6)


def test_the_mean_of_few_values_that_may_be_noise_is_taken_for_none() -> None:
    x = torch.tensor([1.0, -1.0] * 8)
    for shift, noise in ((0.99, True), (1.01, False)):  # four standard errors are 1
        found = values_law(x + shift)
        assert (found.mean == 0) is noise
        assert found.variance + found.mean**2 == pytest.approx(1 + shift**2)


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.tensor([1.0, math.nan]), "not finite"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
        (torch.empty(2, device="meta"), "meta device has no values"),
    ],
)
def test_values_without_a_law_are_refused(tensor: Tensor, match: str) -> None:
    with pytest.raises(PredictionError, match=match):
        values_law(tensor)


# -- layers that hold the same values -----------------------------------------------------------


class Stack(nn.Module):
    def __init__(self, *, again: bool = False) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.layers = nn.ModuleList([first, copy.deepcopy(first), copy.deepcopy(first)])
        self.other = nn.Linear(6, 6)
        self.tied = self.other
        if again:
            init.xavier_uniform_(self.layers[1][0].weight)


@pytest.mark.parametrize("real", [False, True])
def test_copied_layers_hold_the_same_values(real: bool) -> None:
    def build(again: bool) -> nn.Module:
        if real:
            return Stack(again=again)
        with recording():
            return Stack(again=again)

    weights = [f"layers.{i}.0.weight" for i in range(3)]
    biases = [f"layers.{i}.0.bias" for i in range(3)]
    assert same_values(build(False)) == [weights, biases]
    assert same_values(build(True)) == [weights[::2], biases]
    assert same_values(copy.deepcopy(build(True)).half()) == [weights[::2], biases]


def test_an_encoder_copies_its_layer() -> None:
    with recording():
        layer = nn.TransformerEncoderLayer(12, 4, 20, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 3)
    groups = same_values(encoder)
    assert [len(group) for group in groups] == [3] * 6
    assert groups[0] == [f"layers.{i}.self_attn.in_proj_weight" for i in range(3)]
    with recording():
        for p in encoder.parameters():
            if p.dim() > 1:
                init.xavier_uniform_(p)
    assert [group[0] for group in same_values(encoder)] == [
        "layers.0.linear1.bias",
        "layers.0.linear2.bias",
    ]


def test_the_same_change_to_copies_keeps_them_the_same() -> None:
    with recording():
        stack = Stack()
        for layer in stack.layers:
            layer[0].weight.data.mul_(0.5)
        stack.layers[2][0].weight.data[2:4].fill_(1.0)
    assert ["layers.0.0.weight", "layers.1.0.weight"] in same_values(stack)


def test_values_differ_though_laws_agree() -> None:
    with recording():
        assert same_values(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6))) == []
        big = torch.randn(8, 6)
        halves = nn.ParameterList([nn.Parameter(part) for part in big.chunk(2)])
        twins = nn.ParameterList([big.clone(), big.clone(), big[:4].clone()])
    assert same_values(halves) == []
    assert same_values(twins) == [["0", "1"]]


def test_real_values_are_compared_in_full() -> None:
    one = torch.randn(40, 40)
    other = one.clone()
    other[13, 17] += 1
    nothing = torch.full((40, 40), math.nan)
    model = nn.ParameterList([one, other, one.clone(), nothing, nothing.clone()])
    assert same_values(model) == [["0", "2"]]

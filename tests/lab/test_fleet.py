"""Networks trained together end where they would have ended one after another."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from isograd.lab import stacks
from isograd.lab.fleet import OPTIMIZERS, Fleet, signature, train
from isograd.lab.images import Images
from isograd.lab.networks import ACTIVATIONS, residual_mlp
from isograd.lab.networks import mlp as narrow_mlp


def data() -> Images:
    stream = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 5, generator=stream, dtype=torch.float64)
    labels = torch.randint(3, (60,), generator=stream)
    return Images("made", inputs, labels, inputs[:20], labels[:20], 1.0)


def mlp(*sizes: int, **options: Any) -> nn.Module:
    return narrow_mlp(*sizes, **options).double()


def alone(model: nn.Module, made: Images, *, steps: int, lr: float, optimizer: str) -> nn.Module:
    """The plain loop that a fleet stands for."""
    model = copy.deepcopy(model).train()
    step = OPTIMIZERS[optimizer](model.parameters(), lr)
    for x, y in made.batches(steps, 7, seed=1):
        step.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        step.step()
    return model.eval()


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    """By their outputs: a bias in front of a batch norm has no gradient but rounding."""
    x = data().inputs
    torch.testing.assert_close(one.train()(x), other.train()(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_together_is_one_after_another(optimizer: str, count: int, norm: bool) -> None:
    made = data()
    nets = [mlp(5, 11, 2, 3, norm=norm, seed=s, gain=1 + s / 2) for s in range(count)]
    rates = [0.01 * (1 + s) for s in range(count)]
    together = train(nets, made, steps=12, batch=7, lr=rates, optimizer=optimizer, seed=1)
    for net, trained, lr in zip(nets, together.models, rates, strict=True):
        assert_alike(trained, alone(net, made, steps=12, lr=lr, optimizer=optimizer))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("depth", [0, 3])
def test_gradients_are_autograds(activation: str, depth: int) -> None:
    """Of every activation, with and without hidden layers, twice as the memory is used again."""
    nets = [mlp(5, 11, depth, 3, activation=activation, init="torch", seed=s) for s in range(3)]
    fleet = Fleet(nets, lr=1.0, optimizer="plain-sgd")
    assert stacks.is_plain(nets[0]) == (activation != "prelu" or depth == 0)
    made = data()
    for x, y in made.batches(2, 7, seed=1):
        before = fleet.models()
        losses = fleet.step(x, y)
        for index, (net, after) in enumerate(zip(before, fleet.models(), strict=True)):
            loss = nn.functional.cross_entropy(net(x), y)
            torch.testing.assert_close(losses[index], loss.detach(), rtol=1e-12, atol=1e-14)
            wanted = torch.autograd.grad(loss, list(net.parameters()))
            for old, new, g in zip(net.parameters(), after.parameters(), wanted, strict=True):
                torch.testing.assert_close(old - new, g, rtol=1e-10, atol=1e-13)


def test_only_what_is_known_through_and_through_is_a_plain_stack() -> None:
    relu, linear = nn.ReLU(), nn.Linear(5, 5)
    assert stacks.is_plain(nn.Sequential(nn.Linear(5, 5), relu, nn.Linear(5, 5), relu))
    frozen, hooked, tied = (nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)) for _ in range(3))
    frozen[0].weight.requires_grad_(False)
    hooked[1].register_forward_hook(lambda *_: None)
    tied[1].weight = tied[0].weight
    others = [
        frozen,
        hooked,
        tied,
        nn.Sequential(linear, relu, linear),
        nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)),
        nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Linear(5, 5), nn.Softmax(-1)),
        nn.Sequential(nn.Linear(5, 5), nn.Flatten(0)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))),
        nn.Sequential(),
        nn.Linear(5, 5),
    ]
    assert not any(stacks.is_plain(other) for other in others)


def test_losses_and_accuracy_are_of_the_networks() -> None:
    made = data()
    nets = [mlp(5, 11, 2, 3, seed=s) for s in range(2)]
    trained = train(nets, made, steps=4, batch=7, lr=0.05, seed=2)
    x, y = next(made.batches(1, 7, seed=2))
    for index, net in enumerate(nets):
        first = nn.functional.cross_entropy(net(x), y)
        torch.testing.assert_close(trained.losses[0, index], first.detach().float())
        right = trained.models[index](made.test_inputs).argmax(-1) == made.test_labels
        torch.testing.assert_close(trained.accuracy[index], right.float().mean())


def test_a_network_that_diverges_leaves_the_others_alone() -> None:
    made = data()
    nets = [mlp(5, 11, 2, 3, seed=0), mlp(5, 11, 2, 3, seed=1, gain=1e200)]
    trained = train(nets, made, steps=5, batch=7, lr=0.05, seed=1)
    assert not trained.losses[-1, 1].isfinite()
    assert_alike(trained.models[0], alone(nets[0], made, steps=5, lr=0.05, optimizer="sgd"))


def test_networks_of_different_shape_are_trained_apart_and_come_back_in_order() -> None:
    made = data()
    nets = [mlp(5, 11, depth, 3, seed=depth) for depth in (1, 3, 1)]
    trained = train(nets, made, steps=3, batch=7, lr=0.05, seed=1)
    assert [repr(net) for net in trained.models] == [repr(net) for net in nets]
    for net, one in zip(nets, trained.models, strict=True):
        assert_alike(one, alone(net, made, steps=3, lr=0.05, optimizer="sgd"))


def test_what_is_no_parameter_keeps_networks_apart() -> None:
    alike = [mlp(5, 11, 2, 3, seed=s) for s in range(2)]
    assert signature(alike[0]) == signature(alike[1])
    others = [
        mlp(5, 11, 2, 3, activation="tanh"),
        mlp(5, 13, 2, 3),
        residual_mlp(5, 11, 2, 3),
        residual_mlp(5, 11, 2, 3, scale=0.5),
        residual_mlp(5, 11, 2, 3, skip=False),
    ]
    assert len({signature(net) for net in (*others, alike[0])}) == len(others) + 1


def test_the_networks_handed_in_are_left_as_they_are() -> None:
    net = mlp(5, 11, 2, 3, norm=True, seed=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fleet = Fleet([net, mlp(5, 11, 2, 3, norm=True, seed=5)], lr=0.1)
    made = data()
    fleet.step(made.inputs, made.labels)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

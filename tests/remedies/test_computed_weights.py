"""Weights that modules compute from other parameters: weight norm, spectral norm, orthogonal."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as hooked_spectral_norm
from torch.nn.utils import weight_norm as hooked_weight_norm

import isograd
from isograd import remedies
from isograd.errors import RemedyError
from isograd.probe.measuring import measure
from isograd.remedies import REMEDIES, Plan, case_of
from isograd.remedies._examples import classes, plain, residual
from isograd.remedies._layers import layers

Norm = Callable[[nn.Module], nn.Module]


class Doubled(nn.Module):
    """A parametrization that gives back what is assigned."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, w: Tensor) -> Tensor:
        return w / 2


def by_hook(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return hooked_weight_norm(module)


def over_all(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return hooked_weight_norm(module, dim=None)  # type: ignore[arg-type]  # as documented


def doubled(module: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(module, "weight", Doubled())


ASSIGNED: dict[str, Norm] = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm by hook": by_hook,
    "weight_norm of all": over_all,
    "own": doubled,
}
KEPT: dict[str, Norm] = {
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm by hook": hooked_spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}
EVERY = {**ASSIGNED, **KEPT}


def normed(model: nn.Module, norm: Norm) -> nn.Module:
    torch.manual_seed(3)
    for module in list(model.modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            norm(module)
    return model


def convolutions() -> nn.Module:
    pairs = [m for _ in range(6) for m in (nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Sigmoid())]
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), *pairs, nn.Flatten(), nn.Linear(144, 5)
    )


def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(16, 3, 6, 6), torch.randint(5, (16,))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]] = {
    "sigmoids": (lambda: plain(12, nn.Sigmoid), classes),
    "residual": (lambda: residual(20, 1.0), classes),
    "convolutions": (convolutions, images),
}


def everything(model: nn.Module) -> list[object]:
    tensors = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    return [tensors, [(type(m), m.training, sorted(vars(m))) for m in model.modules()]]


def same(a: list[object], b: list[object]) -> bool:
    return a[1] == b[1] and all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))  # type: ignore[call-overload]


@pytest.mark.parametrize("norm", EVERY)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_remedy_runs_or_says_why_not_and_is_undone(network: str, norm: str) -> None:
    make, data = NETWORKS[network]
    model, batch = normed(make(), EVERY[norm]), data()
    case = case_of(model, batch, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    before, done = everything(model), set[str]()
    for remedy in REMEDIES:
        for variant in remedy.variants():
            plan = variant.plan(case)
            assert same(everything(model), before), remedy.code
            if not isinstance(plan, Plan):
                assert len(plan.split()) > 3, remedy.code
                continue
            change = plan.apply(model, seed=1)
            record = measure(change.model, batch, change.loss)
            assert record.fact("loss.value") == record.fact("loss.value"), remedy.code
            done.add(remedy.code)
            change.undo()
            assert same(everything(model), before), remedy.code
    assert network == "residual" or "activation-swap" in done
    # The branches of spectral norm 1 do not let the stream grow.
    assert network != "residual" or norm in KEPT or "residual-skipinit" in done
    assert network != "sigmoids" or {"normalization-insert", "residual-skips"} <= done


@pytest.mark.parametrize("norm", EVERY)
def test_a_computed_weight_is_a_layer_with_the_numbers_of_what_it_comes_to(norm: str) -> None:
    model = normed(plain(4, nn.Tanh), EVERY[norm])
    found = layers(case_of(model, classes()))
    copied = copy.deepcopy(model) if "hook" not in norm and "all" not in norm else model
    assert len(found) == 5
    for layer in found:
        module = copied.get_submodule(layer.module)
        module.eval()
        weight = module.weight
        assert isinstance(weight, Tensor)
        assert layer.name == f"{layer.module}.weight"
        assert layer.shape == tuple(weight.shape)
        rms = float(weight.detach().square().mean().sqrt())
        # A step of the power iteration may lie between the two.
        assert layer.gain == pytest.approx(
            rms * weight.shape[1] ** 0.5, rel=0.2 if "spectral" in norm else 1e-5
        )
        assert layer.trainable is (norm in ASSIGNED)


@pytest.mark.parametrize("norm", ASSIGNED)
def test_drawn_weights_are_assigned_through_what_computes_them(norm: str) -> None:
    batch = classes()
    model = normed(plain(12, nn.Tanh), ASSIGNED[norm])
    change = remedies.apply("init-critical", model, batch, seed=2)
    model(batch[0])  # hooks compute when the module is called
    for module in list(model)[2:-1:2]:  # type: ignore[call-overload]  # a Sequential
        weight = module.weight.detach()
        # sigma_w = 1 for tanh: orthogonal.
        assert torch.allclose(weight @ weight.T, torch.eye(len(weight)), atol=1e-4)
    assert "get_parameter" not in change.code.replace(".bias", "").split("zeros_")[0]


@pytest.mark.parametrize("norm", KEPT)
def test_what_gives_back_another_weight_is_not_drawn(norm: str) -> None:
    with pytest.raises(RemedyError, match=r"computed by \w+, which gives back another weight"):
        remedies.apply("init-critical", normed(plain(12, nn.Tanh), KEPT[norm]), classes())


@pytest.mark.parametrize("norm", ["weight_norm", "weight_norm by hook", "spectral_norm"])
def test_deep_sigmoids_are_repaired_whatever_computes_their_weights(norm: str) -> None:
    model = normed(plain(16, nn.Sigmoid), EVERY[norm])
    done = isograd.repair(model, classes())
    assert done.verdict == "repaired"
    told = " ".join(f.message for f in done.before.findings)
    assert ("no gain of its weights is known" in told) is ("hook" not in norm)


def test_weights_that_are_computed_are_not_standardized_over_that() -> None:
    model = plain()
    for module in model:
        if isinstance(module, nn.Linear):
            parametrizations.weight_norm(module)
    reason = REMEDIES["normalization-weight"].plan(case_of(model, classes()))
    assert isinstance(reason, str)
    assert "hidden layers are computed already, by WeightNorm: take that off first" in reason

"""Exchanged activations: what they do to signal, angles and the loss."""

import pytest
import torch
from test_init import gradient
from torch import Tensor, nn
from torch.nn import functional as F

from isograd import remedies
from isograd.errors import InputError, RemedyError
from isograd.remedies._examples import classes, plain
from isograd.theory import transform


def numbers() -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 20)
    return x, x[:, :1] * 2 - 1


def test_tailored_rectifiers_keep_inputs_apart() -> None:
    torch.manual_seed(0)
    model = plain(30, width=600, features=600)
    batch = classes(features=600)
    change = remedies.apply("activation-tat", model, batch)
    slope = transform("relu", "tat", depth=30).negative_slope
    assert f"nn.LeakyReLU({slope:.6g})" in change.code
    x = batch[0]
    with torch.no_grad():
        for layer in model[:-1]:  # type: ignore[attr-defined]
            x = layer(x)
    rows = F.normalize(x, dim=1)
    cosine = (rows @ rows.T).fill_diagonal_(0).sum() / (len(x) * (len(x) - 1))
    # eta = 0.9 from inputs that have a correlation of 0 on average.
    assert float(cosine) == pytest.approx(0.9, abs=0.03)
    change.undo()
    assert isinstance(model[1], nn.ReLU)


def test_a_transformed_sigmoid_passes_gradients() -> None:
    torch.manual_seed(0)
    model, batch = plain(12, nn.Sigmoid, width=200), classes()
    change = remedies.apply("activation-dks", model, batch)
    sizes = gradient(model, batch[0])
    assert 0.3 < sizes[0] / sizes[-1] < 3
    change.undo()
    assert gradient(model, batch[0])[0] < 1e-6
    with pytest.raises(RemedyError, match="the slope of relu jumps"):
        remedies.apply("activation-dks", plain(12), batch)


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), ("prelu", nn.PReLU), ("elu", nn.ELU),
        ("selu", nn.SELU), ("gelu", nn.GELU), ("silu", nn.SiLU), ("tanh", nn.Tanh),
    ],
)  # fmt: skip
def test_every_activation_can_take_the_place_of_a_sigmoid(to: str, kind: type[nn.Module]) -> None:
    model, batch = plain(8, nn.Sigmoid), classes()
    before = gradient(model, batch[0])[0]
    change = remedies.apply("activation-swap", model, batch, to=to)
    assert sum(type(m) is kind for m in model) == 8
    assert gradient(model, batch[0])[0] > 1e3 * before
    assert bool(change.plan.keys) == (to == "prelu")


def test_double_precision_stays() -> None:
    model = plain(8, nn.Sigmoid).double()
    x, y = classes()
    remedies.apply("activation-swap", model, (x.double(), y), to="prelu")
    assert model[1].weight.dtype == torch.float64  # type: ignore[union-attr]


def test_selu_brings_alpha_dropout() -> None:
    model = plain(8, nn.Sigmoid).insert(4, nn.Dropout(0.2))
    remedies.apply("activation-swap", model, classes(), to="selu")
    assert isinstance(model[4], nn.AlphaDropout)
    assert model[4].p == 0.2


class Shared(nn.Module):
    """One activation module everywhere, a gate, and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.gate = (nn.Linear(20, 20) for _ in range(4))
        self.act, self.squash = nn.Tanh(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.act(self.a(x)))
        x = self.act(x) * self.squash(self.gate(x))
        out: Tensor = self.c(x)
        return out


def test_what_multiplies_a_signal_stays() -> None:
    model = Shared()
    with pytest.raises(RemedyError, match="all of its 0 hidden activations are relu already"):
        remedies.apply("activation-swap", model, classes(of=20))


def test_a_module_with_two_names_is_exchanged_under_both() -> None:
    act = nn.Tanh()
    model = nn.Sequential(nn.Linear(20, 9), act, nn.Linear(9, 9), act, nn.Linear(9, 7))
    remedies.apply("activation-swap", model, classes())
    assert isinstance(model[1], nn.ReLU)
    assert isinstance(model[3], nn.ReLU)


def test_functions_are_left_to_their_forward() -> None:
    layer = nn.TransformerEncoderLayer(20, 2, 32, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(60, 7))
    with pytest.raises(RemedyError, match=r"0:relu.*not modules: write nn.GELU there"):
        remedies.apply(
            "activation-swap", model, (torch.randn(5, 3, 20), torch.randint(7, (5,))), to="gelu"
        )
    with pytest.raises(InputError, match="no activation 'softmax'"):
        remedies.apply("activation-swap", plain(2), classes(), to="softmax")


@pytest.mark.parametrize(("seed", "told"), [(0, "98 % of it was flat"), (1, "targets go from -5.")])
def test_a_blocked_output_is_freed(seed: int, told: str) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(*plain(2, out=1), nn.ReLU())
    x, y = numbers()
    change = remedies.apply("output-activation", model, (x, y), F.mse_loss)
    assert told in change.effect
    assert float(model(x).detach().min()) < 0
    change.undo()
    with pytest.raises(RemedyError, match="softplus is never negative"):
        remedies.apply("output-activation", model, (x, y), F.mse_loss, by="softplus")
    tame = nn.Sequential(*plain(2, out=1), nn.Tanh())
    with pytest.raises(RemedyError, match="passes gradients and reaches all targets"):
        remedies.apply("output-activation", tame, (x, 0.3 * torch.tanh(y)), F.mse_loss)


class MaskedRoot(nn.Module):
    """Square roots of what is positive; in the second form the masked branch is safe."""

    def __init__(self, *, safe: bool) -> None:
        super().__init__()
        self.safe = safe

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.where(x > 0, x, torch.ones_like(x)) if self.safe else x
        return torch.where(x > 0, torch.sqrt(inside), torch.zeros_like(x))


def test_a_guarded_gradient_is_that_of_the_safe_code() -> None:
    torch.manual_seed(0)
    x, y = classes()
    model = nn.Sequential(nn.Linear(20, 16), MaskedRoot(safe=False), nn.Linear(16, 7))
    safe = nn.Sequential(model[0], MaskedRoot(safe=True), model[2])
    F.cross_entropy(safe(x), y).backward()
    expected = [p.grad.clone() for p in safe.parameters() if p.grad is not None]
    safe.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert torch.isnan(model[0].weight.grad).any()  # type: ignore[arg-type]
    model.zero_grad()
    remedies.apply("gradient-finite", model, (x, y))
    F.cross_entropy(model(x), y).backward()
    found = [p.grad for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))  # type: ignore[arg-type]
    # One sample at a time, as for differential privacy.
    each = torch.func.vmap(torch.func.grad(lambda v: model(v[None]).square().sum()))(x)
    whole = torch.autograd.grad(model(x.requires_grad_()).square().sum(), x)[0]
    torch.testing.assert_close(each, whole)


class Normed(nn.Module):
    """Samples over their norm, which is 0 / 0 of a sample of zeros."""

    def __init__(self, *, safe: bool) -> None:
        super().__init__()
        self.safe = safe

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) if self.safe else x / x.norm(dim=1, keepdim=True)


def test_values_that_are_no_numbers_become_zero_with_their_gradient() -> None:
    torch.manual_seed(0)
    x, y = classes()
    x[::5] = 0
    made = [
        nn.Sequential(nn.Linear(20, 16, bias=False), Normed(safe=safe), nn.Linear(16, 7))
        for safe in (True, False)
    ]
    made[1].load_state_dict(made[0].state_dict())
    loss = F.cross_entropy(made[0](x), y)
    loss.backward()
    change = remedies.apply("gradient-finite", made[1], (x, y), F.cross_entropy)
    found = F.cross_entropy(change.model(x), y)
    assert float(found.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    found.backward()
    for a, b in zip(made[0].parameters(), change.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_values_behind_weights_are_not_hidden() -> None:
    # Their weights would get gradients of 0 times infinity all the same.
    class Root(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sqrt()

    model = nn.Sequential(nn.Linear(20, 16), Root(16, 16), nn.Linear(16, 7))
    with pytest.raises(RemedyError, match="whose weights would get such gradients"):
        remedies.apply("gradient-finite", model, classes(), F.cross_entropy)


def test_a_gradient_of_the_forward_itself_is_left_to_it() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 7)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            out: Tensor = self.b(torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h)))
            return out

    with pytest.raises(RemedyError, match=r"in the model's own forward: mask its input"):
        remedies.apply("gradient-finite", Own(), classes())


def test_a_softmax_between_layers_goes() -> None:
    torch.manual_seed(0)
    layers = [m for _ in range(4) for m in (nn.Linear(20, 20), nn.Softmax(1))]
    model, (x, y) = nn.Sequential(*layers, nn.Linear(20, 7)), classes()
    before = gradient_of_first(model, x, y)
    change = remedies.apply("activation-swap", model, (x, y))
    assert [type(m) for m in model if not isinstance(m, nn.Linear)] == [nn.ReLU] * 4
    assert "gain 1.41421 after relu" in change.code
    assert gradient_of_first(model, x, y) > 100 * before


def gradient_of_first(model: nn.Sequential, x: Tensor, y: Tensor) -> float:
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    gradient = model[0].weight.grad
    assert isinstance(gradient, Tensor)
    return float(gradient.norm())


def test_dropout_that_leaves_nothing_is_lowered_and_what_is_usual_is_left() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.Dropout(0.95), nn.Dropout(0.4), nn.Linear(30, 7))
    change = remedies.apply("activation-dropout", model, classes())
    assert [model[1].p, model[2].p] == [0.5, 0.4]
    assert change.plan.effect.endswith("1 times as much noise as signal, in place of 19.")
    change.undo()
    assert model[1].p == 0.95
    model[1].p = 0.5
    with pytest.raises(RemedyError, match="at most 50%"):
        remedies.apply("activation-dropout", model, classes())


def test_the_noise_of_several_dropouts_adds_up() -> None:
    layers = [m for _ in range(4) for m in (nn.Linear(20, 20), nn.ReLU(), nn.Dropout(0.9))]
    model = nn.Sequential(*layers, nn.Linear(20, 7))
    change = remedies.apply("activation-dropout", model, classes())
    kept = [m.p for m in change.model.modules() if isinstance(m, nn.Dropout)]
    assert kept == [0.2] * 4  # 4 * 0.2 / 0.8: as much noise as signal


def test_outputs_are_not_dropped_and_what_is_before_them_stays() -> None:
    layers = [nn.Linear(20, 30), nn.Dropout(0.4), nn.Linear(30, 7), nn.Dropout(0.2), nn.Sigmoid()]
    model = nn.Sequential(*layers)
    remedies.apply("activation-dropout", model, classes())
    assert [model[1].p, model[3].p] == [0.4, 0.0]
    model[1].p, model[3].p = 0.95, 0.95
    remedies.apply("activation-dropout", model, classes())
    assert [model[1].p, model[3].p] == [0.5, 0.0]

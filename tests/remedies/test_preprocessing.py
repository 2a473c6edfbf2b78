"""Preprocessing against scikit-learn, in one pass and in many parts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import isograd
from isograd import remedies
from isograd.errors import DataError, RemedyError
from isograd.remedies import REMEDIES, Plan, Preprocessed, Standardize, Whiten, case_of
from isograd.remedies._examples import plain
from isograd.remedies._inputs import tensor_of


def table(samples: int = 500, features: int = 12) -> Tensor:
    """Correlated columns of different scale and offset, float64."""
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(features, features, generator=generator, dtype=torch.float64)
    scale = 10.0 ** torch.linspace(-2, 3, features, dtype=torch.float64)
    noise = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    return (noise @ mix) * scale + 5 * scale


def parts(x: Tensor) -> list[Tensor]:
    return list(x.split([7, 1, 300, 11, len(x) - 319]))


def test_standardizing_is_scikit_learns() -> None:
    x = table()
    expected = StandardScaler().fit_transform(x.numpy())
    whole, streamed = Standardize.fit(x), Standardize.fit(parts(x))
    for module in (whole, streamed):
        np.testing.assert_allclose(module(x).numpy(), expected, rtol=0, atol=1e-10)


def test_one_pass_keeps_its_digits_far_from_zero() -> None:
    x = 1e6 + torch.randn(400, 3, dtype=torch.float64)
    module = Standardize.fit(list(x.split(10)))
    assert torch.allclose(module.std, x.std(0, correction=0), rtol=1e-8)


@pytest.mark.parametrize("method", ["decorrelate", "pca", "zca"])
def test_whitening_is_scikit_learns(method: str) -> None:
    x = table()
    module = Whiten.fit(parts(x), method=method, floor=1e-15)  # type: ignore[arg-type]
    out = module(x)
    covariance = torch.cov(out.T)
    pca = PCA(whiten=method != "decorrelate").fit(x.numpy())
    expected = pca.transform(x.numpy())
    if method == "zca":
        expected = expected @ pca.components_
    signs = np.ones(12) if method == "zca" else np.sign((out.numpy() * expected).sum(0))
    # The condition of the covariance is 1e10: eigenvectors are known to 1e-6.
    np.testing.assert_allclose(out.numpy() * signs, expected, rtol=1e-4, atol=1e-4)
    if method == "decorrelate":
        assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-6 * covariance.max()
    else:
        assert torch.allclose(covariance, torch.eye(12, dtype=torch.float64), atol=1e-4)
    whole = Whiten.fit(x, method=method, floor=1e-15)  # type: ignore[arg-type]
    assert torch.allclose(whole(x).abs(), out.abs(), atol=1e-4)


def test_what_has_no_variance_is_not_blown_up() -> None:
    x = table().float()
    x[:, 4] = 7.0
    x[:, 5] = 2 * x[:, 6]
    out = Standardize.fit(x)(x)
    assert float(out[:, 4].abs().max()) == 0.0
    white = Whiten.fit(x, method="zca", floor=1e-4)(x)
    assert torch.isfinite(white).all()
    # Each direction is divided by at least a hundredth of the largest standard deviation.
    values = torch.linalg.eigvalsh(torch.cov(x.double().T)).flip(0)
    spread = torch.linalg.eigvalsh(torch.cov(white.double().T)).flip(0)
    expected = values / values.clamp_min(1e-4 * float(values[0]))
    assert torch.allclose(spread, expected.sort(descending=True).values, atol=1e-3)
    with pytest.raises(DataError, match="1 samples have no covariance"):
        Whiten.fit(x[:1])
    with pytest.raises(DataError, match="no inputs to fit to"):
        Standardize.fit([])


def test_images_have_statistics_of_channels_or_pixels() -> None:
    x = torch.randn(30, 3, 5, 7) * torch.tensor([1.0, 4.0, 9.0]).view(3, 1, 1) + 2
    out = Standardize.fit(list(x.split(8)))(x)
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    image = Standardize.fit(x, keep=(1, 2, 3), scale="one")
    assert image.mean.shape == (3, 5, 7)
    assert torch.allclose(image.mean, x.mean(0), atol=1e-5)
    assert float(image(x).square().mean()) == pytest.approx(1.0, rel=1e-5)
    centered = Standardize.fit(x, keep=(), scale="none")
    assert torch.allclose(centered(x), x - x.mean(), atol=1e-5)


def test_a_model_gets_prepared_inputs() -> None:
    model, x, y = plain(2), 300 + 50 * torch.randn(40, 20), torch.randint(7, (40,))
    data = [(100 * torch.randn(64, 20) + 300, y[:1].expand(64)) for _ in range(3)]
    change = remedies.apply("preprocess-standardize", model, (x, y), data=data)
    assert isinstance(change.model, Preprocessed)
    assert change.model.model is model
    everything = torch.cat([b for b, _ in data])
    expected = model((x - everything.mean(0)) / everything.std(0, correction=0))
    assert torch.allclose(change.model(x), expected, atol=1e-4)


def test_an_iterator_is_not_used_up() -> None:
    model, x, y = plain(2), 300 + 50 * torch.randn(40, 20), torch.randint(7, (40,))
    once = iter([(x, y), (x, y)])
    remedies.apply("preprocess-standardize", model, (x, y), data=once)
    assert len(list(once)) == 2


def test_rows_of_pixels_get_one_scale() -> None:
    x = torch.randint(0, 256, (40, 64)).float() * (torch.rand(64) > 0.3)
    model = plain(2, features=64)
    change = remedies.apply("preprocess-standardize", model, (x, torch.randint(7, (40,))))
    assert "keep=()" in change.code


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 9, 3))

    def forward(self, ids: Tensor, signal: Tensor) -> Tensor:
        out: Tensor = self.body(signal) + ids.float().mean()
        return out


def test_the_input_that_has_a_scale_is_found() -> None:
    batch = {"ids": torch.randint(9, (16, 2)), "signal": 40 * torch.randn(16, 4, 11)}
    change = remedies.apply("preprocess-standardize", Named(), batch)
    assert change.model.place == "signal"
    assert change.model.preprocessing.mean.shape == (4, 1)  # type: ignore[union-attr]
    pair = (tuple(batch.values()), torch.randint(3, (16,)))
    change = remedies.apply("preprocess-standardize", Named(), pair)
    assert change.model.place == 1
    ids = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(RemedyError, match="ids have no scale"):
        remedies.apply("preprocess-standardize", ids, (batch["ids"], torch.randint(3, (16,))))


def test_outputs_stay_in_the_users_units() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 20)
    y = torch.stack((5000 + 300 * x[:, 0], 0.01 * x[:, 1]), 1)
    model = plain(2, gain=1.0, out=2)
    change = remedies.apply("preprocess-targets", model, (x, y), F.mse_loss)
    assert change.loss is not None
    optimizer = torch.optim.Adam(change.model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        change.loss(change.model(x), y).backward()
        optimizer.step()
    residual = (change.model(x) - y).detach().square().mean(0) / y.var(0)
    assert float(residual.max()) < 0.05
    expected = ((change.model(x) - y) / y.std(0, correction=0)).square().mean()
    assert float(change.loss(change.model(x), y).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-4
    )
    with pytest.raises(RemedyError, match="not the shape of the outputs"):
        remedies.apply("preprocess-targets", plain(2, out=1), (x, 900 + y[:, 0]), _aligned)


def test_the_code_of_targets_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 20)
    for offset, loss, columns in ((5e4, F.mse_loss, 1), (1e6, None, 3), (900.0, F.mse_loss, 20)):
        y = offset + x[:, :columns]
        model = plain(2, gain=1.0, out=columns)
        batches = [(x[k : k + 50], y[k : k + 50]) for k in range(0, 300, 50)]
        change = remedies.apply("preprocess-targets", model, batches[0], loss, data=batches)
        own = plain(2, gain=1.0, out=columns)
        names: dict[str, Any] = {"model": own} | ({"loss": loss} if loss else {})
        if columns > 16:  # the numbers of so many are fitted
            assert "targets = (batch[1] for batch in data)" in change.code
            names["data"] = batches
        exec(change.code, names)
        # Of all 300 samples, the 256 first and what came with them.
        assert torch.allclose(names["model"].mean, y.mean(0), rtol=0, atol=0.1)
        assert torch.allclose(names["model"].std, y.std(0, correction=0), rtol=0.1)
        out = names["model"](x)
        expected = (((out - y) / names["model"].std) ** 2).mean()
        # At 1e6 outputs and targets have steps of 0.06 in single precision.
        torch.testing.assert_close(names["loss"](out, y), expected, rtol=0.05, atol=0)


class Labeled(nn.Module):
    """Takes its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain(2, gain=1.0, out=7)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize("code", ["preprocess-standardize", "preprocess-whiten"])
@pytest.mark.parametrize("form", ["pair", "listed", "named", "mapping", "alone"])
def test_the_code_of_inputs_runs_as_it_stands(code: str, form: str) -> None:
    torch.manual_seed(0)
    x, y = 500 + 40 * torch.randn(300, 20), torch.randint(0, 7, (300,))

    def made(k: int) -> Any:
        part, labels = x[k : k + 50], y[k : k + 50]
        return {
            "pair": (part, labels),
            "listed": [(part,), labels],
            "named": ({"x": part}, labels),
            "mapping": {"x": part, "labels": labels},
            "alone": part,
        }[form]

    batches = [made(k) for k in range(0, 300, 50)]
    model = Labeled()
    change = remedies.apply(code, model, batches[0], data=batches)
    assert "\ninputs = (batch" in change.code
    names: dict[str, Any] = {"model": Labeled(), "data": batches}
    exec(change.code, names)
    torch.testing.assert_close(
        names["model"].preprocessing.mean, change.model.preprocessing.mean, rtol=1e-6, atol=0
    )
    assert torch.allclose(change.model.preprocessing.mean, x.mean(0), rtol=1e-5)


def test_batches_that_are_made_otherwise_are_left_to_the_user() -> None:
    class Own(dict):  # type: ignore[type-arg]
        pass

    assert tensor_of((torch.ones(2),), None) is None
    assert tensor_of(Own(x=1, target=2), None) == 'batch["target"]'
    assert tensor_of(object(), "x") is None
    assert tensor_of(((1, torch.ones(2)), 3), 1) == "batch[0][1]"


def test_batches_that_differ_do_not_stop_the_plan() -> None:
    x = torch.randn(40, 20)
    y = 900 + 50 * x[:, :1]
    for odd in ((x, y, y), (x, y[:, 0]), (x, {"y": y})):
        change = remedies.apply(
            "preprocess-targets", plain(2, out=1), (x, y), F.mse_loss, data=[odd]
        )
        assert float(change.model.std) == pytest.approx(float(y.std(correction=0)), rel=1e-4)
        assert "those of 40 samples" in str(change)


def test_a_plan_leaves_the_users_generator_alone() -> None:
    x = torch.randn(400, 20)
    y = 900 + 50 * x[:, :1]
    data = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    case = case_of(plain(2, out=1), (x[:64], y[:64]), F.mse_loss, data=data)
    state = torch.get_rng_state()
    first = REMEDIES["preprocess-targets"].plan(case)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    second = REMEDIES["preprocess-targets"].plan(case)
    assert isinstance(first, Plan)
    assert isinstance(second, Plan)
    assert first.code == second.code


def _aligned(out: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(out, targets.reshape(out.shape))


def test_whitening_needs_enough_samples() -> None:
    x = torch.randn(8, 20) * 100
    with pytest.raises(RemedyError, match="8 samples do not give a covariance of 20 numbers"):
        remedies.apply("preprocess-whiten", plain(2), (x, torch.randint(7, (8,))))


def test_turning_alone_is_not_offered_where_the_scale_is_wrong() -> None:
    turned = replace(remedies.REMEDIES["preprocess-whiten"], method="decorrelate")
    common = torch.randn(64, 1)
    for scale, fits in ((1.0, True), (300.0, False)):
        x = scale * (common + 0.001 * torch.randn(64, 20))
        plan = turned.plan(remedies.case_of(plain(2), (x, torch.randint(7, (64,)))))
        assert isinstance(plan, remedies.Plan) if fits else "turning leaves" in str(plan)
        if isinstance(plan, remedies.Plan):
            assert plan.effect == "The inputs have no correlation."


@pytest.mark.parametrize(("spread", "fits"), [(50.0, True), (1e4, False)])
def test_one_divisor_and_a_floor_are_not_for_columns_in_their_own_units(
    spread: float, fits: bool
) -> None:
    x = 100 + torch.logspace(0, math.log10(spread), 20) * torch.randn(64, 20)
    case = remedies.case_of(plain(2), (x, torch.randint(7, (64,))))
    standardize = remedies.REMEDIES["preprocess-standardize"]
    assert isinstance(standardize.plan(case), remedies.Plan)
    for remedy in (
        replace(standardize, over="pixel", scale="one"),
        remedies.REMEDIES["preprocess-whiten"],
    ):
        plan = remedy.plan(case)
        assert isinstance(plan, remedies.Plan) if fits else "fold" in str(plan)


def test_centering_alone_is_not_offered_where_the_scale_is_wrong_too() -> None:
    for std, fits in ((1.5, True), (96.0, False)):
        x = 100 + std * torch.randn(64, 20)
        case = remedies.case_of(plain(2), (x, torch.randint(7, (64,))))
        remedy = replace(remedies.REMEDIES["preprocess-standardize"], scale="none")
        assert isinstance(remedy.plan(case), remedies.Plan) is fits


@pytest.mark.parametrize(
    ("last", "low", "high", "shift", "scale"),
    [
        (nn.Sigmoid(), 10.0, 50.0, 10.0, 40.0),
        (nn.Tanh(), 10.0, 50.0, 30.0, 20.0),
        (nn.Softplus(), 10.0, 50.0, 0.0, 50.0),
    ],
)
def test_what_a_last_activation_gives_is_mapped_onto_the_targets(
    last: nn.Module, low: float, high: float, shift: float, scale: float
) -> None:
    # A mean and a deviation would leave all targets below the mean out of a sigmoid's reach.
    x = torch.randn(64, 20)
    y = low + (high - low) * torch.linspace(0, 1, 64)[:, None]
    model = nn.Sequential(*plain(2, out=1), last)
    change = remedies.apply("preprocess-targets", model, (x, y), F.mse_loss)
    assert (float(change.model.mean), float(change.model.std)) == (shift, scale)  # type: ignore[arg-type]  # buffers
    told = isograd.check(change.model, (x, y), change.loss)
    assert not any(f.code in ("IG602", "IG606") for f in told.findings), str(told)


def test_a_rectifier_is_not_scaled_to_what_it_cannot_give() -> None:
    x = torch.randn(64, 20)
    model = nn.Sequential(*plain(2, out=1), nn.ReLU())
    with pytest.raises(RemedyError, match="its last activation to 0"):
        remedies.apply("preprocess-targets", model, (x, 50 * x[:, :1]), F.mse_loss)


def test_targets_without_ends_are_not_mapped_onto_those_of_a_sigmoid() -> None:
    x = torch.randn(64, 20)
    model = nn.Sequential(*plain(2, out=1), nn.Sigmoid())
    with pytest.raises(RemedyError, match="have no ends"):
        remedies.apply("preprocess-targets", model, (x, 50 * x[:, :1]), F.mse_loss)


def test_what_the_model_scales_itself_is_left_to_it() -> None:
    class Marks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*plain(2, out=1), nn.Sigmoid())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = 50 * self.body(x)
            return out

    batch = torch.randn(64, 20), 50 * torch.rand(64, 1)
    with pytest.raises(RemedyError, match="is scaled by the model already"):
        remedies.apply("preprocess-targets", Marks(), batch, F.mse_loss)


def test_without_data_the_code_reads_the_batch_alone() -> None:
    torch.manual_seed(0)
    x = 50 + 30 * torch.randn(64, 6)
    change = remedies.apply("preprocess-standardize", nn.Linear(6, 1), (x, x[:, :1]), F.mse_loss)
    names = {"model": nn.Linear(6, 1), "batch": (x, x[:, :1])}
    exec(change.code, names)
    assert float(names["model"].preprocessing(x).std()) == pytest.approx(1, rel=0.05)  # type: ignore[attr-defined]

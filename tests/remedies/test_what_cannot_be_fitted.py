"""What Standardize and Whiten cannot be fitted to is told: where, what, and what to do."""

import inspect
from typing import Any

import pytest
import torch

from isograd.errors import DataError, InputError
from isograd.remedies import REMEDIES, Standardize, Whiten

X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
HOLED = torch.where(X > 1.5, torch.nan, X)


@pytest.mark.parametrize(
    ("fit", "inputs", "settings", "why"),
    [
        (Whiten.fit, X, {"method": "foo"}, "method='foo'; it is one of decorrelate, pca, zca"),
        (Whiten.fit, X, {"floor": 2.0}, "floor=2.0; give a share of the largest variance"),
        (Standardize.fit, X, {"scale": "foo"}, "scale='foo'; it is one of each, one, none"),
        (
            Standardize.fit,
            X,
            {"keep": (5,)},
            r"keep=\(5,\) .*\[50, 8\]: it has axes 1 to 1 besides",
        ),
        (Standardize.fit, X, {"keep": (0,)}, r"keep=\(0,\) for inputs of shape"),
        (Standardize.fit, X[:, 0], {}, r"it has no axis besides the samples; keep=\(\) is one"),
    ],
)
def test_settings_that_there_are_not(fit: Any, inputs: Any, settings: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        fit(inputs, **settings)


@pytest.mark.parametrize("fit", [Standardize.fit, Whiten.fit])
@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ([X, X[:, :3]], "part 1 has 3 columns, where the first has 8"),
        ([X, X, HOLED], rf"part 2 holds {int(HOLED.isnan().sum())} NaN or infinite values of 400"),
        ([X, X / 0], "part 1 holds 400 NaN or infinite values"),
        ([(X, X)], "part 0 is a tuple; give tensors"),
    ],
)
def test_inputs_that_do_not_fit(fit: Any, inputs: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        fit(inputs)


def test_one_number_of_a_sample_is_no_feature() -> None:
    with pytest.raises(DataError, match=r"part 0 has shape \[50\]; give tensors \[samples, feat"):
        Whiten.fit(X[:, 0])


def test_what_still_fits() -> None:
    images = [torch.randn(4, 3, 8, 8), torch.randn(4, 3, 5, 6)]  # of several sizes
    assert Standardize.fit(images).mean.shape == (3, 1, 1)
    assert torch.equal(Standardize.fit(X, keep=(-1,)).mean, Standardize.fit(X).mean)
    assert torch.equal(Standardize.fit([X, X[:0]]).std, Standardize.fit(X).std)
    assert torch.equal(Whiten.fit([X, X[:0]]).matrix, Whiten.fit(X).matrix)
    large = torch.full((4, 2), 3e38)  # its sum is beyond float32
    assert torch.equal(Standardize.fit(large)(large), torch.zeros(4, 2))


def test_the_floor_is_the_remedys() -> None:
    default = inspect.signature(Whiten.fit).parameters["floor"].default
    assert default == {n: v for n, v, _ in REMEDIES["preprocess-whiten"].settings()}["floor"]
    directions = X[:, :2] * torch.tensor([1.0, 1e-3])
    large, small = directions.std(0).tolist()
    spread = Whiten.fit(directions, method="pca")(directions).std(0)
    assert float(spread[1]) == pytest.approx(small / (0.01 * large), rel=0.05)

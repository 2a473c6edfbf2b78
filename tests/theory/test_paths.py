"""Path lengths against published shares, exact integers and the Poisson limit."""

import math

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory.paths import paths, poisson


def test_published_shares() -> None:
    """Veit et al. 2016: more than 95 % of paths are of length 19 to 35, 0.45 % of 5 to 17."""
    of = paths(54)
    assert of.share == 0.5
    assert of.mean == 27
    assert of.between(19, 35) == pytest.approx(0.98017, abs=5e-6)
    assert of.between(5, 17) == pytest.approx(0.004537, abs=5e-7)


def test_exact_integers() -> None:
    truth = [math.comb(54, k) / 2**54 for k in range(55)]
    np.testing.assert_allclose(paths(54).weight, truth, rtol=1e-12)
    assert paths(54).between(19, 35) == pytest.approx(sum(truth[19:36]), rel=1e-12)
    assert paths(54).between(-3, 900) == pytest.approx(1, rel=1e-12)


def test_moments() -> None:
    of = paths(30, branch=1.3, branch_scale=0.4)
    share = 0.16 * 1.3 / (1 + 0.16 * 1.3)
    k = np.arange(31)
    assert of.share == pytest.approx(share, rel=1e-14)
    assert of.weight @ k == pytest.approx(of.mean, rel=1e-12)
    assert of.weight @ (k - of.mean) ** 2 == pytest.approx(of.std**2, rel=1e-12)


def test_weak_branches_are_poisson() -> None:
    of = paths(100_000, branch=1.7, branch_scale=100_000**-0.5)
    np.testing.assert_allclose(of.weight[:12], poisson(1.7, 11), rtol=1e-3)
    assert poisson(1.7, 60).sum() == pytest.approx(1, rel=1e-12)
    assert poisson(0.0, 2).tolist() == [1, 0, 0]


def test_ends() -> None:
    assert paths(3, branch=0.0).weight.tolist() == [1, 0, 0, 0]
    assert paths(0).weight.tolist() == [1]
    with pytest.raises(InputError, match="branch is a finite number"):
        paths(3, branch=-1.0)
    with pytest.raises(InputError, match="depth"):
        paths(-1)
    with pytest.raises(InputError, match="below 1e300"):
        paths(3, branch_scale=1e200)

"""Tests of operations without a rule: what is estimated agrees with many draws, or is refused."""

import numpy as np
import pytest
import torch
from contract import Example, Trial
from covariances import averaged, fields, made
from hypothesis import given

from isograd.errors import PredictionError
from isograd.prediction.moments.known import independent
from isograd.prediction.moments.samples import counted, draw
from isograd.prediction.ops import by_function
from isograd.prediction.propagation import Propagation

RAMP = torch.linspace(-1.0, 2.0, 15).reshape(3, 5)
NEAR = {"slack": 0.04, "back_slack": 0.04, "weight_slack": 0.04}
WITHOUT_RULE = {
    "logcumsumexp": Example(lambda x: torch.logcumsumexp(x, 0), ((3, 5),), **NEAR),
    "diff": Example(lambda x: torch.diff(x, dim=1), ((3, 5),), **NEAR),
    "cross": Example(torch.linalg.cross, ((5, 3), (5, 3)), **NEAR),
    "cdist": Example(torch.cdist, ((4, 5), (3, 5)), vectorized=False, kinds=("plain",), **NEAR),
    "sort": Example(lambda x: torch.sort(x, dim=1)[0], ((3, 5),), **NEAR),
    "roll of a product": Example(lambda x, w: torch.kron(x, w), ((3, 4),), ((2, 3),), **NEAR),
    "hypot": Example(lambda x: torch.hypot(x, RAMP.to(x.dtype)), ((3, 5),), **NEAR),
    "of one field twice": Example(lambda x: torch.hypot(x, x + 1), ((3, 5),), **NEAR),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, e in WITHOUT_RULE.items() for kind in e.kinds]
)
def test_estimates_agree_with_draws(name, kind):
    trial = Trial(WITHOUT_RULE[name], kind)
    trial.check()
    assert trial.run.sampled
    assert all(one not in by_function() for one in trial.run.sampled)
    assert any("estimated by sampling" in note for note in trial.run.notes)


@given(fields((1, 3), most=24))
def test_draws_have_the_moments_of_their_field(f):
    plain = all(len(cut) == 1 for cut in f.cuts)
    x = draw(f, 400, torch.Generator().manual_seed(3)).reshape(400, -1)
    second, mean = averaged(x.T @ x / 400, x.mean(axis=0), f.cuts)
    scale = np.abs(f.second).max()
    np.testing.assert_allclose(mean, f.mean, atol=1e-12 if plain else 0.2 * scale**0.5)
    np.testing.assert_allclose(second, f.second, atol=1e-11 * scale if plain else 0.35 * scale)


def test_draws_of_a_centered_field_add_up_to_nothing():
    f = made(np.random.default_rng(0), ((4,), (6,)), (1, 1))
    away = f.like(f.second - f.second @ np.array([[1 / 6], [5 / 6]]))
    x = draw(away, 8, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(x.sum(axis=2), 0.0, atol=1e-6)
    assert x.std() > 0.1


def test_pairs_of_two_repetitions_are_not_counted():
    values = np.ones((4, 3)) * np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    f = counted(values, [(3,)], (1,))
    np.testing.assert_allclose(f.second, [1.0, 1.0])
    np.testing.assert_allclose(f.mean, [0.0])


# -- what is given back ---------------------------------------------------------------------------


def ran(function, *fields, **settings):
    run = Propagation(lambda: "head.2")
    given = [run.abstract(f, **settings) for f in fields]
    with torch.no_grad(), run:
        return run, function(*given)


def test_several_outputs_and_indices_without_values():
    run, (values, indices) = ran(lambda x: torch.topk(x, 2), independent((3, 5), 0.0, 1.0))
    assert run.field_of(values).shape == (3, 2)
    assert values.dtype == torch.float32
    # The two largest of five normal numbers: means of order statistics 1.163 and 0.495.
    np.testing.assert_allclose(run.field_of(values).average, (1.1630 + 0.4950) / 2, atol=0.02)
    assert indices.dtype == torch.int64
    assert tuple(indices.shape) == (3, 2)
    with pytest.raises(PredictionError, match="whole numbers that are never computed"), run:
        values[0, indices[0]]


def test_truth_values_are_counted_but_pass_no_gradient():
    a, b = independent((4, 5), 0.0, 1.0), independent((4, 5), 0.0, 1.0)
    run, found = ran(lambda x, y: torch.gt(x, y), a, b)
    assert found.dtype == torch.bool
    np.testing.assert_allclose(run.field_of(found).energy, 0.5, atol=0.02)
    assert run.steps[-1].back is None
    assert any("no gradient passes gt in head.2" in note for note in run.notes)


def test_nothing_but_indices_is_refused():
    with pytest.raises(PredictionError, match=r"argmax in 'head\.2'.*no real numbers.*measure"):
        ran(lambda x: torch.argmax(x, 1), independent((3, 5), 0.0, 1.0))


def test_what_does_not_run_is_refused():
    with pytest.raises(PredictionError, match=r"inverse in 'head\.2'.*does not run.*square"):
        ran(torch.inverse, independent((3, 5), 0.0, 1.0))


def test_what_is_not_finite_is_refused():
    with pytest.raises(PredictionError, match=r"acos in 'head\.2'.*not finite in 100%"):
        ran(torch.acos, independent((3, 50), 0.0, 1.0))


def test_a_part_of_the_batch_is_drawn_and_the_whole_given_back():
    f = independent((40, 30000), 0.3, 1.0)
    f.second += np.array([[0.4, 0.1], [0.2, 0.0]])
    mask = torch.ones(40, 30000)
    run, found = ran(lambda x: torch.hypot(x, mask), f)
    out = run.field_of(found)
    assert out.shape == (40, 30000)
    u = Propagation()
    with torch.no_grad(), u:
        exact = u.field_of(torch.sqrt(u.abstract(f) ** 2 + 1))
    np.testing.assert_allclose(out.second, exact.second, rtol=0.03)
    gradient = independent((40, 30000), 0.0, 2.0)
    run.backward([(out, gradient)])
    back = run.gradient_of(f)
    assert back.shape == (40, 30000)
    assert 0.5 < back.energy < 2.0


def test_too_large_is_refused():
    with pytest.raises(PredictionError, match=r"logcumsumexp in 'head\.2'.*4,000,000 numbers"):
        ran(lambda x: torch.logcumsumexp(x, 1), independent((1, 4_000_000), 0.0, 1.0))


def test_the_global_generator_rests_and_estimates_repeat():
    f = independent((3, 50), 0.0, 1.0)
    before = torch.get_rng_state()
    energies = [
        run.field_of(out).energy
        for run, out in (ran(lambda x: torch.logcumsumexp(x, 1), f) for _ in range(2))
    ]
    run, out = ran(lambda x: torch.rand_like(x), f)
    np.testing.assert_allclose(run.field_of(out).average, 0.5, atol=0.01)
    assert energies[0] == energies[1]
    assert torch.equal(before, torch.get_rng_state())


def test_a_wider_band():
    run, out = ran(lambda x: torch.logcumsumexp(x, 1), independent((3, 50), 0.0, 1.0))
    assert run.field_of(out).noise >= 0.1**2

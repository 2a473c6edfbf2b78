"""Weights and updates: symmetry, gains, residual branches, learning rates, settings."""

import math
from dataclasses import replace

import pytest
from signal_readings import optimizer

from isograd.findings import Finding, Severity
from isograd.records import Parameter, Reading, Record, Site
from isograd.rules import RULES, NotApplicable, Passed
from isograd.rules._examples import chain, with_history
from isograd.rules.unscaled_residual import _example as stream


def judged(code: str, reading: Reading) -> Finding:
    outcome = RULES[code].judge(reading)
    assert isinstance(outcome, Finding), outcome
    return outcome


def spreads(column: list[float], rms: list[float] | float = 0.1) -> Reading:
    return Reading(chain(len(column), series={"weight.row_spread": column, "weight.rms": rms}))


def test_two_constant_layers_in_a_row_are_one_unit_wide() -> None:
    found = judged("IG301", spreads([1.0, 0.0, 0.0, 1.0]))
    assert found.severity is Severity.ERROR
    assert found.sites == ("layers.1.weight", "layers.2.weight")
    assert judged("IG301", spreads([0.0, 0.0, 0.0], 0.0)).cause == "init-constant"


def test_a_layer_that_alone_is_zero_is_meant() -> None:
    assert isinstance(RULES["IG301"].judge(spreads([1.0, 1.0, 0.0], [0.1, 0.1, 0.0])), Passed)
    assert isinstance(RULES["IG301"].judge(spreads([1.0, 0.0, 1.0], [0.1, 0.0, 0.1])), Passed)
    assert judged("IG301", spreads([1.0, 0.0, 1.0])).severity is Severity.WARNING


def one_output(mean: float, rms: float) -> Reading:
    """Constant hidden weights (31, 48) that one output unit reads."""
    record = chain(2, series={"weight.row_spread": [0.0, 0.0], "weight.rms": [0.1, rms]})
    parameters = (record.parameters[0], replace(record.parameters[1], shape=(1, 31)))
    series = {**record.series, "weight.mean": (0.1, mean)}
    return Reading(replace(record, parameters=parameters, series=series))


def test_a_single_unit_that_reads_all_alike_keeps_them_alike() -> None:
    assert judged("IG301", one_output(0.2, 0.2)).severity is Severity.ERROR
    assert judged("IG301", one_output(0.0, 0.0)).severity is Severity.ERROR
    assert judged("IG301", one_output(0.01, 0.2)).severity is Severity.WARNING


def test_a_skip_connection_tells_units_apart() -> None:
    sites = (
        Site("stem", "linear", "Linear", 1, (8, 5), (), (0,)),
        Site("inner", "linear", "Linear", 2, (8, 7), (0,), (1,)),
        Site("last", "linear", "Linear", 3, (8, 5), (1,), (2,)),
        Site("add", "add", "add", 3, (8, 5), (0, 2)),
        Site("head", "linear", "Linear", 4, (8, 3), (3,), (3,)),
    )
    shapes = ((5, 11), (7, 5), (5, 7), (3, 5))
    parameters = tuple(Parameter(f"w{i}", s, "linear") for i, s in enumerate(shapes))
    series = {"weight.row_spread": (1.0, 1.0, 0.0, 0.0), "weight.rms": (0.1, 0.1, 0.0, 0.0)}
    assert isinstance(RULES["IG301"].judge(Reading(Record(sites, parameters, series))), Passed)


def test_a_gain_that_does_no_harm_is_information() -> None:
    series = {"weight.gain": 0.577, "weight.gain_fit": 1.414}
    found = judged("IG302", Reading(chain(5, series=series)))
    assert found.severity is Severity.INFO
    assert "0.577" in found.message
    assert "1.41" in found.message


def test_norms_make_up_for_a_gain() -> None:
    seen = RULES["IG302"].sick().seen
    sites = tuple(replace(s, kind="batch_norm") if s.kind == "relu" else s for s in seen.sites)
    assert isinstance(RULES["IG302"].judge(Reading(replace(seen, sites=sites))), Passed)


@pytest.mark.parametrize(
    ("factor", "sick"), [(math.sqrt(2), True), (1.6, True), (1.03, False), (1.0, False)]
)
def test_unscaled_residual(factor: float, sick: bool) -> None:
    outcome = RULES["IG303"].judge(stream(factor))
    assert isinstance(outcome, Finding) is sick


def test_linear_growth_of_a_normalized_stream_passes() -> None:
    seen = stream(1.0).seen
    rms = [math.sqrt(1 + sum(t.kind == "add" for t in seen.sites[: i + 1])) for i in range(41)]
    # Started at a hundredth of a branch, such a stream grows 400 times all the same.
    rms[0] = 0.01
    reading = Reading(replace(seen, series={"forward.rms": tuple(rms)}))
    assert isinstance(RULES["IG303"].judge(reading), Passed)


def steps(ratio: float, *, left: float = 1.0, gain: float = 1.4, **facts: object) -> Reading:
    depth = 5
    backward = [left ** ((depth - 1 - i) / (depth - 1)) for i in range(depth)]
    series = {
        "weight.update_ratio": ratio,
        "weight.rms": 0.1,
        "weight.gain": gain,
        "weight.gain_fit": 1.414,
        "backward.rms": backward,
        "backward.count": 100.0,
    }
    named = {f"optimizer.{k}": v for k, v in facts.items()}
    return Reading(chain(depth, series=series, facts={"optimizer.lr": 0.1, **named}))


def test_a_rate_that_is_small_is_that_of_its_group() -> None:
    found = judged("IG304", steps(3e-6, lr=30.0, lr_least=1e-6))
    assert "learning rate of 1e-06, the least of its groups (the highest is 30), that is small" in (
        found.message
    )
    assert found.remedies[0].startswith("Raise the learning rate to about 0.000333")


def test_small_steps_of_a_warm_up_are_judged_by_what_they_will_be() -> None:
    assert isinstance(RULES["IG304"].judge(steps(3e-6, lr_planned=10.0)), Passed)
    assert judged("IG304", steps(3e-6, lr_planned=0.2)).cause == "lr-too-low"


@pytest.mark.parametrize(
    ("reading", "cause"),
    [
        (steps(0.3), "lr-too-high"),
        (steps(0.3, adaptive=True), None),
        (steps(2.0, adaptive=True), "lr-too-high"),
        (steps(0.03, momentum=0.9), None),
        (steps(0.06, momentum=0.99), "lr-too-high"),
        (steps(0.3, gain=0.01), None),
        (steps(0.3, gain=4.0), "init-too-large"),
        (steps(3e-5), None),
        (steps(3e-6), "lr-too-low"),
        (steps(3e-6, momentum=0.9), None),
        (steps(3e-5, left=1e-2, gain=0.577), "gain-mismatch"),
    ],
)
def test_update_ratio(reading: Reading, cause: str | None) -> None:
    outcome = RULES["IG304"].judge(reading)
    assert (outcome.cause if isinstance(outcome, Finding) else None) == cause


def test_a_single_layer_may_go_to_its_optimum_in_one_step() -> None:
    series = {"weight.update_ratio": 0.8, "weight.rms": 0.1}
    assert not isinstance(RULES["IG304"].judge(Reading(chain(1, series=series))), Finding)


def test_a_gain_that_grows_little_is_blamed_where_training_diverges() -> None:
    series = {"weight.gain": 2.9, "weight.gain_fit": 1.414}
    series |= {"forward.rms": [1.3**k for k in range(12)]}
    seen = chain(12, series=series)
    assert judged("IG302", Reading(seen)).severity is Severity.INFO
    failed = with_history(seen, seen, losses=[30.0, 1e8, math.nan])
    found = judged("IG302", failed)
    assert found.severity is Severity.ERROR
    assert "IG401" in found.explains


def sharp(times: float, **facts: object) -> Reading:
    named = {"optimizer.lr": times, "optimizer.momentum": 0.0, "sharpness.lambda_max": 2.0}
    named |= {f"optimizer.{k}": v for k, v in facts.items()}
    return Reading(chain(3, series={"weight.update_ratio": 0.1}, facts=named))


def test_the_limit_of_gradient_descent() -> None:
    assert isinstance(RULES["IG305"].judge(sharp(0.9)), Passed)
    assert judged("IG305", sharp(5.0)).severity is Severity.INFO
    assert judged("IG305", sharp(17.0)).severity is Severity.WARNING
    assert judged("IG305", sharp(17.0, momentum=0.9)).severity is Severity.INFO
    assert isinstance(RULES["IG305"].judge(sharp(17.0, adaptive=True)), NotApplicable)


def test_a_rehearsal_outweighs_the_limit() -> None:
    first = sharp(17.0).seen
    fine = with_history(first, replace(first, step=20), losses=[3 - 0.05 * k for k in range(20)])
    assert judged("IG305", fine).severity is Severity.INFO
    thrown = with_history(first, replace(first, step=6), losses=[2.3, 9.0, 4.0, 3.0, 2.5, 2.2])
    assert judged("IG305", thrown).severity is Severity.WARNING
    lost = with_history(first, replace(first, step=3), losses=[2.3, 40.0, math.nan])
    assert judged("IG305", lost).severity is Severity.ERROR


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ({"momentum": 1.0}, Severity.ERROR),
        ({"momentum": 0.999}, Severity.WARNING),
        ({"betas": (0.9, 0.5)}, Severity.WARNING),
        ({"betas": (0.9, 1.0)}, Severity.ERROR),
        ({"eps": 0.1, "adaptive": True}, Severity.WARNING),
        ({"weight_decay": 10.0}, Severity.WARNING),
        ({"weight_decay": 0.05, "momentum": 0.9}, Severity.WARNING),
        ({"weight_decay": 0.05, "momentum": 0.5}, None),
        ({"weight_decay": 0.1}, None),
        ({"lr": 1e-3, "weight_decay": 10.0, "penalty": True}, Severity.WARNING),
        ({"lr": 1e-3, "weight_decay": 0.01, "penalty": True}, None),
        ({"name": "SGD", "lr": 0.1, "momentum": 0.99}, Severity.WARNING),
        ({"name": "SGD", "lr": 0.01, "momentum": 0.99}, None),
        ({"name": "SGD", "lr": 0.1, "momentum": 0.98}, None),
        ({"lr": -0.1}, Severity.ERROR),
        ({"lr": 0.0}, None),
        ({"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "adaptive": True}, None),
    ],
)
def test_settings(facts: dict[str, object], severity: Severity | None) -> None:
    named = {f"optimizer.{k}": v for k, v in {"lr": 0.05, **facts}.items()}
    sizes = {"weight.grad_rms": 1e-3, "weight.rms": 0.05}
    outcome = RULES["IG306"].judge(Reading(chain(3, series=sizes, facts=named)))
    assert (outcome.severity if isinstance(outcome, Finding) else None) is severity


@pytest.mark.parametrize(("level", "ill"), [(1.0, True), (0.5, False)])
def test_a_penalty_that_leads_is_told_where_nothing_is_learned(level: float, *, ill: bool) -> None:
    seen = optimizer(lr=1e-3, adaptive=True, weight_decay=0.3, penalty=True).seen
    series = {**seen.series, "weight.grad_rms": (5e-3,) * 3}  # 0.3 * 0.05 is three times as much
    seen = replace(seen, series=series, facts={**seen.facts, "loss.chance": 1.0})
    losses = [1 - (1 - level) * min(k / 20, 1) + 0.001 * (-1) ** k for k in range(40)]
    outcome = RULES["IG306"].judge(with_history(seen, replace(seen, step=40), losses=losses))
    assert isinstance(outcome, Finding) == ill


@pytest.mark.parametrize(
    ("kind", "value", "rate", "ill"),
    [
        ("cross_entropy", 2.3, 0.1, True),
        ("mse", 1.0, 0.1, True),
        ("cross_entropy", -2.3, 0.1, False),  # the sign of the loss is turned, too
        ("cross_entropy", 2.3, -0.1, False),
        ("other", 2.3, 0.1, False),  # a return, a likelihood
    ],
)
def test_an_error_that_is_maximized(kind: str, value: float, rate: float, ill: bool) -> None:
    facts = {"optimizer.lr": rate, "optimizer.maximize": True, "loss.kind": kind}
    facts |= {"loss.value": value, "loss.chance": abs(value)}
    seen = Reading(chain(3, facts=facts))
    outcome = RULES["IG306"].judge(seen)
    assert isinstance(outcome, Finding) is ill
    if isinstance(outcome, Finding):
        assert outcome.severity is Severity.ERROR
        assert outcome.evidence["settings"] == {"maximize": False}
    assert not isinstance(RULES["IG603"].judge(seen), Finding)


def test_norms_allow_ten_times_the_step() -> None:
    def behind_norms(ratio: float) -> Reading:
        seen = steps(ratio).seen
        sites = tuple(replace(s, kind="batch_norm") if s.kind == "relu" else s for s in seen.sites)
        return Reading(replace(seen, sites=sites))

    assert isinstance(RULES["IG304"].judge(behind_norms(0.3)), Passed)
    assert judged("IG304", behind_norms(3.0)).severity is Severity.WARNING


def test_weights_that_amplify_explain_an_overflow_and_those_that_shrink_do_not() -> None:
    assert "IG401" not in judged("IG302", RULES["IG302"].sick()).explains
    seen = RULES["IG302"].sick().seen
    large = {
        **seen.series,
        "weight.gain": (4.0,) * len(seen.parameters),
        "forward.rms": tuple(0.6 * 2.8**s.depth for s in seen.sites),
        "forward.spread": tuple(0.5 * 2.8**s.depth for s in seen.sites),
    }
    found = judged("IG302", Reading(replace(seen, series=large)))
    assert found.cause == "init-too-large"
    assert "IG401" in found.explains


def test_a_recurrent_layer_of_equal_weights_is_symmetric() -> None:
    sites = (
        Site("lstm", "recurrent", "LSTM", 1, (7, 5, 11), (), (0, 1)),
        Site("head", "linear", "Linear", 2, (7, 3), (0,), (2,)),
    )
    parameters = (
        Parameter("lstm.ih", (44, 13), "linear"),
        Parameter("lstm.hh", (44, 11), "recurrent"),
        Parameter("head", (3, 11), "linear"),
    )
    for spread, found in (((0.0, 0.0, 1.0), True), ((1.0, 0.0, 1.0), False)):
        record = Record(sites, parameters, {"weight.row_spread": spread, "weight.rms": spread})
        assert isinstance(RULES["IG301"].judge(Reading(record)), Passed) != found


def test_a_rate_that_is_too_low_everywhere_is_not_blamed_on_the_depth() -> None:
    depth = 6
    lost = [1e-3 * 0.4 ** (depth - 1 - i) for i in range(depth)]
    series = {
        "weight.update_ratio": 1e-8,
        "weight.rms": 0.1,
        "backward.rms": lost,
        "backward.count": 640.0,
        "weight.gain": 0.577,
        "weight.gain_fit": 1.414,
    }
    found = judged("IG304", Reading(chain(depth, series=series, facts={"optimizer.lr": 1e-8})))
    assert found.cause == "lr-too-low"

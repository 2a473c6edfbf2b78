"""Activations: constant outputs, saturation, dead units, likeness."""

import random
from dataclasses import replace

import numpy as np
import pytest

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules import RULES, Passed
from isograd.rules._examples import chain, with_history
from isograd.rules.dead_units import chance_dead

FLAT = [2.303 + 0.003 * (-1) ** k for k in range(30)]
FALLING = [2.3 - 0.04 * k for k in range(30)]


def judged(code: str, reading: Reading) -> Finding:
    outcome = RULES[code].judge(reading)
    assert isinstance(outcome, Finding), outcome
    return outcome


def test_rounding_is_beyond_any_optimizer() -> None:
    seen = RULES["IG201"].sick().seen
    facts = {**seen.facts, "optimizer.adaptive": True}
    alive = replace(seen, facts=facts)
    assert judged("IG201", Reading(alive)).severity is Severity.INFO
    rms = {**seen.series, "forward.rms": (50.0,) * len(seen.sites)}
    assert judged("IG201", Reading(replace(alive, series=rms))).severity is not Severity.INFO


def test_a_head_that_starts_at_zero_is_meant() -> None:
    facts = {"output.spread": 0.0, "output.rms": 0.0}
    record = chain(3, series={"weight.rms": [0.1, 0.1, 0.0]}, facts=facts)
    assert isinstance(RULES["IG203"].judge(Reading(record)), Passed)
    record = chain(3, series={"weight.rms": 0.1}, facts=facts)
    assert judged("IG203", Reading(record)).severity is Severity.ERROR


@pytest.mark.parametrize(("spread", "ill"), [(0.01, False), (0.0, True)])
def test_a_head_that_has_left_zero_is_not_why_a_loss_stands(spread: float, ill: bool) -> None:
    facts = {"loss.kind": "cross_entropy", "loss.chance": 2.303, "batch.size": 16}
    start = {**facts, "output.spread": 0.0, "output.rms": 0.0}
    first = chain(3, series={"weight.rms": [0.1, 0.1, 0.0]}, facts=start)
    last = replace(first, step=30, facts={**facts, "output.spread": spread, "output.rms": 0.1})
    found = RULES["IG203"].judge(with_history(first, last, losses=FLAT))
    assert isinstance(found, Finding) is ill


@pytest.mark.parametrize(("losses", "sound"), [(FLAT, False), (FALLING, True)])
def test_outputs_that_become_constant(losses: list[float], sound: bool) -> None:
    first = chain(3, facts={"output.spread": 0.5, "output.rms": 1.0})
    last = chain(3, facts={"output.spread": 1e-7, "output.rms": 1.0}, step=30)
    outcome = RULES["IG203"].judge(with_history(first, last, losses=losses))
    assert isinstance(outcome, Passed) is sound
    if isinstance(outcome, Finding):
        assert outcome.cause == "lr-too-high"


@pytest.mark.parametrize(
    ("gain", "rms", "cause"),
    [
        (9.6, 1.0, "init-too-large"),
        (1.6, 80.0, "input-not-normalized"),
        (1.6, 1.0, "saturating-activation"),
    ],
)
def test_why_units_saturate(gain: float, rms: float, cause: str) -> None:
    series = {"forward.saturated": [0.9, 0.1, 0.1, 0.0], "weight.gain": gain}
    series |= {"weight.gain_fit": 1.593}
    record = chain(4, activation="tanh", series=series, facts={"batch.rms": rms})
    assert judged("IG204", Reading(record)).cause == cause


@pytest.mark.parametrize(("after", "severity"), [(0.9, Severity.WARNING), (0.2, Severity.INFO)])
def test_a_falling_loss_is_no_comfort_while_units_stay_shut(
    after: float, severity: Severity
) -> None:
    series = {"weight.gain": 9.6, "weight.gain_fit": 1.593}
    first = chain(4, activation="tanh", series={**series, "forward.saturated": 0.9})
    last = chain(4, activation="tanh", series={**series, "forward.saturated": after}, step=80)
    found = judged("IG204", with_history(first, last, losses=FALLING))
    assert found.severity is severity
    learned = replace(first, facts={**first.facts, "loss.value": 0.1, "loss.chance": 2.3})
    found = judged("IG204", with_history(learned, last, losses=[0.1] * 40))
    assert found.severity is Severity.INFO


def test_saturation_is_no_matter_of_rectifiers_or_outputs() -> None:
    record = chain(4, activation="relu", series={"forward.saturated": 0.9})
    assert not isinstance(RULES["IG204"].judge(Reading(record)), Finding)


def test_chance_dead_against_simulation() -> None:
    draw = random.Random(1)
    for correlation, samples in ((0.0, 3), (0.6, 5), (0.95, 16)):
        own, shared, trials = (1 - correlation) ** 0.5, correlation**0.5, 20_000
        off = 0
        for _ in range(trials):
            common = shared * draw.gauss(0, 1)
            off += all(common + own * draw.gauss(0, 1) < 0 for _ in range(samples))
        # Four standard errors of a share of 20 000 trials are at most 0.014.
        assert chance_dead(correlation, samples) == pytest.approx(off / trials, abs=0.014)
    assert chance_dead(1.0, 64) == 0.5


def units(share: float, *, alike: float = 0.3, count: float = 47.0, step: int = 0) -> Record:
    series = {"forward.dead": share, "forward.units": count, "forward.correlation": alike}
    return chain(4, series=series, step=step)


def test_half_off_is_chance_where_samples_are_alike() -> None:
    assert isinstance(RULES["IG205"].judge(Reading(units(0.55, alike=0.99999))), Passed)
    assert judged("IG205", Reading(units(0.55))).cause == "dead-units"


def test_half_off_is_chance_for_one_sample() -> None:
    series = {"forward.dead": 0.6, "forward.units": 47.0}
    one, two = (Reading(chain(4, series=series, facts={"batch.size": n})) for n in (1, 2))
    assert isinstance(RULES["IG205"].judge(one), Passed)
    assert judged("IG205", two)


def test_one_unit_of_four_is_no_news_and_a_wall_is() -> None:
    assert isinstance(RULES["IG205"].judge(Reading(units(0.25, count=4.0))), Passed)
    wall = judged("IG205", Reading(units(1.0, alike=0.99999, count=2.0)))
    assert wall.severity is Severity.ERROR


def test_units_that_die_in_the_rehearsal_are_the_learning_rates() -> None:
    reading = with_history(units(0.02), units(0.97, step=7), losses=FLAT)
    found = judged("IG205", reading)
    assert (found.cause, found.severity) == ("lr-too-high", Severity.ERROR)
    assert "7 steps" in found.message
    reading = with_history(units(0.02), units(0.1, step=7), losses=FLAT)
    assert isinstance(RULES["IG205"].judge(reading), Passed)


@pytest.mark.parametrize(
    ("loss", "ops", "blocked"),
    [
        ("mse", ["sigmoid"], True),
        ("bce", ["sigmoid"], False),
        ("bce", ["sigmoid", "clamp"], True),
    ],
)
def test_a_saturated_output_blocks_if_the_loss_does_not_undo_it(
    loss: str, ops: list[str], blocked: bool
) -> None:
    facts = {"loss.input_site": 3, "loss.kind": loss, "loss.input_ops": ops}
    record = chain(3, activation="sigmoid", series={"forward.saturated": 0.95}, facts=facts)
    outcome = RULES["IG206"].judge(Reading(record))
    assert isinstance(outcome, Finding) is blocked
    if isinstance(outcome, Finding):
        assert outcome.cause == "dead-output"


def test_likeness_worries_only_beyond_what_training_undoes() -> None:
    for last, severity in ((0.9994, Severity.INFO), (0.9999999, Severity.WARNING)):
        record = chain(4, series={"forward.correlation": [0.3, 0.9, last, 0.5]})
        assert judged("IG207", Reading(record)).severity is severity
    still = chain(
        4, series={"forward.correlation": [0.3, 0.9, 0.9994, 0.5]}, facts={"loss.chance": 2.303}
    )
    for losses, severity in ((FLAT, Severity.WARNING), (FALLING, Severity.INFO)):
        reading = with_history(still, replace(still, step=30), losses=losses)
        assert judged("IG207", reading).severity is severity
    record = chain(4, series={"forward.correlation": [0.97, 0.99, 0.9999999, 0.5]})
    assert isinstance(RULES["IG207"].judge(Reading(record)), Passed)


@pytest.mark.parametrize(
    ("p", "told"), [(0.9, None), (0.91, "10 times"), (0.95, "19 times"), (1.0, "no signal at all")]
)
def test_dropout_by_the_noise_that_it_adds(p: float, told: str | None) -> None:
    facts = {"model.dropout": [p], "model.dropout_at": ["b"]}
    outcome = RULES["IG211"].judge(Reading(chain(2, facts=facts)))
    if told is None:
        assert isinstance(outcome, Passed)
    else:
        assert isinstance(outcome, Finding)
        assert outcome.message.startswith("b: ")
        assert told in outcome.message


@pytest.mark.parametrize(
    ("shape", "label", "skips", "found"),
    [
        ((32,), "Dropout", False, True),  # 32 units, of whose energy 0.2^3 is signal: 0.26
        ((130,), "Dropout", False, False),
        ((32, 5), "Dropout", False, False),  # each entry by itself
        ((32, 5), "Dropout1d", False, True),  # channels
        ((32,), "Dropout", True, False),
    ],
)
def test_dropouts_in_a_row_by_what_they_leave_to_the_width(
    shape: tuple[int, ...], label: str, skips: bool, found: bool
) -> None:
    sites: list[Site] = []
    for layer in range(3):  # one module, called three times
        before = () if not sites else (len(sites) - 1,)
        sites.append(Site(f"fc.{layer}", "linear", "Linear", layer + 1, (16, *shape), before))
        name = f"drop#{layer + 1}" if layer else "drop"
        sites.append(Site(name, "dropout", label, layer + 1, (16, *shape), (len(sites) - 1,)))
        if skips:
            ends = (len(sites) - 1, *before)
            sites.append(Site(f"add#{layer}", "add", "add", layer + 1, (16, *shape), ends))
    record = Record(
        sites=tuple(sites), facts={"model.dropout": [0.8], "model.dropout_at": ["drop"]}
    )
    outcome = RULES["IG211"].judge(Reading(record))
    assert isinstance(outcome, Finding if found else Passed)
    if isinstance(outcome, Finding):
        assert outcome.sites == ("drop", "drop#2", "drop#3")
        assert outcome.evidence["signal"] == pytest.approx(0.008)
        assert "leave 0.008 of the energy" in outcome.message


@pytest.mark.parametrize(
    ("p", "behind", "found"),
    [
        (0.3, (), True),
        (0.1, (), False),
        (0.3, (("sigmoid", (16, 50)),), True),
        (0.3, (("linear", (16, 50)),), False),
        (0.3, (("layer_norm", (16, 50)),), False),
        (0.3, (("module", (16,)),), False),  # a mean over the units
    ],
)
def test_dropout_of_the_outputs_themselves(
    p: float, behind: tuple[tuple[str, tuple[int, ...]], ...], found: bool
) -> None:
    sites = [
        Site("fc", "linear", "Linear", 1, (16, 50)),
        Site("drop", "dropout", "Dropout", 1, (16, 50), (0,)),
        *(Site(kind, kind, kind, 1, shape, (1,)) for kind, shape in behind),
    ]
    facts = {"model.dropout": [p], "model.dropout_at": ["drop"], "loss.input_site": len(sites) - 1}
    outcome = RULES["IG211"].judge(Reading(Record(sites=tuple(sites), facts=facts)))
    assert isinstance(outcome, Finding if found else Passed)
    if isinstance(outcome, Finding):
        assert "0.7 times the targets" in outcome.message
        masks = (np.random.default_rng(3).random(100_000) < 0.7) / 0.7
        tried = np.linspace(0.5, 1.2, 71)
        errors = [((y * masks - 1.0) ** 2).mean() for y in tried]
        assert tried[np.argmin(errors)] == pytest.approx(0.7, abs=0.011)

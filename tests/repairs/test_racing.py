"""The race: a ladder on which nobody is trained twice; the proof: when it ends."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from isograd.diagnosis import diagnose
from isograd.findings import Diagnosis
from isograd.probe.measuring import measure
from isograd.remedies import Case, Plan
from isograd.repairs.comparing import LEVEL, SMALLEST
from isograd.repairs.proving import Series, compared, prove
from isograd.repairs.racing import Race, Runner, affordable
from isograd.repairs.rehearsing import FIRST, SETTLED, STALE, rehearsed
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import gather
from isograd.repairs.treatments import Treatment
from patients import data
from patients.dense import mlp
from patients.ill import he


def case_of(model: nn.Module, lr: float = 0.02) -> Case:
    x, y = data.digits(64)
    diagnosis = diagnose(measure(model, (x, y)))
    return Case(
        model, (x, y), diagnosis, None, functools.partial(torch.optim.SGD, lr=lr, momentum=0.9)
    )


def race_of(case: Case) -> Race:
    x, y = data.digits(256)
    supply = gather(list(zip(x.split(64), y.split(64), strict=True)), case.batch, 10)
    score = judge(case.model, supply, None, new_loss=False, scale=False, training=True, seed=0)
    return Race(case, supply, score, 0, (score(case.model),), 3)


def test_nobody_is_trained_twice() -> None:
    torch.manual_seed(0)
    race = race_of(case_of(he(mlp(64, 40, 10))))
    names = [Treatment(labels=(name,)) for name in "abcd"]
    order = race.run(names, 100)
    assert [len(runner.losses) for runner in order] == [6, 6]
    assert race.steps == 4 * 3 + 2 * 3
    best = order[0]
    assert race.climb(best, 12)
    assert set(best.scores) == {3, 6, 12}
    before = race.steps
    again = race.run([Treatment(labels=("e",)), Treatment(labels=("f",))], 100, [best])
    assert race.steps - before == 2 * 3 + 3 * (len(again) - (best in again))
    assert len(best.losses) == 12
    assert best.score == best.scores[6]


def test_who_was_on_the_next_rung_goes_there_whatever_the_score_on_this_one() -> None:
    torch.manual_seed(0)
    race = race_of(case_of(he(mlp(64, 40, 10))))
    known = race.run([Treatment(labels=(name,)) for name in "ab"], 0)[0]
    assert race.climb(known, 3)
    assert race.climb(known, 6)
    known.scores[3] = 9.0
    order = race.run([Treatment(labels=(name,)) for name in "cde"], 100, [known])
    assert any(one is known for one in order)


def test_a_race_ends_where_its_budget_does() -> None:
    torch.manual_seed(0)
    race = race_of(case_of(he(mlp(64, 40, 10))))
    order = race.run([Treatment(labels=(name,)) for name in "abcd"], 12)
    assert len(order) == 4
    assert race.steps == 12


def test_of_two_that_show_nothing_none_is_dropped() -> None:
    torch.manual_seed(0)
    race = race_of(case_of(he(mlp(64, 40, 10)), lr=1e-9))
    order = race.run([Treatment(labels=(name,)) for name in "ab"], 25)
    assert [len(runner.losses) for runner in order] == [12, 12]
    race = race_of(case_of(he(mlp(64, 40, 10))))  # who learns is told from the other at once
    order = race.run([Treatment(labels=(name,)) for name in "ab"], 25)
    assert [len(runner.losses) for runner in order] == [3, 3]


@pytest.mark.parametrize(("steps", "most"), [(10, 2), (39, 4), (78, 8), (1000, 12)])
def test_as_many_race_as_can_be_afforded(steps: int, most: int) -> None:
    found = affordable(steps, 6, 12)
    assert found == most
    assert found in (2, 12) or (found + -(-found // 2)) * 6 <= steps


class Told:
    """A series whose scores are known."""

    def __init__(self, *by_length: tuple[int, Sequence[float]]) -> None:
        self.scores = dict(by_length)
        self.lengths: list[int] = []

    def run(self, seed: int, steps: int, *, keep: bool = False) -> int:
        self.lengths.append(steps)
        return steps

    def go_on(self, steps: int, *, keep: bool) -> int:
        assert keep is (steps < 20)
        more = sum(steps - done for done in self.lengths)
        self.lengths = [steps] * len(self.lengths)
        return more

    def __len__(self) -> int:
        return len(self.lengths)

    def first(self, count: int) -> Trial:
        scores = tuple(self.scores[self.lengths[0]][:count])
        return Trial("told", ((0.0,),) * count, scores, (None,) * count)


def proof(
    before: Told, after: Told, seeds: int = 5, untrained: tuple[float, ...] = (2.4,)
) -> tuple[bool, int, int]:
    spent: list[int] = []
    *_, found = prove(
        cast("Series", before),
        cast("Series", after),
        seeds=range(seeds),
        steps=20,
        untrained=untrained,
        afford=lambda _: True,
        spend=spent.append,
    )
    return found.better, len(after), sum(spent)


NOT_YET = (5, (2.3, 2.31, 2.3))


def test_a_clear_gain_ends_the_proof_after_a_quarter_or_half_of_its_steps() -> None:
    before = Told(NOT_YET, (10, (2.3, 2.31, 2.3)))
    assert proof(before, Told(NOT_YET, (10, (1.1, 1.2, 1.15)))) == (True, 3, 60)
    assert proof(Told(NOT_YET), Told((5, (1.1, 1.2, 1.15)))) == (True, 3, 30)


def test_a_gain_that_shows_late_takes_the_whole_length() -> None:
    before = Told(NOT_YET, (10, (2.3,) * 3), (20, (2.3,) * 3))
    after = Told(NOT_YET, (10, (2.3, 2.2, 2.3)), (20, (1.1, 1.2, 1.15)))
    assert proof(before, after) == (True, 3, 120)


def test_who_is_no_better_than_a_constant_answer_has_to_show_more() -> None:
    # 2.2 is that of a constant answer: a proof does not end before somebody is below it.
    def looked(chance: float) -> tuple[bool, int, int]:
        before = Told(NOT_YET, (10, (9.0,) * 3), (20, (9.0,) * 3))
        after = Told(NOT_YET, (10, (2.3, 2.4, 2.35)), (20, (2.3, 2.4, 2.35)))
        return proof(before, after, untrained=(chance, 9.0))

    assert looked(2.2) == (True, 3, 120)
    assert looked(3.0) == (True, 3, 60)


class Broken(Told):
    """Runs that all break."""

    def first(self, count: int) -> Trial:
        return Trial("told", ((math.nan,),) * count, (math.inf,) * count, ("broke",) * count)


def test_what_mends_a_break_is_known_by_half_of_the_steps() -> None:
    # Chance of error of both looks together is still 5 percent: half of it for each.
    def looked(
        before: Told, *after: tuple[int, tuple[float, ...]], shows: bool = False
    ) -> tuple[bool, float, int, int]:
        spent: list[int] = []
        half: Any = Half(*after)
        *_, found = prove(
            cast("Series", before),
            half,
            seeds=range(3),
            steps=6,
            untrained=(2.3,),
            afford=lambda _: True,
            spend=spent.append,
            defined=not shows,
            shows=shows,
        )
        return found.better, found.level, half.lengths[0], sum(spent)

    learned, not_yet = (2.2, 2.1, 2.25), (2.2, 2.3, 2.25)
    assert looked(Broken(), (3, learned)) == (True, LEVEL / 2, 3, 27)
    assert looked(Broken(), (3, not_yet), (6, learned)) == (True, LEVEL / 2, 6, 36)
    # Not to break is a difference at the end, when there is no more time to learn in.
    assert looked(Broken(), (3, not_yet), (6, not_yet)) == (True, LEVEL / 2, 6, 36)
    assert looked(Broken(), (3, (2.3,) * 3), (6, (2.3,) * 3))[0] is False
    # Where some run as it is did not break, nothing is shortened.
    assert looked(Told((6, (2.3,) * 3)), (6, learned)) == (True, LEVEL, 6, 36)
    # But where runs go on from where it shows, both are shorter.
    as_it_is = (3, (2.3,) * 3), (6, (2.3,) * 3)
    assert looked(Half(*as_it_is[:1]), (3, learned), shows=True) == (True, LEVEL / 2, 3, 18)
    longer = (3, not_yet), (6, learned)
    assert looked(Half(*as_it_is), *longer, shows=True) == (True, LEVEL / 2, 6, 36)


class Half(Told):
    """Runs that can be continued after half of six steps."""

    def go_on(self, steps: int, *, keep: bool) -> int:
        assert not keep
        more = sum(steps - done for done in self.lengths)
        self.lengths = [steps] * len(self.lengths)
        return more


def test_who_learned_at_all_is_asked_where_there_are_no_more_seeds() -> None:
    # Every run learns and none did before: 1.25/64. Student's test alone gives 0.1 for three.
    def told(seeds: int) -> tuple[bool, bool]:
        before = Told((20, (2.302, 2.3026, 2.3012, 2.302, 2.302)))
        after = Told((20, (2.28, 2.247, 2.09, 2.302, 2.302)))
        *_, found = prove(
            cast("Series", before),
            cast("Series", after),
            seeds=range(seeds),
            steps=20,
            untrained=(2.3026,),
            afford=lambda _: True,
            spend=lambda _: None,
            early=False,
        )
        return found.better, math.isnan(found.bar)

    assert told(3) == (True, False)
    assert told(5) == (False, True)  # looking in several ways would cost what more seeds tell


def test_a_gain_of_changing_size_gets_further_seeds_and_none_gets_none() -> None:
    before: Any = ((5, (2.3,) * 5), (10, (2.3,) * 5), (20, (2.303, 2.302, 2.304, 2.303, 2.303)))
    after = Told((5, (2.3,) * 5), (10, (2.3,) * 5), (20, (2.0, 0.4, 1.9, 2.1, 1.0)))
    assert proof(Told(*before), after) == (True, 4, 160)
    same = Told((5, (2.3,) * 5), (10, (2.3,) * 5), (20, (2.303, 2.304, 2.302, 2.303, 2.303)))
    assert proof(Told(*before), same) == (False, 3, 120)


def test_worse_than_a_constant_answer_is_as_bad_as_that() -> None:
    def told(cap: tuple[float, ...]) -> bool:
        before, after = (Told((20, s)) for s in ((2e4, 1.8e4, 4.7e3), (3.6e3, 3.1e3, 3.1e3)))
        *_, found = prove(
            cast("Series", before),
            cast("Series", after),
            seeds=range(3),
            steps=20,
            untrained=cap,
            afford=lambda _: True,
            spend=lambda _: None,
            early=False,
        )
        return found.better

    assert not told((2.9e4,))
    assert told((2.9e4, 5.9e3))


def rehearsal(case: Case, most: int = 40, longest: int = 0) -> tuple[Runner, Diagnosis, bool]:
    runner = Runner(Treatment(), Treatment().start(case, 0), 0)
    return runner, *rehearsed(runner, case, lambda _: race_of(case).supply, most, longest)


def test_to_run_away_is_to_be_lost() -> None:
    def trial(name: str, *curves: tuple[float, ...], score: float = 2.3) -> Trial:
        return Trial(name, curves, (score,) * len(curves), (None,) * len(curves))

    away = trial("as it is", *[(2.3, 70.0, 5e31)] * 3, score=2.303)
    calm = trial("change", *[(2.3, 2.301, 2.3)] * 3, score=2.3029)
    worse = trial("as it is", *[(2.3, 2.4, 2.5)] * 3, score=2.303)
    assert compared(away, calm, (2.31,), 0.05).better
    assert not compared(worse, calm, (2.31,), 0.05).better  # a gain of nothing


def test_where_nothing_was_learned_more_than_noise_is_a_gain() -> None:
    def better(before: float, after: float, smallest: float = SMALLEST) -> bool:
        told = [
            Trial(name, ((2.3, 2.3),) * 3, (score, score - 1e-4, score + 1e-4), (None,) * 3)
            for name, score in (("as it is", before), ("change", after))
        ]
        return compared(*told, (2.3,), 0.05, smallest).better

    assert better(2.3, 2.27)
    assert not better(2.3, 2.295)  # 0.2 %, which 256 samples do not tell
    assert not better(1.3, 1.28)  # it learns: 1.5 % are not worth a change
    assert not better(2.3, 2.27, smallest=0.1)  # too little to end a proof early
    assert better(2.3, 2.295, smallest=0.0)  # of what is wrong by definition


def test_a_change_that_fails_when_it_is_judged_broke() -> None:
    case = case_of(he(mlp(64, 40, 10)))

    def fails(_: nn.Module) -> float:
        raise RuntimeError("no such mode")

    score = cast("Judge", fails)
    supply = race_of(case).supply
    change = Treatment(plans=(Plan("some", "does nothing"),), labels=("some",))
    series = Series(change, case, supply, score)
    assert series.run(0, 3) == 3
    trial = series.first(1)
    assert trial.scores == (float("inf"),)
    assert trial.broke == ("RuntimeError: no such mode",)
    with pytest.raises(RuntimeError, match="no such mode"):
        Series(Treatment(), case, supply, score).run(0, 3)


def test_trouble_that_comes_late_is_waited_for() -> None:
    torch.manual_seed(0)
    fine = case_of(he(mlp(64, 40, 10)))
    runner, diagnosis, learned = rehearsal(fine)
    assert len(runner.losses) == FIRST
    assert learned
    assert diagnosis is fine.diagnosis  # it learns: nobody looks again
    norm = nn.BatchNorm1d(40, momentum=0.001)
    slow = case_of(nn.Sequential(nn.Linear(64, 40), norm, nn.ReLU(), nn.Linear(40, 10)))
    runner, diagnosis, learned = rehearsal(slow)
    assert len(runner.losses) == STALE
    assert diagnosis is not slow.diagnosis
    assert diagnosis.findings[0].code == "IG502"
    # What normalizes next to nothing is the same in both modes: it is looked at again.
    for parameter in slow.model[0].parameters():
        nn.init.normal_(parameter, std=64**-0.5)
    runner, diagnosis, learned = rehearsal(slow)
    assert len(runner.losses) == SETTLED
    assert diagnosis.healthy


@pytest.mark.parametrize(("rate", "steps"), [(0.02, FIRST), (0.3, 40)])
def test_with_a_bold_rate_a_network_is_trained_to_the_end(rate: float, steps: int) -> None:
    torch.manual_seed(0)
    case = case_of(he(mlp(64, 40, 10)), lr=rate)
    reading = case.diagnosis.reading
    told = {"optimizer.name": "SGD", "optimizer.lr": rate, "optimizer.momentum": 0.9}
    seen = replace(reading.seen, facts={**reading.seen.facts, **told})
    case = replace(case, diagnosis=replace(case.diagnosis, reading=replace(reading, seen=seen)))
    assert len(rehearsal(case)[0].losses) == steps


def test_a_rate_that_throws_a_network_off_is_seen_at_once() -> None:
    torch.manual_seed(0)
    runner, diagnosis, _ = rehearsal(case_of(he(mlp(64, 100, 90, 10)), lr=1.5))
    assert len(runner.losses) <= FIRST
    assert any(f.cause == "lr-too-high" for f in diagnosis.findings)
    assert rehearsal(case_of(he(mlp(64, 100, 90, 10)), lr=0.01))[1].healthy


def test_a_network_that_looks_well_but_does_not_learn_is_trained_for_longer() -> None:
    torch.manual_seed(0)
    still = case_of(he(mlp(64, 40, 10)), lr=1e-5)
    runner, diagnosis, learned = rehearsal(still)
    assert len(runner.losses) == 40
    assert not learned
    assert diagnosis.reading.last.fact("rehearsal.losses") == runner.losses


@pytest.mark.parametrize(("lr", "longest", "steps"), [(1e-5, 90, 90), (1e-5, 0, 40), (0.02, 90, 8)])
def test_where_nothing_was_found_it_is_trained_on(lr: float, longest: int, steps: int) -> None:
    torch.manual_seed(0)
    runner, diagnosis, learned = rehearsal(case_of(he(mlp(64, 40, 10)), lr=lr), 40, longest)
    assert len(runner.losses) == steps
    assert learned is (steps == FIRST)
    assert diagnosis.healthy


def test_a_run_whose_first_step_leaves_no_numbers_ends_there() -> None:
    class Masked(nn.Module):  # hides it: the loss stays a number
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x.sqrt(), torch.zeros_like(x))

    torch.manual_seed(0)
    case = case_of(nn.Sequential(nn.Linear(64, 20), Masked(), nn.Linear(20, 10)))
    runner = Runner(Treatment(), Treatment().start(case, 0), 0)
    assert runner.advance(gather(None, case.batch, 10), 10) == 1
    assert runner.broke == "weights were no finite numbers after 1 steps"

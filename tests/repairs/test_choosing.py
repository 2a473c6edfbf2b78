"""The choice: what is kept of those that do about as well."""

import math
from typing import Any

import torch

from isograd.remedies import Plan
from isograd.repairs.choosing import better_half, by_definition, gained, ranked, shown_after
from isograd.repairs.racing import Runner
from isograd.repairs.treatments import Trainee, Treatment

NOBODY = Trainee(torch.nn.Identity(), None, None, False)  # type: ignore[arg-type]  # not trained


def runner(name: str, score: float, **treatment: Any) -> Runner:
    one = Runner(Treatment(labels=(name,), **treatment), NOBODY, 0)
    one.score = score
    return one


def order(*runners: Runner, start: float = 2.3) -> list[str]:
    return [r.treatment.name for r in ranked(runners, (start,))]


def test_scores_within_noise_leave_the_order_of_the_plan() -> None:
    a, b, c = runner("a", 2.303), runner("b", 2.295), runner("c", 2.299)
    assert gained((a, b, c), (2.3,)) is None
    assert order(a, b, c) == ["a", "b", "c"]
    assert [r.treatment.name for r in better_half((a, b, c), (2.3,))] == ["a", "b"]
    assert order(a, runner("b", 2.28), c) == ["b", "c", "a"]


def test_a_gain_that_counts_in_a_proof_has_the_steps_that_it_took() -> None:
    late = runner("late", 1.0)
    late.scores = {6: 2.28, 12: 2.25, 24: 1.0}
    assert shown_after(late, 2.3) == 12
    assert shown_after(late, 1.01) == 0
    assert shown_after(late, None) == 0


def test_what_was_made_for_a_cause_comes_before_what_helps_too() -> None:
    own, aside = runner("own", 1.1, invasive=3), runner("aside", 1.0, invasive=2, aside=True)
    assert order(aside, own) == ["own", "aside"]
    assert order(aside, runner("own", 1.7, invasive=3)) == ["aside", "own"]  # not nearly as good
    first = runner("first", 1.2, cause=0, aside=True)
    assert order(own, first)[0] == "own"
    assert order(runner("second", 1.0, cause=1), first)[0] == "first"


def test_values_are_preferred_to_architecture_unless_that_gains_much_more() -> None:
    values = runner("values", 1.5, invasive=2)
    assert order(runner("architecture", 1.0, invasive=6), values)[0] == "values"
    assert order(runner("architecture", 0.5, invasive=6), values)[0] == "architecture"
    both = better_half((runner("x", 0.4, invasive=6), runner("y", 0.5, invasive=6), values), (2.3,))
    assert [r.treatment.name for r in both] == ["x", "values"]


def test_changes_of_the_data_count_from_the_untrained_network() -> None:
    data = runner("data", 1.002, families=("preprocessing",), invasive=3)
    norm = runner("norm", 0.66, families=("normalization",), invasive=5, aside=True)
    assert ranked((norm, data), (1.0, 3.17))[0] is data  # a constant answer has 1
    assert ranked((norm, data), (1.0, 1.1))[0] is norm
    assert ranked((norm, data), (1.0,))[0] is norm


def test_scores_that_have_blown_up_are_told_apart_by_their_logarithm() -> None:
    head, whole = runner("head", 235.0, invasive=2), runner("whole", 2.7, invasive=2, aside=True)
    assert [r.treatment.name for r in ranked((head, whole), (2.3, 2534.0))] == ["whole", "head"]
    # What gives no finite number on what is held out comes last.
    lost = runner("lost", math.inf, invasive=2)
    assert ranked((lost, head, whole), (2.3, 2534.0))[2] is lost
    # Nobody has learned: that values are changed and nothing else is no merit yet.
    completes = runner("completes", 0.093, invasive=4, completes=True)
    values = runner("values", 0.1, invasive=2)
    assert ranked((values, completes), (0.09, 467.0))[0] is completes
    # That all outputs moved together is no merit either, beside what a change cannot do without.
    shifted, leaky = runner("shifted", 16.8), runner("leaky", 24.0, completes=True, invasive=4)
    assert ranked((shifted, leaky), (16.0, 25.0))[0] is leaky
    assert ranked((shifted, leaky), (25.0,))[0] is shifted
    # What is below a constant answer counts from there, and as it is.
    learned = runner("learned", 1.0, invasive=2, aside=True)
    assert ranked((runner("own", 1.2, invasive=2), learned), (2.3, 2534.0))[1] is learned


def test_data_that_are_the_first_cause_are_mended_before_a_norm_that_bears_them() -> None:
    norm = runner("norm", 0.5, invasive=6, families=("normalization",))
    data = runner("data", 1.8, invasive=1, families=("preprocessing",))
    assert order(norm, data) == ["data", "norm"]
    assert order(norm, runner("data", 1.9, invasive=1, families=("preprocessing",)))[0] == "norm"
    later = runner("later", 1.8, invasive=1, families=("preprocessing",), cause=1)
    assert order(norm, later)[0] == "norm"
    both = runner("both", 0.4, invasive=6, families=("preprocessing", "normalization"))
    assert order(norm, data, both) == ["both", "data", "norm"]  # that is a second trouble
    same = runner("both", 1.75, invasive=6, families=("preprocessing", "normalization"))
    assert order(same, norm, data) == ["data", "both", "norm"]


def test_initializations_that_gain_about_the_same_stay_in_the_order_of_the_plan() -> None:
    def drawn(name: str, score: float) -> Runner:
        return runner(name, score, invasive=2, families=("init",))

    # A twentieth of a gain of 1.3 is the luck of a draw.
    assert order(drawn("plain", 1.0), drawn("other", 0.95)) == ["plain", "other"]
    assert order(drawn("plain", 1.0), drawn("other", 0.9)) == ["other", "plain"]
    three = drawn("plain", 1.0), drawn("other", 0.95), drawn("best", 0.92)
    assert order(*three) == ["other", "best", "plain"]
    # What draws nothing begins with the same weights.
    assert order(runner("rate", 1.0), runner("other", 0.95)) == ["other", "rate"]


def test_a_wrong_loss_is_mended_though_other_changes_learn_faster_on_top_of_it() -> None:
    norm = runner("norm", 0.5, invasive=6, families=("normalization",))
    gain = runner("gain", 1.8, invasive=2, families=("init",))
    loss = runner("loss", 2.29, invasive=1, families=("loss",), pressing=True)
    assert order(norm, gain, loss) == ["loss", "norm", "gain"]
    assert order(norm, runner("loss", 2.31, invasive=1, families=("loss",), pressing=True)) == [
        "norm",
        "loss",
    ]
    both = runner("both", 0.4, invasive=6, families=("loss", "normalization"))
    assert order(norm, loss, both)[0] == "both"  # that is a second trouble
    second = runner("loss", 2.29, invasive=1, families=("loss",), pressing=True, cause=1)
    assert order(norm, second)[0] == "norm"


def test_together_with_what_helps_aside_a_change_is_aside() -> None:
    own, other = Treatment(cause=1), Treatment(cause=0, aside=True)
    assert own.then(other).aside
    assert not own.then(Treatment()).aside


def test_an_optimizer_is_given_the_parameters_before_another_one_takes_its_place() -> None:
    plan = Plan("optimizer-coverage", "all are trained", "")
    cover = runner("cover", 2.1, plans=(plan,), families=("optimizer",), pressing=True)
    adam = runner("adam", 1.0, families=("optimizer",), pressing=True)
    assert order(adam, cover) == ["cover", "adam"]
    second = runner("cover", 2.1, plans=(plan,), families=("optimizer",), pressing=True, cause=1)
    assert order(adam, second)[0] == "adam"


def test_an_activation_behind_the_logits_is_taken_away_before_what_learns_beside_it() -> None:
    plan = Plan("output-activation", "none stands before the loss", "")
    opened = runner("open", 2.2, plans=(plan,), families=("activation",), invasive=4, pressing=True)
    scaled = runner("scaled", 1.0, families=("init",), invasive=2, pressing=True)
    assert order(scaled, opened) == ["open", "scaled"]
    # Outputs that were all zero are random at first, which costs something.
    dear = runner("open", 2.9, plans=(plan,), families=("activation",), invasive=4, pressing=True)
    assert order(scaled, dear) == ["open", "scaled"]
    lost = runner("open", math.inf, plans=(plan,), families=("activation",), pressing=True)
    assert order(scaled, lost)[0] == "scaled"
    mild = runner("open", 2.2, plans=(plan,), families=("activation",), invasive=4)
    assert order(scaled, mild)[0] == "scaled"  # no error: both may stand


def test_a_loss_that_is_wrong_is_mended_as_soon_as_that_is_sure() -> None:
    assert by_definition(Treatment(families=("loss",), pressing=True))
    assert not by_definition(Treatment(families=("loss",)))
    assert not by_definition(Treatment(families=("loss",), pressing=True, cause=1))
    assert not by_definition(Treatment(families=("init",), pressing=True))


def test_parameters_that_no_optimizer_holds_are_handed_to_it_as_soon_as_that_helps() -> None:
    plans = (Plan("optimizer-coverage", ""),)
    assert by_definition(Treatment(families=("optimizer",), pressing=True, plans=plans))
    assert not by_definition(Treatment(families=("optimizer",), plans=plans))


def test_a_format_in_which_updates_round_to_nothing_is_changed_as_soon_as_that_is_sure() -> None:
    def one(*remedies: str, cause: int = 0) -> Treatment:
        plans = tuple(Plan(remedy, "") for remedy in remedies)
        return Treatment(families=("optimizer",), cause=cause, plans=plans)

    assert by_definition(one("optimizer-precision"))
    assert not by_definition(one("optimizer-precision", cause=1))
    assert not by_definition(one("optimizer-lr"))
    assert not by_definition(one("optimizer-precision", "init-critical"))

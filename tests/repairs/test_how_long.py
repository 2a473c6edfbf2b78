"""How long the runs of a proof are, and how many changes are put to it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from isograd.remedies import FAMILIES
from isograd.repairs.attempting import Attempt
from isograd.repairs.budget import Budget
from isograd.repairs.comparing import Comparison
from isograd.repairs.proving import shape
from isograd.repairs.result import Trial
from isograd.repairs.treatments import Treatment


def proved(
    left: int, *, better: bool, kinds: str, shows: int = 0, late: int = 0
) -> tuple[list[str], int, str]:
    """Names that were put to the proof, the length of its runs, and the one that was kept.

    Args:
        left: steps of the budget.
        better: whether the last of the changes passes.
        kinds: of the changes, `v` of values, `a` of the architecture, `l` of a loss: a0, v1, …
        shows: steps after which the first had gained in the race.
        late: steps over which what was found adds up.
    """
    changes = [
        Treatment(
            labels=(f"{kind}{i}",),
            families=("loss",) if kind == "l" else (),
            pressing=kind == "l",
            invasive=FAMILIES.index("residual" if kind == "a" else "init"),
        )
        for i, kind in enumerate(kinds)
    ]
    budget, asked, lengths = Budget(left), list[str](), set[int]()

    def prove(_: Any, change: Treatment, *, steps: int, **rest: Any) -> Any:
        passes = better and change is changes[-1]
        rest["spend"](3 * steps * (1 if asked else 2))
        asked.append(change.name)
        lengths.add(steps)
        trial = Trial(change.name, (), (), ())
        after = (1.0, 1.1, 1.0) if passes else (2.3, 2.2, 2.3)
        return trial, trial, Comparison((2.3, 2.2, 2.3), after)

    case = SimpleNamespace(model=nn.Linear(1, 1))
    over = SimpleNamespace(
        budget=budget,
        _shown=True,
        _shows=shows,
        seed=0,
        _edge=[],
        _starts=(2.3,),
        dropped={},
        _series=lambda one: one,
        case=case,
        start=case,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("isograd.repairs.attempting.prove", prove)
        kept = Attempt.prove(cast(Attempt, over), changes, late=late)
    assert budget.left >= 0
    return asked, lengths.pop(), kept.change.name


def test_where_the_first_fails_the_next_is_proved() -> None:
    assert proved(156, better=True, kinds="va") == (["v0", "a1"], 15, "a1")
    assert proved(156, better=True, kinds="vv") == (["v0", "v1"], 15, "v1")
    assert proved(156, better=False, kinds="vvav") == (["v0", "a2"], 15, "v0")
    assert proved(45, better=False, kinds="va")[:2] == (["v0"], 7)  # no room for two
    assert proved(156, better=True, kinds="v") == (["v0"], 19, "v0")


def test_what_is_wrong_by_definition_alone_is_proved_and_for_long() -> None:
    assert proved(156, better=False, kinds="lva") == (["l0"], 26, "l0")


def test_a_proof_is_as_long_as_the_race_took_to_show_something() -> None:
    assert proved(156, better=True, kinds="va", shows=12)[1] == 15
    assert proved(156, better=True, kinds="v", shows=24) == (["v0"], 24, "v0")
    assert proved(156, better=True, kinds="v", shows=48)[1] == 26  # three seeds are needed


def test_what_adds_up_over_steps_takes_runs_as_long_as_three_seeds_allow() -> None:
    assert proved(156, better=True, kinds="v", late=10) == (["v0"], 19, "v0")
    assert proved(156, better=True, kinds="v", late=24)[1] == 24
    assert proved(156, better=True, kinds="va", late=100, shows=12) == (["v0"], 26, "v0")


@pytest.mark.parametrize(
    ("left", "alone", "shown", "runs"),
    [
        (228, False, True, (5, 22)),
        (72, False, True, (5, 7)),
        (40, False, True, (3, 6)),  # five would have four steps each
        (60, True, True, (4, 7)),
        (60, True, False, (3, 10)),  # nobody has gained yet: longer runs before more seeds
        (100, True, False, (3, 16)),
        (228, True, True, (5, 22)),
    ],
)
def test_seeds_of_a_proof_and_steps_of_its_runs(
    left: int, alone: bool, shown: bool, runs: tuple[int, int]
) -> None:
    assert shape(left, alone=alone, shown=shown, long=0) == runs
    assert 2 * runs[0] * runs[1] <= left

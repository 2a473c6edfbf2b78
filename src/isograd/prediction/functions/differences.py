"""Differences of two outputs of one layer: W x - W y is W (x - y), and so are its gradients.

As a sum of two branches it knows their covariance. But a gradient that holds W (x - y) itself, as
that of a distance does, goes back along x - y, and what both branches give the weights mostly
cancels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isograd.prediction.backward.holding import APART, HELD, Held
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.responses import WEIGHTED
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call
    from isograd.prediction.steps import Step

_LETTERS = "abcdefghijklmnopqrstuvw"


def of_difference(call: Call, a: Field, b: Field) -> Outcome | None:
    """A - b as the same layer of the difference of what went in; None for anything else."""
    one, two = (_linear(call.run.twins.made.get(id(f))) for f in (a, b))
    if one is None or two is None or a.shape != b.shape or a is b:
        return None
    if one.inputs[1] is not two.inputs[1] or one.inputs[0].shape != two.inputs[0].shape:
        return None
    from isograd.prediction.moments.sums import added
    from isograd.prediction.ops.linear import product

    run = call.run
    first, last = one.inputs[0], two.inputs[0]
    apart = added(call, first, last, -1.0)
    split, others = apart.back, {id(x): y for x, y in ((first, last), (last, first))}
    assert split is not None
    apart.back = lambda g: [
        (x, _at_one(one, g, others[id(x)]) if id(x) in others else one) for x, one in split(g)
    ]
    run.record("sub", "", apart)
    lead = _LETTERS[: len(a.groups) - 1]
    done = product(call, apart.out, lead + "y", one.inputs[1], "zy", lead + "z")
    del done.out.notes[WEIGHTED]  # what its gradient holds of it is followed as that of others
    done.out.notes[APART] = True

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert done.back is not None
        for where in (a, b):
            run.arrive(where, gradient, passed_on=True)
        return list(done.back(gradient))

    return Outcome(done.out, back, done.inputs, formula="W (x - y)", link=done.link)


def _at_one(gradient: Field, of: Field, other: Field) -> Field:
    """The gradient of x - y at one of both, which holds the other one, less its own.

    Args:
        gradient: at x.
        of: at x - y.
        other: y.
    """
    result = gradient.like(gradient.second)
    result.noise, result.common, result.notes = gradient.noise, gradient.common, {}
    if HELD in of.notes:
        result.notes[HELD] = Held(of.notes[HELD].share, other, 1.0)
    return result


def _linear(step: Step | None) -> Step | None:
    """A step that is a layer of weights, as `torch.nn.Linear` is."""
    if step is None or step.name != "linear" or not isinstance(step.link, Link):
        return None
    return step if "draw" in step.inputs[1].notes else None

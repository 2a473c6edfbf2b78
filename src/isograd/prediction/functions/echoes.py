"""Echoes: what a matrix gives back of an input that it has read, W' f(W x) of a tied autoencoder.

Of outputs y = W' f(u), u = W x + b, of independent weights of variance v, n units: E f(u) W is
v E f' x, so that y = n v E f' x and a random rest, whose energy is that of independent matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isograd.prediction.functions.proportions import FACTORS
from isograd.prediction.given import GIVEN
from isograd.prediction.moments.sums import summed

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Call

ECHO = "echo"
"""Note of an output: (what it holds, how many times)."""
_FAR = 40
_UNSURE = 0.6
"""Both ends of the matrix hold what it has read: weight gradients come out up to half too low."""


def echoed(call: Call, out: Field) -> Field:
    """The output of a product, and what its weights give back of what they have read before.

    Args:
        call: under way.
        out: as if its factors were independent.
    """
    plain = call.run.twins.plain
    here = _weights_of(call, out)
    if here is None or here[1] not in call.run.twins.draws:
        return out
    z, draw, axis, weight, units = here
    share = units * (weight.energy - weight.average**2)
    for _ in range(_FAR):
        if z.nodes is not None and z.origin is not None:
            share, z = share * z.nodes.mean_slope(), z.origin
            continue
        before = _weights_of(call, z)
        if before is not None and before[1] == draw and before[2] != axis:
            x = before[0]
            break
        if ECHO not in z.notes:
            return out
        z, more = z.notes[ECHO]
        share *= more
    else:
        return out
    if x.shape != out.shape or plain(x) is plain(out):
        return out
    found = summed(out, x.scaled(share), 1.0)
    found.noise, found.condition = out.noise, out.condition
    found.notes.update(out.notes)
    found.notes[ECHO] = x, share
    return found


def share_of(out: Field, values: Tensor) -> float:
    """How many times an output holds an input of these values."""
    x, share = out.notes.get(ECHO, (None, 0.0))
    given = None if x is None else x.notes.get(GIVEN)
    if given is None or given.shape != values.shape:
        return 0.0
    with torch._C.DisableTorchFunction():
        return float(share) if bool((given == values).all()) else 0.0


def doubt(out: Field) -> float:
    """Variance of ln energy of gradients in front of an output: it is in them as well.

    Args:
        out: of a product, before its bias.
    """
    x, share = out.notes.get(ECHO, (None, 0.0))
    if x is None or out.energy <= 0:
        return 0.0
    return float(_UNSURE * min(share * share * x.energy / out.energy, 1.0))


def _weights_of(call: Call, out: Field) -> tuple[Field, int, int, Field, int] | None:
    """What weights of two axes read along its last one: (it, their draw, axis, weights, inputs)."""
    x, of_x, y, of_y, of_out = out.notes.get(FACTORS, (None, "", None, "", ""))
    if x is None or y is None:
        return None
    plain = call.run.twins.plain
    for read, labels, weight, of_weight in ((x, of_x, y, of_y), (y, of_y, x, of_x)):
        source, over = plain(weight), labels[-1:]
        draw = source.notes.get("draw")
        if draw is None or len(weight.shape) != 2 or len(source.shape) != 2:
            continue
        if over in of_weight and labels[:-1] == of_out[:-1] and "draw" not in plain(read).notes:
            axis = of_weight.index(over)
            units = weight.shape[axis]
            return read, draw, axis if source is weight else 1 - axis, weight, units
    return None

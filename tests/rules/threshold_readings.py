"""Readings beyond `sick` and `well` in which further thresholds of a rule decide."""

from dataclasses import replace

from isograd.records import Reading
from isograd.rules._examples import chain, with_history
from isograd.rules.initial_loss import _loss
from isograd.rules.inputs import _batch
from isograd.rules.norm_placement import post_norm
from isograd.rules.plateau import _rehearsed as plateau
from isograd.rules.recurrence import recurrent
from isograd.rules.running_statistics import _rehearsed as norms
from isograd.rules.targets import _regression

__all__ = ["FURTHER"]


def _fp32() -> Reading:
    return Reading(chain(3, series={"backward.share_fp16_underflow": 0.2}))


def _collapsed() -> Reading:
    facts = {"output.rms": 1.0, "batch.size": 16.0}
    first = post_norm(24, **facts, **{"output.spread": 0.5})
    last = replace(post_norm(24, **facts, **{"output.spread": 1e-6}), step=60)
    return with_history(first, last, losses=[2.4, 2.3])


FURTHER: dict[str, tuple[Reading, ...]] = {}

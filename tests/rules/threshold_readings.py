"""Readings beyond `sick` and `well` in which further thresholds of a rule decide."""

import math
from collections.abc import Sequence
from dataclasses import replace

from signal_readings import SIGNAL

from isograd.records import Reading, Record
from isograd.rules._examples import chain, over_steps, run, with_history
from isograd.rules.beside_prediction import _aligned as parallel
from isograd.rules.beside_prediction import _example as beside
from isograd.rules.initial_loss import _loss
from isograd.rules.input_shift import over_inputs
from isograd.rules.inputs import _batch
from isograd.rules.loss_pairing import _binary
from isograd.rules.norm_placement import post_norm
from isograd.rules.plateau import _rehearsed as plateau
from isograd.rules.recurrence import recurrent
from isograd.rules.running_statistics import _rehearsed as norms

__all__ = ["FURTHER"]

FLAT = [2.303 + 0.004 * (-1) ** k for k in range(120)]


def broken_weights(*, losses: list[float]) -> Reading:
    """A weight is NaN at the second look."""
    event = {"op": "linear", "module": "layers.1", "site": 2, "count": 5}
    event["inputs"] = [{"min": -1.0, "max": 3.0, "nonfinite": 9}]
    later = chain(3, facts={"event.forward": event, "loss.value": math.nan}, step=12)
    return with_history(chain(3), later, losses=losses)


def overflow(*, dtype: str, peak: float) -> Reading:
    """A product of large numbers at the first look."""
    event = {"op": "linear", "module": "layers.1", "site": 2, "count": 5}
    event["inputs"] = [{"min": -1.0, "max": peak, "nonfinite": 0}]
    facts = {"event.forward": event, "loss.value": math.inf, "model.dtype": dtype}
    return Reading(chain(3, series={"weight.gain": 3.0, "weight.gain_fit": 1.0}, facts=facts))


def log_of_weights() -> Reading:
    """An ordinary number, but far beyond what the first look had."""
    event = {"op": "exp", "module": "layers.1", "site": 2, "count": 5}
    event["inputs"] = [{"min": -1.0, "max": 1e6, "nonfinite": 0}]
    first = chain(3, series={"forward.max": 4.0, "forward.min": -5.0})
    later = chain(3, facts={"event.forward": event, "loss.value": math.nan}, step=12)
    return with_history(first, later, losses=[2.3, 2.4, math.nan])


def collapsed() -> Reading:
    """Post-norm of usual depth whose outputs become constant."""
    facts = {"output.rms": 1.0, "batch.size": 16.0}
    first = post_norm(24, **facts, **{"output.spread": 0.5})
    last = replace(post_norm(24, **facts, **{"output.spread": 1e-6}), step=60)
    return with_history(first, last, losses=[2.4, 2.3])


def stuck(update: float, losses: Sequence[float] = FLAT) -> Reading:
    """Twelve post-norm encoder layers that do not learn, with first updates of this size."""
    facts = {"loss.kind": "cross_entropy", "loss.chance": 2.303}
    first = replace(post_norm(24), facts=facts, parameters=chain(3).parameters)
    series = {"weight.update_ratio": (update,) * len(first.parameters)}
    return with_history(
        replace(first, series=series), replace(first, step=len(losses)), losses=losses
    )


def plain_stack() -> Reading:
    """Sixty batch norms without a skip."""
    names = chain(60, kind="linear", activation="batch_norm")
    sizes = tuple(1e-4 * 1.2 ** (60 - site.depth) for site in names.sites)
    return Reading(replace(names, series={"backward.rms": sizes}))


def forgetful() -> Reading:
    """A plain recurrent network over 112 steps that does not learn."""
    first = recurrent(growth=0.0, decay=-0.3, steps=112)
    return with_history(first, replace(first, step=120), losses=FLAT)


def unabsorbed(level: float, value: float = 80.0, steps: int = 25) -> Reading:
    """A loss that starts high with an optimizer that could absorb it, and stays there."""
    facts = {"loss.value": value, "loss.kind": "cross_entropy", "loss.chance": math.log(10)}
    first = chain(3, facts={**facts, "optimizer.adaptive": True})
    return with_history(first, replace(first, step=steps), losses=[level] * steps)


def large_head(out: float) -> Reading:
    """A norm before the last layer, which makes outputs of this rms of what it is given."""
    facts = {"loss.value": 60.0, "loss.kind": "cross_entropy", "loss.chance": math.log(10)}
    look = chain(2, activation="layer_norm", series={"forward.rms": (1.0, out)}, facts=facts)
    return Reading(look)


def narrow_logits(classes: int) -> Reading:
    """Cross-entropy of logits that are cosines."""
    facts = {"loss.kind": "cross_entropy", "target.classes": classes, "output.cosines": True}
    return Reading(chain(3, facts={**facts, "output.min": -0.4, "output.max": 0.5}))


def squared_sigmoids(steps: int, *, level: float) -> Reading:
    """A squared error of sigmoids on labels, whose constant answer has 0.09, and its rehearsal."""
    facts = {"loss.kind": "mse", "loss.input_site": 3, "loss.chance": 0.09, "target.kind": "class"}
    first = chain(3, activation="sigmoid", facts=facts)
    return with_history(first, replace(first, step=steps), losses=[level] * steps)


def flat_sigmoids(flat: float) -> Reading:
    """The same at the start, a share of whose outputs is flat."""
    series = {"forward.saturated": flat}
    facts = {"loss.kind": "mse", "loss.input_site": 3, "loss.chance": 0.09, "target.kind": "class"}
    return Reading(chain(3, activation="sigmoid", series=series, facts=facts))


def thrown(update: float, second: float, first_step: float = 10.0) -> Reading:
    """The rehearsal of an optimizer whose first step is larger than those that follow."""
    facts = {
        "optimizer.adaptive": True,
        "optimizer.first_step": first_step,
        "loss.kind": "cross_entropy",
        "loss.chance": math.log(10),
    }
    look = chain(4, series={"weight.update_ratio": update, "weight.rms": 0.1}, facts=facts)
    losses = [2.3, second, *(2.0 * 0.95**k for k in range(30))]
    return with_history(look, replace(look, step=32), losses=losses)


def normed_targets(mean: float, out: float = 1.0) -> Reading:
    """Targets beside outputs that come from a norm."""
    facts = {
        "target.kind": "real",
        "target.mean": mean,
        "target.std": 1.0,
        "output.rms": out,
        "loss.kind": "mse",
        "loss.input_site": 3,
    }
    return Reading(chain(3, activation="batch_norm", facts=facts))


def unrolled(*, growth: float) -> Reading:
    """One layer called twelve times."""
    look = chain(12, activation=None)
    sites = tuple(
        replace(site, name="cell" if k == 0 else f"cell#{k + 1}")
        for k, site in enumerate(look.sites)
    )
    sizes = tuple(growth**k for k in range(12))
    return Reading(replace(look, sites=sites, series={"forward.rms": sizes}))


def batch(**facts: float) -> Reading:
    """A standardized batch with other facts."""
    look = _batch(0.0, 1.0, -3.0, 3.0).seen
    changed = {f"batch.{key}": value for key, value in facts.items()}
    return Reading(replace(look, facts={**look.facts, **changed}))


def targets(**facts: object) -> Reading:
    """Facts about targets."""
    changed = {f"target.{key}": value for key, value in facts.items()}
    return Reading(chain(2, facts={**changed, "batch.size": 64}))


def leap() -> Reading:
    """Updates a hundred times those of the looks before, and a loss that rises with them."""
    losses = [2.3 * 0.97**k for k in range(60)] + [2.2] * 40
    facts = {"loss.kind": "cross_entropy", "loss.chance": math.log(10)}
    column = [1e-3] * 7 + [9e-2] * 3
    return over_steps({"weight.update_ratio": column}, losses, facts=facts)


def standing_still() -> Reading:
    """Updates of nothing, and a loss that has not moved."""
    facts = {"loss.kind": "cross_entropy", "loss.chance": math.log(10)}
    return over_steps({"weight.update_ratio": [1e-6] * 10}, [2.303] * 100, facts=facts)


def adversarial() -> Reading:
    """A loss of unknown chance level that rises tenfold."""
    return run(chain(3), chain(3, step=60), losses=[0.7 * 1.05**k for k in range(60)])


GETS_WORSE = [2.3 * 0.97**k for k in range(60)] + [1.9] * 40


def dying(share: float, start: float) -> Reading:
    """A layer that was half off at the start, and is nearly gone, while the loss falls."""
    dead = [start] * 5 + [share] * 5
    return over_steps({"forward.dead": dead}, [2.3 * 0.97**k for k in range(100)])


def behind_norms() -> Reading:
    """Large steps of weights whose size a norm takes away again."""
    series = {"weight.update_ratio": 0.3, "weight.rms": 0.1, "weight.gain": 1.0}
    facts = {"optimizer.lr": 0.1, "optimizer.momentum": 0.0, "optimizer.adaptive": False}
    return Reading(chain(4, activation="batch_norm", series=series, facts=facts))


def improper(off: float) -> Reading:
    """A likelihood of numbers that nearly are probabilities."""
    ops = ["softmax", "add", "log", "nll_loss"]
    facts = {"loss.kind": "nll", "loss.input_ops": ops, "loss.improper": off}
    return Reading(chain(3, facts=facts))


def dropped_outputs() -> Reading:
    """Dropout behind the last weight layer."""
    facts = {"model.dropout": [0.3], "model.dropout_at": ["drop"], "loss.input_site": 3}
    record = chain(2, facts=facts)
    drop = replace(record.sites[-1], name="drop", kind="dropout", inputs=(2,), parameters=())
    return Reading(replace(record, sites=(*record.sites, drop)))


def dropped() -> Reading:
    """Three dropouts in a row over 32 units."""
    look = chain(6)
    sites = [
        replace(site, name=f"drop.{k}", kind="dropout", label="Dropout") if k % 2 else site
        for k, site in enumerate(replace(x, shape=(16, 32)) for x in look.sites[:6])
    ]
    names = ["drop.1", "drop.3", "drop.5"]
    facts = {"model.dropout": [0.8] * 3, "model.dropout_at": names}
    return Reading(Record(tuple(sites), facts=facts))


def narrow() -> Reading:
    """A bottleneck of three directions at the start."""
    columns = {"forward.rank": [3.0] * 5 + [1.1] * 5, "forward.units": [6.0] * 10}
    return over_steps(columns, GETS_WORSE, facts={"output.shape": [16, 10]})


def swelling(growth: float, late: float) -> Reading:
    """Weights that grow, and a loss that is at its best."""
    sizes = [0.1 * growth**k for k in range(5)]
    sizes += [sizes[-1] * late**k for k in range(1, 6)]
    return over_steps({"weight.rms": sizes}, [2.3 * 0.97**k for k in range(100)])


def late_layer() -> Reading:
    """A layer whose gradient is far below the others from the start, and falls a little."""
    column = [[1e-3, 1e-6, 1e-3]] * 6 + [[1e-3, 3e-7, 1e-3]] * 4
    return over_steps({"weight.grad_rms": column, "weight.rms": [0.1] * 10}, GETS_WORSE, depth=3)


def falling_scale() -> Reading:
    """A scale that has fallen to 1 with few steps left out lately."""
    looks = [
        chain(
            3, facts={"watch.scale": 8.0 / 2 ** min(k, 3), "watch.skipped": min(k, 3)}, step=4 * k
        )
        for k in range(7)
    ]
    return run(*looks, losses=[2.3] * 28)


def wandering() -> Reading:
    """A loss of unknown chance level that rises by a third."""
    losses = [0.7 + 0.01 * (-1) ** k for k in range(150)] + [
        0.95 + 0.01 * (-1) ** k for k in range(60)
    ]
    return run(chain(3), chain(3, step=210), losses=losses)


def slow_to_heal() -> Reading:
    """A spike of which half is left."""
    losses = [0.6 + 1.7 * 0.95**k + 0.01 * (-1) ** k for k in range(200)]
    losses += [2.2 - 0.018 * k for k in range(60)]
    return run(chain(3), chain(3, step=260), losses=losses)


def only_ones() -> Reading:
    """Targets that are all ones, and a loss that halves."""
    ones = {"loss.kind": "bce_logits", "target.kind": "binary", "target.distinct": 1}
    looks = [chain(3, facts={**ones, "batch.size": 64}, step=step) for step in (0, 100)]
    return run(*looks, losses=[0.7 * 0.99**k for k in range(100)])


def two_overflows() -> Reading:
    """A product overflows at two looks in a row of a run with a GradScaler."""
    event = {"op": "linear", "module": "layers.1", "site": 2, "count": 5}
    event["inputs"] = [{"min": -1.0, "max": 6e3, "nonfinite": 0}]
    broken = {"event.forward": event, "loss.value": math.nan, "watch.scale": 1024.0}
    looks = [chain(3, facts=facts, step=k) for k, facts in enumerate(({}, broken, broken))]
    return run(*looks, losses=[2.3, math.nan, math.nan])


FURTHER: dict[str, tuple[Reading, ...]] = {
    **SIGNAL,
    "IG401": (
        overflow(dtype="float32", peak=1e25),
        log_of_weights(),
        broken_weights(losses=[2.3, 2.4, math.nan]),
        two_overflows(),
    ),
    "IG208": (dying(0.95, 0.5),),
    "IG210": (narrow(),),
    "IG211": (dropped(), dropped_outputs()),
    "IG307": (swelling(3.0, 1.3), swelling(1.3, 1.5)),
    "IG308": (late_layer(),),
    "IG403": (falling_scale(),),
    "IG610": (wandering(), slow_to_heal()),
    "IG611": (
        over_inputs([(0.0, 1.0)] * 5 + [(0.3, 0.3)] * 4, worse=False),
        over_inputs([(0.0, 1.0)] * 5 + [(3.0, 1.0)] * 4),
        over_inputs([(0.0, 5.0)] * 2 + [(0.0, 1.0)] * 9 + [(0.0, 4.0)] * 3),
    ),
    "IG304": (*SIGNAL["IG304"], leap(), standing_still(), behind_norms(), thrown(1.0, 3e4)),
    "IG402": (Reading(chain(3, series={"backward.share_fp16_underflow": 0.2})),),
    "IG502": (norms(momentum=0.1, gap=0.8), norms(momentum=0.02, gap=0.8)),
    "IG503": (collapsed(), stuck(0.03), plain_stack()),
    "IG504": (
        forgetful(),
        Reading(recurrent(growth=0.0, decay=-0.3, steps=112)),
        unrolled(growth=2.5),
    ),
    "IG601": (
        batch(mean=5.0, std=0.9),
        batch(rms=0.02, std=0.02),
        batch(feature_std_ratio=1e3, feature_offset=40.0),
        batch(feature_std_ratio=5.0, feature_offset=40.0),
    ),
    "IG602": (normed_targets(3.0),),
    "IG603": (
        _loss(40.0, kind="mse", chance=1.0),
        _loss(1.5, kind="cross_entropy", chance=math.log(10)),
        _loss(36.0, kind="cross_entropy", chance=math.log(10), **{"loss.summed": True}),
        unabsorbed(60.0),
        unabsorbed(3.0, 12.0, 80),
        large_head(11.0),
    ),
    "IG606": (
        narrow_logits(4),
        *(squared_sigmoids(n, level=0.1) for n in (20, 40)),
        flat_sigmoids(0.3),
    ),
    "IG609": (adversarial(),),
    "IG604": (
        plateau(FLAT, spread=0.5),
        plateau(FLAT * 3, spread=0.5),
        plateau(FLAT * 3, spread=0.5, update=2e-4),
        plateau([2.3 - 0.001 * k for k in range(120)], spread=0.5),
    ),
    "IG605": (
        improper(0.07),
        _binary(ops=["mul", "binary_cross_entropy"], width=2, high=3.0),
    ),
    "IG608": (
        only_ones(),
        targets(kind="class", min=3.0, max=3.0, distinct=1, mean=3.0, std=0.0),
        targets(kind="real", min=-0.5, max=1.0, distinct=9),
    ),
    "IG701": (
        beside(30.0, way="backward"),
        beside(30.0, at=7),
        beside(30.0, band=1.5),
        parallel(0.5),
    ),
}

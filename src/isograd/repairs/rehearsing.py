"""The look at a network after a trial, and trials that come before a diagnosis."""

from collections.abc import Callable
from dataclasses import replace

import torch

from isograd.diagnosis import diagnose
from isograd.findings import Diagnosis, Finding, Severity
from isograd.probe.borrowing import borrowed
from isograd.probe.facts import optimizer_facts
from isograd.probe.measuring import measure
from isograd.probe.stepping import Stepper
from isograd.records import Reading, Record
from isograd.remedies import REMEDIES, Case
from isograd.remedies._branches import branches, post_norm
from isograd.repairs.racing import Runner
from isograd.repairs.scoring import Judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment
from isograd.sites.batches import as_batch
from isograd.sites.chance import chance, uninformed
from isograd.sites.rates import bold_rate, usual_rate

SETTLED = 32
"""Steps after which running statistics of batch norms that are not stale by then will not be."""
STALE = 12
"""Steps after which stale ones show (IG502 asks for as many)."""
SLOW = 0.01
"""Momentum of a batch norm with which most of its initial statistics are left after so many; only
then is it worth looking, for the usual 0.1 leaves three percent."""
FIRST = 8
"""Steps of a training after which a healthy network mostly has begun to learn; if not, twice as
many, and so on."""
LONGEST_REHEARSAL = 100
"""Steps for which a network that looks healthy, but does not learn, is trained at most."""
LEARNED = 0.95
"""Part of the loss of a constant answer below which the loss of a batch is no luck, and more than
how often each class occurs."""
UNKNOWN = 0.1
"""Part of the first loss by which it has to fall where nobody knows that of a constant answer."""
ESCAPED = 3.0
"""Times its start at which a loss has run away."""
BETTER = 1.1
"""Times what was learned by which a calmer rate has to do better for an unusually high one to be at
fault: where both learn all there is, they differ by less than a tenth of it."""
FORGETFUL = 2.0
"""Steps that a recurrence remembers below which it is forgetful: torch's own initialization, which
passes on 3 ** -0.5, has 1.8 where nothing else helps."""
LONGER = 2.0
"""Times what was learned by which a longer memory has to do better for a forgetful recurrence to be
at fault: where a task needs none, the two learn alike, and seeds differ by half of it."""
COUNTED = 5
"""Samples for each class from which a batch tells how often the classes are."""
EDGE = 6
"""Steps after which a learning rate beyond the limit of stability has thrown a network off, if it
does."""
SUBLAYERS = 12
"""Post-norm sublayers, two per encoder layer, from which IG503 puts a collapse down to them."""
OFF_SCALE = 0.5
"""Part of the remaining error that a line through the outputs would take away: then what is left
to learn is mostly scale and offset of the targets."""
WRONG = 0.1
"""Share of the targets' variance below which the remaining error is no matter."""


def rehearsed(
    runner: Runner, case: Case, supply: Callable[[int], Supply], most: int, longest: int = 0
) -> tuple[Diagnosis, bool]:
    """Trains a copy of a network that looks healthy, until it learns or shows that it does not.

    A network that learns within a few steps is not looked at again, unless it is of those whose
    trouble comes late, or whose first step threw the loss up; where the learning rate is unusually
    high, it is trained to the end.

    Args:
        runner: trains the copy.
        case: the network, whose diagnosis found nothing serious.
        supply: what it is trained on for so many steps.
        most: steps after which one that has not learned is looked at.
        longest: steps after which that is done once more where nothing was found.

    Returns:
        What the rules say in the light of the training, and whether the network learned.

    Raises:
        ModelError: it raised on a batch of the data.
    """
    diagnosis, late = case.diagnosis, _late_trouble(case.diagnosis)
    settled = SETTLED if late == STALE else 0
    bold = bold_of(case) is not None
    steps, batches = late or min(FIRST, most), most
    while True:
        own = supply(steps if steps <= FIRST and not late else batches)
        runner.advance(own, steps - len(runner.losses))
        learned = runner.broke is None and _learned(runner, case)
        if learned and not (late or bold or settled or _thrown(runner)):
            return diagnosis, True
        shown = learned and not bold and steps >= settled
        last = shown or runner.broke is not None or steps >= most
        if late or last or _escaped(runner):
            diagnosis = looked_again(runner, case, diagnosis, runner.seed)
        if last and learned and bold and diagnosis.healthy:
            found = _beside_calmer(runner, case, own)
            diagnosis = replace(diagnosis, findings=(*found, *diagnosis.findings))
        if last and not learned and runner.broke is None and diagnosis.healthy and steps < longest:
            steps = most = longest
            continue
        if last or not diagnosis.healthy:
            return diagnosis, learned
        steps, late = min(max(2 * steps, settled), most), 0


def came_to(runner: Runner, case: Case, learned: bool) -> str:
    """`, and a copy learned in 8 steps`; or that none did, and what its loss came to.

    Args:
        runner: has trained the copy.
        case: the network.
        learned: whether it has learned.
    """
    steps = len(runner.losses)
    if learned:
        return f", and a copy learned in {steps} steps"
    last = runner.losses[-max(steps // 4, 1) :]
    first, classes = runner.losses[0], case.record.fact("target.classes") or 0
    # The labels of a few samples are less uneven than they look.
    many = (case.record.fact("target.count") or 0) >= COUNTED * classes
    blind = _guessing(case.record)
    blind = uninformed(case.record) if many and blind is not None else blind
    beside, now = f"it began with {first:.4g}", sum(last) / len(last)
    if blind is not None:
        by = " by the targets of one batch" if many else ""
        beside = f"guessing has {blind:.4g}{by}"
        if now < blind:  # the targets of other batches are others
            beside += "; one batch does not tell if that is less: there may be little to learn"
    remarked = "What is remarked about it is for you to try, and a longer training"
    more = remarked if case.findings else "A longer training may show why"
    return (
        f", but no copy learned in {steps} steps: its loss came to {now:.4g}, "
        f"where {beside}. "
        + ("More steps may show why (budget=)" if steps < LONGEST_REHEARSAL else more)
    )


def _beside_calmer(runner: Runner, case: Case, supply: Supply) -> list[Finding]:
    """The unusually high rate of a network that learns, where a usual one learns far more.

    Args:
        runner: has trained the network.
        case: the network.
        supply: what it was trained on.
    """
    rate, bold = case.record.fact("optimizer.lr") or 0.0, bold_of(case)
    if not bold:
        return []
    calm = Runner(Treatment(), Treatment().start(case, runner.seed), runner.seed)
    factor = usual_rate(case.record, post_norm=_post_norm(case)) / bold
    for group in calm.trainee.optimizer.param_groups:
        group["lr"] = factor * group["lr"]
    steps = len(runner.losses)
    calm.advance(supply, steps)
    own, other = (_learned_by(r.losses, chance(case.record)) for r in (runner, calm))
    if calm.broke is not None or other <= BETTER * own:
        return []
    message = (
        f"In {steps} steps at a learning rate of {rate:.3g} the loss comes to {own:.3g} less "
        f"than at the start, or than a constant answer; at {factor * rate:.3g} to {other:.3g} less."
    )
    advice = f"Lower the learning rate from {rate:.3g} to about {factor * rate:.3g}."
    return [Finding("IG304", Severity.WARNING, "lr-too-high", message, remedies=(advice,))]


def beside_longer_memory(
    runner: Runner, case: Case, supply: Callable[[int], Supply], steps: int, diagnosis: Diagnosis
) -> tuple[Diagnosis, int]:
    """Where long sequences are forgotten within two steps: whether a longer memory learns far more.

    The network may need no more than it remembers, and learns its last steps in any case; only a
    training tells.

    Args:
        runner: has trained the network.
        case: the network.
        supply: what it is trained on for so many steps.
        steps: of either training.
        diagnosis: what the rules say of it, nothing serious.

    Returns:
        With a warning where it does, and the steps that the longer memory was trained for.
    """
    short = [f for f in diagnosis.findings if f.evidence.get("memory", FORGETFUL) < FORGETFUL]
    if not short or not diagnosis.healthy:
        return diagnosis, 0
    plan = next(r for r in REMEDIES if r.code == "init-recurrent").plan(case)
    if isinstance(plan, str):
        return diagnosis, 0
    longer = Treatment((plan,))
    other, own = Runner(longer, longer.start(case, runner.seed), runner.seed), supply(steps)
    runner.advance(own, steps - len(runner.losses))
    if runner.broke is not None:
        return looked_again(runner, case, diagnosis, runner.seed), 0
    taken = other.advance(own, steps)
    blind, start = chance(case.record), runner.losses[0]
    less, more = (_learned_by(r.losses[:steps], blind) for r in (runner, other))
    if other.broke or more <= LONGER * max(less, (1 - LEARNED) * abs(start)):
        return diagnosis, taken
    told = (
        f" In {steps} steps the loss comes to {less:.3g} less than at the start, or than a "
        f"constant answer; with orthogonal recurrent weights to {more:.3g} less."
    )
    found = [
        replace(f, severity=Severity.WARNING, message=f.message + told) if f in short else f
        for f in diagnosis.findings
    ]
    return replace(diagnosis, findings=tuple(found)), taken


def _learned_by(losses: list[float], blind: float | None) -> float:
    """From the first loss, or that of a constant answer, to the mean over the last quarter."""
    last = losses[-max(len(losses) // 4, 1) :]
    start = losses[0] if blind is None else min(losses[0], blind)
    return start - sum(last) / len(last)


def bold_of(case: Case) -> float | None:
    """The learning rate, with what momentum adds up, if it is unusually high for the network."""
    return bold_rate(case.record, post_norm=_post_norm(case))


def _post_norm(case: Case) -> bool:
    """Whether it is a stack of so many post-norm sublayers that a high rate may break it late."""
    found = branches(case)
    return len(found) >= SUBLAYERS and post_norm(found)


def _thrown(runner: Runner) -> bool:
    """Whether the first step threw the loss up: what is learned then begins anew."""
    return max(runner.losses[1:2], default=0.0) > ESCAPED * abs(runner.losses[0])


def _guessing(record: Record) -> float | None:
    """The loss of a constant answer; None where a few numbers do not tell how far they spread."""
    few = (record.fact("target.count") or COUNTED) < COUNTED
    return None if few and not record.fact("target.classes") else chance(record)


def _escaped(runner: Runner) -> bool:
    return min(runner.losses[-3:]) > ESCAPED * abs(runner.losses[0])


def _learned(runner: Runner, case: Case) -> bool:
    """Whether the loss of the case's batch shows that its inputs are used by now."""
    start, blind = case.record.fact("loss.value"), _guessing(case.record)
    if not isinstance(start, float):
        return False
    now = runner.trainee
    own = Stepper(now.model, now.optimizer, case.loss, runner.seed, "trial")
    with borrowed(own.model), torch.no_grad():
        loss = float(own.forward(as_batch(case.batch)))
    if blind is None:
        return loss < start - UNKNOWN * abs(start)
    return loss < LEARNED * min(start, blind)


def _late_trouble(diagnosis: Diagnosis) -> int:
    """Steps after which a network that looks healthy may show what is wrong; 0: none is likely."""
    seen = diagnosis.reading.seen
    if _slow_norms(seen):
        return STALE
    return EDGE if any(f.cause == "lr-too-high" for f in diagnosis.findings) else 0


def looked_again(runner: Runner, case: Case, before: Diagnosis, seed: int) -> Diagnosis:
    """What the rules say of a network after the training of a trial.

    Args:
        runner: the trial.
        case: whose batch it is looked at.
        before: of the network that the trial started with.
        seed: of random probes.
    """
    seen, trainee = before.reading.seen, runner.trainee
    if seen.fact("optimizer.name") is None:  # none was handed in: it is that of the trials
        own = optimizer_facts(trainee.optimizer, trainee.model.named_parameters())
        seen = replace(seen, facts={**seen.facts, **own})
    facts = {k: v for k, v in seen.facts.items() if k.startswith("optimizer.")}
    facts["rehearsal.losses"] = list(runner.losses)
    step = len(runner.losses)
    if runner.broke is not None:
        facts["rehearsal.stopped"] = f"non-finite at step {step}"
    last = measure(trainee.model, case.batch, trainee.loss, seed=seed, step=step)
    return diagnose(Reading(seen, history=(replace(last, facts={**last.facts, **facts}),)))


def where_it_broke(runner: Runner, case: Case) -> Case:
    """With the batch that made a copy's weights NaN, if the network as it is breaks on it, too.

    There the operation is found, which a network whose weights are NaN no longer shows.
    """
    if runner.broke is None or runner.batch is None or not case.has("local-nan"):
        return case
    seen = measure(case.model, runner.batch, case.loss, seed=runner.seed)
    known = {k: v for k, v in case.record.facts.items() if k.startswith("optimizer.")}
    diagnosis = diagnose(replace(seen, facts={**seen.facts, **known}))
    found = replace(case, batch=runner.batch, diagnosis=diagnosis)
    return found if found.has("local-nan") else case


def off_scale(runner: Runner, judge: Judge) -> list[Finding]:
    """What hardly anything but scale and offset of the targets is missing to."""
    shares = None if runner.broke else judge.off_scale(runner.trainee.model)
    if shares is None:
        return []
    left, best = shares
    if left < WRONG or left - best < OFF_SCALE * left:
        return []
    message = (
        f"After {len(runner.losses)} steps {left:.2g} of the targets' variance is not explained, "
        f"of which a scale and an offset of the outputs would take {(left - best) / left:.0%}."
    )
    return [Finding("IG602", Severity.WARNING, "target-not-normalized", message)]


def _slow_norms(record: Record) -> bool:
    momentum, tracked = record.fact("norm.momentum"), record.fact("norm.tracked", 0)
    return momentum is not None and 0 < momentum < SLOW and tracked < SETTLED

"""repair(): diagnose, plan, try, prove, and keep the least invasive change that really helps."""

import functools
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from isograd.diagnosis import diagnose
from isograd.errors import DataError, InputError, ModelError, checked_seed
from isograd.findings import Diagnosis, Finding, Severity
from isograd.probe.borrowing import borrowed, generators_kept, left_alone, reseed_all
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.probe.stepping import scheduled
from isograd.remedies import FAMILIES, REMEDIES, Case
from isograd.remedies._code import together
from isograd.remedies._optimizers import optimizer_again
from isograd.repairs.attempting import Attempt
from isograd.repairs.budget import Budget, asked_for, steps_until
from isograd.repairs.planning import Candidates, candidates
from isograd.repairs.proving import FEWEST
from isograd.repairs.racing import Runner
from isograd.repairs.rehearsing import (
    FIRST,
    LONGEST_REHEARSAL,
    SETTLED,
    beside_longer_memory,
    bold_of,
    came_to,
    rehearsed,
    where_it_broke,
)
from isograd.repairs.result import Cost, Repair, Skipped
from isograd.repairs.scoring import MEASURES
from isograd.repairs.supply import Source, Supply, gather, varied
from isograd.repairs.treatments import Treatment, copied
from isograd.repairs.wording import (
    nothing_helped,
    outcome,
    to_do,
    unmended,
    unshown,
    untried,
    yours,
)
from isograd.sites import NORMS
from isograd.sites.batches import as_batch, beside, check_filled
from isograd.sites.parameters import hooked

DEFAULT_LR = 1e-3
"""Of Adam, with which trials train where no optimizer is handed in."""
MOST_BATCHES = 1000
"""Taken from the data where the budget is a time; with steps, no trial takes a quarter of them."""


@torch.inference_mode(False)  # whoever evaluates may ask: trials train all the same
@generators_kept()
def repair(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    *,
    optimizer: Any = None,
    data: Iterable[Any] | None = None,
    budget: int | str = 200,
    allow: Collection[str] = FAMILIES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Repair:
    """Finds the least invasive change that really makes a network train better, and proves it.

    Nothing is done to the model that is handed in: changes are made on copies. A healthy network
    is left alone, at the cost of a few training steps.

    Args:
        model: any module.
        batch: as in `check`.
        loss: as in `check`.
        optimizer: the model's optimizer, or a factory that takes parameters; Adam in the trials
            where it is left out.
        data: batches to train on, some of which are held out to judge by; the one batch where
            left out. An iterator loses the batches that are taken; generators of its own move on.
        budget: how many optimizer steps all trials may take together, or a time such as `"30s"`.
        allow: families of changes that may be used: init, activation, normalization, residual,
            preprocessing, optimizer, loss.
        seed: of everything drawn, the order of a loader that shuffles among it, unless that has a
            generator of its own; the generators of torch, numpy and Python are left as they were.
        progress: called with (steps done, steps) during the trials.

    Raises:
        InputError: an argument cannot be used; of an ill network, that it cannot be copied.
        DataError: a batch cannot be used: it is empty, without targets, not finite.
        ModelError: the model raised in training.
    """
    began = time.perf_counter()
    steps, seconds = asked_for(budget)
    seed = checked_seed(seed, "repair")
    reseed_all(seed)  # a loader that shuffles, and what augments, draw from these
    allow = _families(allow)
    if progress is not None and not callable(progress):
        raise InputError(f"repair: progress={progress!r}; give a function of (steps done, steps)")
    most = MOST_BATCHES if seconds else max(steps // 4, SETTLED)
    first = beside(batch, model)
    check_filled(as_batch(first))
    source = None if data is None else Source(data, model)
    batch = varied(first, source)
    diagnosis = _look(model, batch, loss, optimizer, seed)
    given = optimizer
    if given is None:
        optimizer = functools.partial(torch.optim.Adam, lr=DEFAULT_LR)
    start = case = Case(model, batch, diagnosis, loss, optimizer)
    longest = None if seconds else max(steps // 2, FIRST)
    notes, spent, tried, learned = list[str](), 0, "; nothing was trained", None
    left = list[str]()

    def supply(count: int) -> Supply:
        given = gather(source, batch, count, longest=longest)
        left[:] = [note for note in given.notes if note.startswith("data:")]
        return given

    if batch is not first:
        notes.append("batch: its targets are all equal; measured is another one of the data")
    able = _can_train(diagnosis) and any(p.requires_grad for p in model.parameters())
    if given is None and (able or not diagnosis.healthy):
        notes.append(f"optimizer: none was handed in; trials train with Adam, lr {DEFAULT_LR}")
    low = scheduled(handed) if (handed := _instance(given)) is not None else None
    if low:
        notes.append(low)
    if hooks := hooked(model)[:3]:
        notes.append(f"hooks of parameters ({', '.join(hooks)}): trials train copies without them")
    if diagnosis.healthy and able:
        looks = [min(n, LONGEST_REHEARSAL) for n in (most, max(steps // 2, most))]
        runner = None
        try:
            runner = Runner(Treatment(), Treatment().start(case, seed), seed)
            with borrowed(model), left_alone(loss), torch.enable_grad():
                diagnosis, learned = rehearsed(runner, case, supply, *looks)
                diagnosis, more = beside_longer_memory(runner, case, supply, looks[0], diagnosis)
        except (DataError, ModelError):
            raise
        except InputError as error:
            # What cannot be copied, or not be trained with Adam, may be healthy all the same.
            if runner is not None and given is not None:
                raise
            notes.append(f"rehearsal: left out ({error})")
        else:
            case = start = where_it_broke(runner, replace(case, diagnosis=diagnosis))
            diagnosis = case.diagnosis
            if case.has("norm-mode"):  # from there it shows soonest
                now = runner.trainee
                start = replace(case, model=now.model, optimizer=now.optimizer)
            own = len(runner.losses)
            spent = own + more
            tried = came_to(runner, case, learned)
            held = low and diagnosis.reading.seen.fact("optimizer.lr_planned")
            if not learned and held and diagnosis.healthy:
                learned, tried = None, f"; {own} steps at the rate of now, too low to learn much at"
            bold = bold_of(case)
            if own > FIRST and bold and learned and diagnosis.healthy:
                notes.append(
                    f"optimizer: the learning rate, {bold:.3g} with what momentum adds up, is "
                    f"unusually high: what learns for {own} steps may break later; watch it"
                )
    same = Repair("healthy", "", model, loss, handed, diagnosis, notes=(*notes, *left))
    if diagnosis.healthy and learned is None and _all_scripted(diagnosis):
        reason = (
            "Nothing was looked at, and nothing was trained: all of it is compiled by torch.jit. "
            "Repair the model before it is scripted or traced."
        )
        return _closed(replace(same, verdict="no-remedy", reason=reason), spent, began, steps)
    if diagnosis.healthy:
        reason = f"No finding asks for a change{tried}."
        return _closed(replace(same, reason=reason, learned=learned), spent, began, steps)
    _check_can_train(diagnosis)
    supplied = supply(most)
    notes += supplied.notes
    case = replace(case, data=supplied.items or None)
    if start.model is model or not supplied.apart:
        start = case
    same = replace(same, notes=tuple(notes))
    with borrowed(model), left_alone(loss), torch.enable_grad():
        found = candidates(case, allow)
        same = replace(same, skipped=found.skipped)
        if not found.treatments:
            nothing = replace(same, verdict="no-remedy", reason=untried(found))
            return _closed(nothing, spent, began, steps)
        # Steps that all trials go on from are theirs.
        ahead = spent if start.model is not case.model else 0
        spending = Budget(steps, spent=ahead, progress=progress)
        if seconds is not None:
            spending.until = began + seconds
            pace = Runner(Treatment(), Treatment().start(start, seed), seed)
            spending.steps = steps_until(spending.until, pace, supplied)
        attempt = Attempt(case, start, supplied, found, allow=allow, budget=spending, seed=seed)
        done = _tried(attempt, found, same, late=max(spent, _added_up(case)))
    return _closed(done, spent, began, steps, trials=spending.spent - ahead)


def _tried(attempt: Attempt, found: Candidates, same: Repair, *, late: int) -> Repair:
    """What comes of the trials.

    Args:
        attempt: ready to begin.
        found: what could be tried.
        same: the outcome so far.
        late: steps of training after which what is wrong shows.
    """
    changes = attempt.find()
    if not changes:
        copied(attempt.case)  # raises where that is why
        alone = Runner(Treatment(), Treatment().start(attempt.case, attempt.seed), attempt.seed)
        alone.advance(attempt.supply, FIRST)  # likewise
        why = next(iter(attempt.dropped.values()), "")
        reason = f"Every change that was tried broke in training, the first so: {why}."
        return replace(
            same,
            verdict="nothing-helps",
            reason=f"{reason} {unmended(attempt, found) or to_do(attempt, late, 0)}",
            skipped=_skipped(attempt, found),
        )
    proof = attempt.prove(changes, late=_added_up(attempt.case))
    change, comparison = proof.change, proof.comparison
    trials = proof.before, proof.after
    told = replace(
        same,
        trials=trials,
        comparison=comparison,
        measure=MEASURES[attempt.judge.measure],
    )
    if not comparison.better:
        return replace(
            told,
            verdict="nothing-helps",
            reason=nothing_helped(attempt, found, change, comparison, trials, late),
            skipped=_skipped(attempt, found),
        )
    attempt.dropped.pop(change.name, None)
    trainee, diagnosis = attempt.after(change)
    stand = _standing(change, same.before, diagnosis)
    reason = f"{change.name}: {outcome(attempt, comparison, trials)}"
    return replace(
        told,
        verdict="improved" if stand or unshown(attempt, comparison) else "repaired",
        reason=" ".join((reason, *map(yours, stand))),
        model=trainee.model,
        loss=trainee.loss,
        optimizer=trainee.optimizer,
        after=diagnosis,
        remedies=tuple(plan.remedy for plan in change.plans),
        code=_code(change, attempt.case, new=trainee.new),
        effects=tuple(plan.effect for plan in change.plans),
        notes=(*told.notes, *_notes(change)),
        skipped=_skipped(attempt, found),
    )


def _added_up(case: Case) -> int:
    """Steps that the momentum adds up, where that was found to be too many."""
    momentum = case.record.fact("optimizer.momentum") or 0.0
    known = case.has("optimizer-hyperparameter") and momentum < 1
    return round(1 / (1 - momentum)) if known else 0


def _standing(change: Treatment, before: Diagnosis, after: Diagnosis) -> list[Finding]:
    """Errors that were there before, and whose cause nothing in the change addresses."""
    addressed = {
        cause
        for plan in change.plans
        for remedy in REMEDIES
        if remedy.code == plan.remedy
        for cause in remedy.addresses
    }
    old = {(f.code, f.cause) for f in before.findings if f.severity is Severity.ERROR}
    return [
        f
        for f in after.findings
        if f.severity is Severity.ERROR and (f.code, f.cause) in old and f.cause not in addressed
    ]


def _code(change: Treatment, case: Case, *, new: tuple[str, ...]) -> str:
    """What is done to the model before what is said of the optimizer, which is made last."""
    after = [plan.training for plan in change.plans]
    if new and not any("optimizer =" in line for line in after):
        after.insert(0, optimizer_again(case, new))
    return together(line for line in (*(plan.code for plan in change.plans), *after) if line)


def _notes(change: Treatment) -> tuple[str, ...]:
    notes = [note for plan in change.plans for note in plan.notes]
    notes += [f"state_dict: {plan.keys}" for plan in change.plans if plan.keys]
    return tuple(dict.fromkeys(notes))


def _skipped(attempt: Attempt, found: Candidates) -> tuple[Skipped, ...]:
    tried = (Skipped(name, reason) for name, reason in attempt.dropped.items())
    return (*tried, *found.skipped)


def _closed(done: Repair, watched: int, began: float, asked: int, *, trials: int = 0) -> Repair:
    """With what it took, and a note where that is more than the steps that were asked for.

    Args:
        done: the outcome.
        watched: steps of the network as it is, before anything was tried.
        began: when, by `time.perf_counter`.
        asked: steps of the budget; 0 where it is a time.
        trials: steps of all trials.
    """
    taken = watched + trials
    took = [f"{watched} to see whether the network learns as it is"] * bool(watched)
    took += [f"{trials} of trials and their proof"] * bool(trials)
    over = f"budget: {taken} steps were taken, not {asked}: {' and '.join(took)}"
    over += f", which takes {2 * FEWEST} or more" if trials > asked else ""
    notes = (*done.notes, over) if 0 < asked < taken else done.notes
    return replace(done, notes=notes, cost=Cost(taken, time.perf_counter() - began))


def _instance(optimizer: Any) -> torch.optim.Optimizer | None:
    return optimizer if isinstance(optimizer, torch.optim.Optimizer) else None


def _look(model: nn.Module, batch: Any, loss: Any, optimizer: Any, seed: int) -> Diagnosis:
    """The first look: as `check`, but without the curvature where it hardly counts.

    Behind norms a learning rate beyond the curvature's limit is usual and harmless (IG305), and
    measuring it would cost more than all the rest; remedies for an ill network want it all the
    same. Where a weight's gradient is no number, there is no curvature.
    """
    seen = measure(model, batch, loss, seed=seed)
    if optimizer is None:
        return diagnose(seen)
    look = functools.partial(
        rehearse, model, batch, loss, seen, optimizer=optimizer, data=None, steps=0, seed=seed
    )
    normalized = any(site.kind in NORMS for site in seen.sites)
    if any(number for _, number in seen.pairs("weight.grad_nonfinite")):
        return diagnose(look(sharpness=False))
    diagnosis = diagnose(look(sharpness=not normalized))
    return diagnose(look()) if normalized and not diagnosis.healthy else diagnosis


def _can_train(diagnosis: Diagnosis) -> bool:
    return bool(diagnosis.reading.seen.fact("loss.kind") != "probe")


def _all_scripted(diagnosis: Diagnosis) -> bool:
    seen = diagnosis.reading.seen
    scripted, every = (seen.fact(f"model.{what}") or 0 for what in ("scripted", "parameters"))
    return bool(scripted) and scripted == every


def _check_can_train(diagnosis: Diagnosis) -> None:
    if not _can_train(diagnosis):
        raise InputError(
            f"repair: {diagnosis.findings[0].message} Without targets nothing can be tried; give "
            "batch=(inputs, targets), or a model that returns its loss"
        )


def _families(allow: Collection[str]) -> tuple[str, ...]:
    one = isinstance(allow, str) or not isinstance(allow, Iterable)
    names: tuple[Any, ...] = (allow,) if one else tuple(allow)
    for name in names:
        if name not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise InputError(f"repair: allow holds {name!r}; the families are {known}")
    if not names:
        raise InputError("repair: allow is empty, so that nothing could be tried; use check()")
    return names

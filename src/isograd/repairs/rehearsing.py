"""The look at a network after a trial, and trials that come before a diagnosis."""

from dataclasses import replace

from isograd.diagnosis import diagnose
from isograd.findings import Diagnosis
from isograd.probe.measuring import measure
from isograd.records import Reading, Record
from isograd.remedies import Case
from isograd.repairs.racing import Runner
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment

SETTLED = 32
"""Steps after which stale running statistics of batch norms show (IG502 asks for thirty)."""
SLOW = 0.01
"""Momentum of a batch norm with which most of its initial statistics are left after so many; only
then is it worth looking, for the usual 0.1 leaves three percent."""
EDGE = 6
"""Steps after which a learning rate beyond the limit of stability has thrown a network off, if it
does."""


def late_trouble(diagnosis: Diagnosis) -> int:
    """Steps after which a network that looks healthy may show what is wrong; 0: none is likely."""
    seen = diagnosis.reading.seen
    if _slow_norms(seen):
        return SETTLED
    return EDGE if any(f.cause == "lr-too-high" for f in diagnosis.findings) else 0


def rehearsed(case: Case, supply: Supply, steps: int, seed: int) -> tuple[Runner, Diagnosis]:
    """Trains a copy of the network as it is, and looks at it again.

    Raises:
        IsogradError: it cannot be trained.
    """
    as_it_is = Treatment()
    runner = Runner(as_it_is, as_it_is.start(case, seed), seed)
    runner.advance(supply, steps)
    return runner, looked_again(runner, case, case.diagnosis, seed)


def looked_again(runner: Runner, case: Case, before: Diagnosis, seed: int) -> Diagnosis:
    """What the rules say of a network after the training of a trial.

    Args:
        runner: the trial.
        case: whose batch it is looked at.
        before: of the network that the trial started with.
        seed: of random probes.
    """
    seen, trainee = before.reading.seen, runner.trainee
    facts = {k: v for k, v in seen.facts.items() if k.startswith("optimizer.")}
    facts["rehearsal.losses"] = list(runner.losses)
    step = len(runner.losses)
    if runner.broke is not None:
        facts["rehearsal.stopped"] = f"non-finite at step {step}"
    last = measure(trainee.model, case.batch, trainee.loss, seed=seed, step=step)
    return diagnose(Reading(seen, history=(replace(last, facts={**last.facts, **facts}),)))


def _slow_norms(record: Record) -> bool:
    momentum, tracked = record.fact("norm.momentum"), record.fact("norm.tracked", 0)
    return momentum is not None and 0 < momentum < SLOW and tracked < SETTLED

"""verify(): experiments run again, in several processes, and compared with what must come out."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from isograd.errors import IsogradError
from isograd.lab.experiments import EXPERIMENTS
from isograd.lab.judging import Check, judge
from isograd.lab.result import Result
from isograd.lab.running import run
from isograd.lab.writing import write


@dataclass(frozen=True)
class Verified:
    """One experiment, run again."""

    name: str
    seconds: float
    result: Result | None
    """None where it could not be run."""
    checks: tuple[Check, ...]
    trouble: str = ""
    """Why it could not be run."""

    @property
    def ok(self) -> bool:
        """Whether it ran, and every number came out."""
        return not self.trouble and all(check.met for check in self.checks)


def verify(
    names: Sequence[str],
    scale: str,
    *,
    jobs: int = 1,
    folder: Path | None = None,
    suffixes: tuple[str, ...] = (),
) -> Iterator[Verified]:
    """Runs experiments, the next one as soon as a process is free; tells of each when it is done.

    Args:
        names: of the experiments.
        scale: of all of them.
        jobs: processes; 1 runs them in this one.
        folder: where results are written, if anywhere.
        suffixes: which files are written there.
    """
    work = [(name, scale, folder, suffixes) for name in names]
    if jobs == 1:
        yield from map(_one, work)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(_one, item) for item in work]):
            yield done.result()


def _one(work: tuple[str, str, Path | None, tuple[str, ...]]) -> Verified:
    name, scale, folder, suffixes = work
    start = time.perf_counter()
    try:
        experiment = EXPERIMENTS[name]
        result = run(experiment, scale=scale)
        if folder is not None:
            write(experiment, result, folder, suffixes)
    except IsogradError as error:
        return Verified(name, time.perf_counter() - start, None, (), str(error))
    return Verified(name, time.perf_counter() - start, result, judge(experiment, result))

"""check_sink(): the contract of sinks, for those of third parties too."""

import contextlib
import io
import math
import random
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from isograd.errors import CatalogueError
from isograd.findings import Alarm, Diagnosis, Finding, Severity
from isograd.records import Parameter, Reading, Record, RunInfo, Site
from isograd.sinks._sink import Sink


def check_sink(sink: Sink) -> None:
    """Runs a sink through everything that a sink has to be; one line in a test is enough.

    It has a word for its code and is made without arguments; it takes a run with all that can be
    in one, numbers that are none among them; it prints nothing to standard output, draws no random
    numbers while it is told, and leaves no thread behind that keeps the process from ending.

    Args:
        sink: an instance that was not opened yet. What it writes beside the run file is deleted
            afterwards; what it writes elsewhere is yours to look at.

    Raises:
        CatalogueError: everything that is broken.
    """
    if not isinstance(sink, Sink):
        raise CatalogueError(
            f"check_sink: expected an instance of a Sink, found {sink!r}; "
            "derive it from isograd.sinks.Sink and make one"
        )
    before = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "run.isograd"))
        broken = [*_name(sink), *_told(sink, RunInfo("a run", path, "2026-11-29T08:00:00+00:00"))]
    left = [t.name for t in threading.enumerate() if t not in before and not t.daemon]
    broken += [f"threads are left when it is closed: {', '.join(left)}"] if left else []
    if broken:
        raise CatalogueError(
            f"{type(sink).__name__} breaks the contract of sinks: {'; '.join(broken)}"
        )


def _name(sink: Sink) -> Iterator[str]:
    code = getattr(sink, "code", None)
    if not isinstance(code, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", code):
        yield f"its code is {code!r}; give a word in lower case"
    try:
        type(sink)()
    except Exception as error:  # whatever a third party's class raises
        yield f"it cannot be made without arguments: {type(error).__name__}: {error}"


def _told(sink: Sink, info: RunInfo) -> Iterator[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            sink.open(info)
            streams = _streams()
            _tell(sink)
            after = _streams()
            # A package that was loaded on the way has a stream that nobody drew from before.
            if any(after[name] != state for name, state in streams.items()):
                yield "it draws random numbers, which changes the training"
            sink.close(Diagnosis((_FINDING,), (), Reading(_RECORD)), "finished")
        except Exception as error:  # whatever a third party's class raises
            yield f"it raises {type(error).__name__}: {error}"
    if printed.getvalue():
        yield f"it prints {printed.getvalue()[:60]!r}, to what may be a program's own output"


_FINDING = Finding("IG201", Severity.ERROR, "dead-units", "2 of 7 units died.", ("a",))
_RECORD = Record(
    (Site("a", "linear", "Linear", 1, (2, 7), (), (0,)), Site("a:relu", "relu", "relu", 1, (2, 7))),
    (Parameter("a.weight", (7, 5), "linear"),),
    {"forward.rms": (1.5, 0.5), "backward.rms": (1e-3, None), "weight.update_ratio": (1e-3,)},
    facts={"optimizer.lr": 0.1},
)
_ODD = Record(
    (Site("b", "conv", "Conv2d", 1, (2, 3, 5, 7)),),
    series={"forward.rms": (math.nan,), "backward.rms": (math.inf,), "forward.dead": (None,)},
    facts={"optimizer.lr": (0.1, 0.2)},
    step=3,
)


def _tell(sink: Sink) -> None:
    """A run with everything that may be in one."""
    sink.losses([])
    sink.losses([(0, 2.5), (1, math.nan), (2, -math.inf)])
    for record in (_RECORD, _ODD, Record((), step=4)):
        sink.record(record)
    raised = Alarm(_FINDING, "raised", 1, 2, 3)
    sink.alarms([raised, Alarm(_FINDING.with_severity(Severity.INFO), "raised", 2, 2, 2)])
    sink.alarms([Alarm(_FINDING, "withdrawn", 1, 2, 4)])
    sink.losses([(3, 1.0)])


def _streams() -> dict[str, object]:
    """Where the random streams stand that a training may draw from."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    found: dict[str, object] = {"random": random.getstate()}
    if numpy:
        found["numpy"] = repr(numpy.random.get_state())
    if torch:
        found["torch"] = torch.get_rng_state().tolist()
    return found

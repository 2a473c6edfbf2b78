"""The JSON form of a watched run: the report of its diagnosis, and beside it the run."""

import json

from isograd.records import Record
from isograd.reporting import as_json
from isograd.reporting._watched import Watched
from isograd.storage import dumps, to_plain


def tell(watched: Watched) -> str:
    """Strict JSON on one line; `read_json` reads the diagnosis of it."""
    session = watched.session
    steps, values = watched.losses
    run = {
        "name": session.info.name,
        "session": session.number,
        "state": session.state,
        "started": session.info.started,
        "ended": session.ended,
        "step": watched.progress.step,
        "looks": watched.progress.looks,
        "facts": _free(dict(session.info.facts)),
        "losses": {"steps": list(steps), "values": _free(list(values))},
        "alarms": [to_plain(alarm) for alarm in watched.alarms],
    }
    return dumps({**json.loads(as_json.tell(watched.diagnosis)), "run": run})


def _free(value: object) -> object:
    return to_plain(Record((), facts={"it": value}))["facts"]["it"]

"""Plain values: records and findings as dicts and lists that strict JSON can hold, and back.

Strict JSON has no NaN, no infinities and no tuples. In columns of numbers NaN and the infinities
are the strings "nan", "inf" and "-inf". In facts and evidence, whose values are free, three marks
keep apart what would look alike: `{"$tuple": [...]}`, `{"$text": "nan"}` for a word that is not a
number, and `{"$map": [[key, value], ...]}` for a mapping whose keys are not plain words.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from isograd.errors import StorageError
from isograd.findings import Alarm, Diagnosis, Finding, Severity, Verdict
from isograd.records import Number, Parameter, Reading, Record, Site

SCHEMA = 1
"""Number of the form in which records and findings are written."""

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

T = TypeVar("T", Diagnosis, Reading, Record, Finding, Verdict, Alarm)


def to_plain(thing: Diagnosis | Reading | Record | Finding | Verdict | Alarm) -> dict[str, Any]:
    """A thing as nested dicts and lists of strings, finite numbers, booleans and None.

    Raises:
        StorageError: a fact or a piece of evidence is no plain value.
    """
    return _WRITERS[type(thing)](thing)


def from_plain(kind: type[T], plain: Mapping[str, Any]) -> T:
    """The thing of which `to_plain` made `plain`, exactly as it was.

    Raises:
        StorageError: `plain` was not made by `to_plain` from a thing of this kind.
    """
    try:
        thing: T = _READERS[kind](plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"this is not a stored {kind.__name__} of schema {SCHEMA}: "
            f"{type(error).__name__}: {error}; write it again with isograd"
        ) from error
    return thing


def dumps(plain: Mapping[str, Any] | Sequence[Any]) -> str:
    """Plain values as strict JSON on one line, ASCII only."""
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """What `dumps` wrote.

    Raises:
        StorageError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise StorageError(f"this is not JSON: {error}; give the text isograd wrote") from error


def _number(value: Number) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _as_number(value: float | str | None) -> Number:
    return _NOT_FINITE[value] if isinstance(value, str) else value


def free(value: Any, where: str) -> Any:
    """A fact or a piece of evidence as a plain value; `where` names it in the error."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, str):
        return {"$text": value} if value in _NOT_FINITE else value
    if isinstance(value, tuple):
        return {"$tuple": [free(item, where) for item in value]}
    if isinstance(value, list):
        return [free(item, where) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: free(item, f"{where}.{key}") for key, item in value.items()}
        return {"$map": [[free(k, where), free(v, where)] for k, v in value.items()]}
    raise StorageError(
        f"{where} holds a {type(value).__module__}.{type(value).__qualname__}, which cannot be "
        "stored; put a number, word, list or mapping of those there"
    )


def as_free(value: Any) -> Any:
    """The value of which `free` made a plain one."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [as_free(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tuple" in value:
        return tuple(as_free(item) for item in value["$tuple"])
    if "$text" in value:
        return value["$text"]
    if "$map" in value:
        return {as_free(key): as_free(item) for key, item in value["$map"]}
    return {key: as_free(item) for key, item in value.items()}


def _site(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "kind": site.kind,
        "label": site.label,
        "depth": site.depth,
        "shape": list(site.shape),
        "inputs": list(site.inputs),
        "parameters": list(site.parameters),
    }


def _as_site(plain: Mapping[str, Any]) -> Site:
    rows = {key: tuple(plain[key]) for key in ("shape", "inputs", "parameters")}
    return Site(**{**plain, **rows})


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "shape": list(parameter.shape),
        "kind": parameter.kind,
        "trainable": parameter.trainable,
    }


def _as_parameter(plain: Mapping[str, Any]) -> Parameter:
    return Parameter(**{**plain, "shape": tuple(plain["shape"])})


def _record(record: Record) -> dict[str, Any]:
    return {
        "source": record.source,
        "step": record.step,
        "sites": [_site(site) for site in record.sites],
        "parameters": [_parameter(parameter) for parameter in record.parameters],
        "series": {k: [_number(x) for x in column] for k, column in record.series.items()},
        "histograms": {k: [list(row) for row in rows] for k, rows in record.histograms.items()},
        "facts": {key: free(value, f"fact {key}") for key, value in record.facts.items()},
        "notes": list(record.notes),
    }


def _as_record(plain: Mapping[str, Any]) -> Record:
    return Record(
        sites=tuple(_as_site(site) for site in plain["sites"]),
        parameters=tuple(_as_parameter(parameter) for parameter in plain["parameters"]),
        series={k: tuple(_as_number(x) for x in column) for k, column in plain["series"].items()},
        histograms={k: tuple(tuple(r) for r in rows) for k, rows in plain["histograms"].items()},
        facts={key: as_free(value) for key, value in plain["facts"].items()},
        notes=tuple(plain["notes"]),
        source=plain["source"],
        step=plain["step"],
    )


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "seen": _record(reading.seen),
        "expected": None if reading.expected is None else _record(reading.expected),
        "history": [_record(record) for record in reading.history],
    }


def _as_reading(plain: Mapping[str, Any]) -> Reading:
    return Reading(
        seen=_as_record(plain["seen"]),
        expected=None if plain["expected"] is None else _as_record(plain["expected"]),
        history=tuple(_as_record(record) for record in plain["history"]),
    )


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "cause": finding.cause,
        "message": finding.message,
        "sites": list(finding.sites),
        "evidence": {
            key: free(value, f"{finding.code}: evidence {key}")
            for key, value in finding.evidence.items()
        },
        "remedies": list(finding.remedies),
        "explains": list(finding.explains),
        "symptoms": [_finding(symptom) for symptom in finding.symptoms],
    }


def _as_finding(plain: Mapping[str, Any]) -> Finding:
    return Finding(
        code=plain["code"],
        severity=Severity(plain["severity"]),
        cause=plain["cause"],
        message=plain["message"],
        sites=tuple(plain["sites"]),
        evidence={key: as_free(value) for key, value in plain["evidence"].items()},
        remedies=tuple(plain["remedies"]),
        explains=tuple(plain["explains"]),
        symptoms=tuple(_as_finding(symptom) for symptom in plain["symptoms"]),
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"code": verdict.code, "state": verdict.state, "reason": verdict.reason}


def _as_verdict(plain: Mapping[str, Any]) -> Verdict:
    return Verdict(code=plain["code"], state=plain["state"], reason=plain["reason"])


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "finding": _finding(alarm.finding),
        "state": alarm.state,
        "first_step": alarm.first_step,
        "worst_step": alarm.worst_step,
        "last_step": alarm.last_step,
    }


def _as_alarm(plain: Mapping[str, Any]) -> Alarm:
    return Alarm(**{**plain, "finding": _as_finding(plain["finding"])})


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "verdicts": [_verdict(verdict) for verdict in diagnosis.verdicts],
        "reading": _reading(diagnosis.reading),
    }


def _as_diagnosis(plain: Mapping[str, Any]) -> Diagnosis:
    return Diagnosis(
        findings=tuple(_as_finding(finding) for finding in plain["findings"]),
        verdicts=tuple(_as_verdict(verdict) for verdict in plain["verdicts"]),
        reading=_as_reading(plain["reading"]),
    )


_WRITERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Diagnosis: _diagnosis,
    Reading: _reading,
    Record: _record,
    Finding: _finding,
    Verdict: _verdict,
    Alarm: _alarm,
}
_READERS: dict[type, Callable[[Mapping[str, Any]], Any]] = {
    Diagnosis: _as_diagnosis,
    Reading: _as_reading,
    Record: _as_record,
    Finding: _as_finding,
    Verdict: _as_verdict,
    Alarm: _as_alarm,
}

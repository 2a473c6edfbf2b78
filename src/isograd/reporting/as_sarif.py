"""The SARIF 2.1.0 form: for code scanning services and editors.

Sections named in comments are of the OASIS standard "Static Analysis Results Interchange Format
(SARIF) Version 2.1.0".
"""

import hashlib
import json
from collections.abc import Iterable
from os import PathLike
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from isograd.findings import Diagnosis, Finding
from isograd.records import Record
from isograd.reporting import _beside as beside
from isograd.reporting._numbers import printable
from isograd.reporting._profile import located
from isograd.reporting._summary import RuleText, by_state, rule_text, version
from isograd.storage import to_plain

SITES = 20
"""Locations per result; the message and the JSON form name the rest."""

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def tell(diagnosis: Diagnosis, *, artifact: str | PathLike[str] | None = None) -> str:
    """One run with one result per finding.

    Args:
        diagnosis: what to tell.
        artifact: the file that defines the model; services show only results that point to one.
    """
    codes = sorted({finding.code for finding in _all(diagnosis.findings)})
    run = {
        "tool": {
            "driver": {
                "name": "isograd",
                "version": version(),
                "semanticVersion": version(),
                "rules": [_rule(code, rule_text(code)) for code in codes],
            }
        },
        "invocations": [_invocation(diagnosis)],
        "results": [
            _result(finding, codes, diagnosis.reading.seen, artifact)
            for finding in diagnosis.findings
        ],
        "columnKind": "unicodeCodePoints",
    }
    if prediction := beside.figures(diagnosis.reading):
        run["properties"] = {"isograd/prediction": prediction}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, allow_nan=False, indent=1)


def _all(findings: Iterable[Finding]) -> Iterable[Finding]:
    for finding in findings:
        yield finding
        yield from _all(finding.symptoms)


def _rule(code: str, text: RuleText) -> dict[str, Any]:
    """3.49: a reporting descriptor; of an unknown rule only the code is known."""
    rule: dict[str, Any] = {"id": code}
    if text.title:
        rule["shortDescription"] = {"text": text.title}
        rule["fullDescription"] = {"text": f"{text.title}. {text.sections.get('Matters', '')}"}
        rule["help"] = {
            "text": "\n\n".join(f"{head}: {body}" for head, body in text.sections.items()),
            "markdown": "\n\n".join(f"**{head}.** {body}" for head, body in text.sections.items()),
        }
    return rule


def _result(
    finding: Finding, codes: list[str], seen: Record, artifact: str | PathLike[str] | None
) -> dict[str, Any]:
    parts = [finding.message, *(f"Do: {remedy}" for remedy in finding.remedies)]
    parts += [f"Explains {symptom.code}: {symptom.message}" for symptom in finding.symptoms]
    mark = f"{finding.code}/{finding.cause}/{finding.sites[0] if finding.sites else ''}"
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": _LEVELS[finding.severity.value],
        "message": {"text": "\n".join(map(printable, parts))},
        "locations": [place for place in [_location(finding, seen, artifact)] if place],
        # 3.27.17: the same finding of another run has the same mark, though its numbers differ
        "partialFingerprints": {
            "isograd/v1": hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest()
        },
        "properties": {
            key: value
            for key, value in to_plain(finding).items()
            if key in ("cause", "evidence", "remedies", "explains", "sites")
        },
    }


def _location(
    finding: Finding, seen: Record, artifact: str | PathLike[str] | None
) -> dict[str, Any]:
    """3.28: where the model is written, and the sites in it, worst first."""
    names = located(seen)
    logical = []
    for name in list(dict.fromkeys(finding.sites))[:SITES]:
        place: dict[str, Any] = {"name": printable(name), "fullyQualifiedName": printable(name)}
        if name in names:
            place["kind"] = "module" if name == seen.sites[names[name]].name else "variable"
        logical.append(place)
    location: dict[str, Any] = {}
    if logical:
        location["logicalLocations"] = logical
    if artifact is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(artifact)},
            "region": {"startLine": 1},
        }
    return location


def _uri(artifact: str | PathLike[str]) -> str:
    path = PurePath(artifact)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _invocation(diagnosis: Diagnosis) -> dict[str, Any]:
    """3.20: the run itself worked; a rule that broke is a notification."""
    broken = [
        {"level": "error", "message": {"text": f"{code}: {printable(reason)}"}}
        for code, reason in by_state(diagnosis).get("failed", [])
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": broken}

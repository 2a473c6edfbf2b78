"""The SARIF form, against what the standard (SARIF 2.1.0, OASIS) requires of each object used."""

import json
import re
from pathlib import PurePosixPath

import jsonschema
import pytest

from isograd.reporting import render

TEXT = {"type": "string", "minLength": 1}
MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": TEXT}}
MULTIFORMAT = {  # 3.12
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {"text": TEXT, "markdown": TEXT},
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
LOCATION = {  # 3.28, 3.29, 3.30, 3.33
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "additionalProperties": False,
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "properties": {"uri": {"type": "string", "pattern": r"^[!-~]+$"}},
                },
                "region": {
                    "type": "object",
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                },
            },
        },
        "logicalLocations": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"name": TEXT, "fullyQualifiedName": TEXT, "kind": TEXT},
            },
        },
    },
}
RULE = {  # 3.49
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": TEXT,
        "shortDescription": MULTIFORMAT,
        "fullDescription": MULTIFORMAT,
        "help": MULTIFORMAT,
    },
}
RESULT = {  # 3.27
    "type": "object",
    "required": ["message", "ruleId"],
    "additionalProperties": False,
    "properties": {
        "ruleId": TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
        "properties": {"type": "object"},
    },
}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],  # 3.13
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {  # 3.14
                "type": "object",
                "required": ["tool"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],  # 3.18
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],  # 3.19
                                "additionalProperties": False,
                                "properties": {
                                    "name": TEXT,
                                    "version": TEXT,
                                    "semanticVersion": {"pattern": r"^\d+\.\d+\.\d+"},
                                    "rules": {"type": "array", "uniqueItems": True, "items": RULE},
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],  # 3.20
                            "additionalProperties": False,
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {"type": "object", "required": ["message"]},
                                },
                            },
                        },
                    },
                    "results": {"type": "array", "items": RESULT},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "properties": {"type": "object"},  # 3.8
                },
            },
        },
    },
}


def run_of(diagnosis, **options):
    (run,) = json.loads(render(diagnosis, "sarif", **options))["runs"]
    return run


@pytest.mark.parametrize("artifact", [None, "models/my net.py"])
def test_the_log_holds_what_the_standard_requires(any_diagnosis, artifact):
    jsonschema.validate(json.loads(render(any_diagnosis, "sarif", artifact=artifact)), SARIF)


def test_one_result_per_finding_with_its_level_and_places(sick):
    run = run_of(sick)
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    first, second, third = run["results"]
    names = [p["fullyQualifiedName"] for p in first["locations"][0]["logicalLocations"]]
    assert names == [f"layers.{i}" for i in range(20)]
    (place,) = second["locations"][0]["logicalLocations"]
    assert place["kind"] == "variable"
    assert third["locations"] == []
    assert "Do: Or add residual connections" in first["message"]["text"]
    assert "Explains IG201: Up to 54 %" in first["message"]["text"]
    assert first["properties"]["evidence"]["rate_per_layer"] == 0.24


def test_results_point_to_their_rules(sick):
    run = run_of(sick)
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [rule["id"] for rule in rules] == ["IG101", "IG201", "IG412", "IG777"]


def test_a_rule_that_broke_is_a_notification(sick):
    (notice,) = run_of(sick)["invocations"][0]["toolExecutionNotifications"]
    assert notice["message"]["text"].startswith("IG999: the rule itself failed")


@pytest.mark.parametrize(
    ("artifact", "uri"),
    [
        ("models/my net.py", "models/my%20net.py"),
        (PurePosixPath("a/b.py"), "a/b.py"),
        ("/srv/net.py", "file:///srv/net.py"),
    ],
)
def test_the_file_is_pointed_to(sick, artifact, uri):
    for result in run_of(sick, artifact=artifact)["results"]:
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == uri
        assert place["region"] == {"startLine": 1}


def test_fingerprints_tell_findings_apart(sick):
    marks = [result["partialFingerprints"]["isograd/v1"] for result in run_of(sick)["results"]]
    assert len(set(marks)) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", mark) for mark in marks)

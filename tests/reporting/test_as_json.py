"""The JSON form: strict, as its schema says, and exactly reversible."""

import json
from importlib.resources import files

import jsonschema
import pytest

from isograd.errors import StorageError
from isograd.reporting import read_json, render


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


@pytest.fixture(scope="module")
def validator():
    text = files("isograd.reporting").joinpath("assets/report.schema.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_report_validates(any_diagnosis, validator):
    validator.validate(json.loads(render(any_diagnosis, "json"), parse_constant=refuse))


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("schema",), 2),
        (("severity",), "bad"),
        (("findings", 0, "severity"), "fatal"),
        (("findings", 0, "extra"), 1),
        (("verdicts", 0, "state"), "maybe"),
        (("reading", "seen", "sites", 0, "shape"), ["x"]),
        (("reading", "seen", "series", "forward.rms", 0), "huge"),
        (("reading", "seen", "facts", "it"), {"$other": 1}),
        (("reading", "history"), None),
    ],
)
def test_the_schema_can_refuse(sick, validator, path, wrong):
    report = json.loads(render(sick, "json"))
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    assert not validator.is_valid(report)


def test_the_diagnosis_comes_back_exactly(any_diagnosis):
    # repr tells NaN, tuples and numbers' types apart
    assert repr(read_json(render(any_diagnosis, "json"))) == repr(any_diagnosis)


def test_the_keys_are_frozen(sick):
    report = json.loads(render(sick, "json"))
    assert list(report) == [
        "schema", "tool", "healthy", "severity", "findings", "verdicts", "reading",
    ]  # fmt: skip
    assert report["schema"] == 1
    assert (report["healthy"], report["severity"]) == (False, "error")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not json", "this is not JSON"),
        ("[1]", "this is not a JSON report"),
        ('{"findings": []}', "this is not a JSON report"),
        ('{"schema": 99}', "found a report of schema 99, this version of isograd reads schema 1"),
        ('{"schema": 1}', "this is not a stored Diagnosis of schema 1: KeyError: 'findings'"),
    ],
)
def test_other_texts_are_refused(text, match):
    with pytest.raises(StorageError, match=match):
        read_json(text)

"""Which cause is named for a signal that is lost or grows."""

import math
from dataclasses import replace

import pytest

from isograd.records import Parameter, Record, Site
from isograd.rules._causes import hidden_layers, initializer, why_grows, why_lost
from isograd.rules._examples import WIDTHS, chain

FITS = {"relu": (1.414, 1.414), "sigmoid": (1.846, 4.72), "tanh": (1.593, 1.467), "selu": (1, 1)}


def network(gain: float, activation: str = "relu", depth: int = 9, **series: float) -> Record:
    fit, fit_slope = FITS[activation]
    columns = {
        "weight.gain": gain,
        "weight.gain_fit": float(fit),
        "weight.gain_slope": float(fit_slope),
        "weight.fan_in": [float(WIDTHS[i % len(WIDTHS)]) for i in range(depth)],
        "weight.fan_out": [float(WIDTHS[(i + 1) % len(WIDTHS)]) for i in range(depth)],
        **series,
    }
    return chain(depth, activation=activation, series=columns)


@pytest.mark.parametrize(
    ("gain", "activation", "cause"),
    [
        (1 / math.sqrt(3), "relu", "gain-mismatch"),
        (1 / math.sqrt(3), "selu", "gain-mismatch"),
        (1 / math.sqrt(3), "tanh", "gain-mismatch"),
        (0.16, "relu", "init-too-small"),
        (0.16, "sigmoid", "init-too-small"),
        (1.0, "sigmoid", "saturating-activation"),
        (1 / math.sqrt(3), "sigmoid", "saturating-activation"),
        (1.414, "relu", "missing-residual"),
    ],
)
def test_why_lost(gain: float, activation: str, cause: str) -> None:
    assert why_lost(network(gain, activation)).name == cause


def test_softmax_between_layers_is_named() -> None:
    record = network(1 / math.sqrt(3))
    sites = tuple(replace(s, kind="softmax") if s.kind == "relu" else s for s in record.sites)
    cause = why_lost(replace(record, sites=sites))
    assert cause.name == "saturating-activation"
    assert "softmax" in cause.because


def test_what_an_unknown_function_asks_for_is_not_called_known() -> None:
    record = network(1 / math.sqrt(3), "selu")
    sites = tuple(replace(s, kind="exp") if s.kind == "selu" else s for s in record.sites)
    cause = why_lost(replace(record, sites=sites))
    assert cause.name == "gain-mismatch"
    assert "while a linear layer needs 1 (what the exp behind it asks for is not known)" in (
        cause.because
    )


def test_no_gain_is_called_fitting_where_none_is_known() -> None:
    record = network(1.0, "selu")
    unknown = replace(record, series={**record.series, "weight.gain": (None,) * 9})
    assert "no gain of its weights is known, and nothing resets" in why_lost(unknown).because
    assert "no gain" not in why_lost(record).because


def test_dead_layers_come_first() -> None:
    assert why_lost(network(1.414, "relu", **{"forward.dead": 1.0})).name == "dead-units"


def test_a_squeezed_tanh_with_large_weights() -> None:
    squeezed = {"forward.slope": 0.1, "forward.slope_theory": 0.68, "forward.saturated": 0.8}
    assert why_lost(network(9.0, "tanh", **squeezed)).name == "init-too-large"


@pytest.mark.parametrize(
    ("gain", "activation", "cause"),
    [
        (1.414, "selu", "gain-mismatch"),
        (4.0, "relu", "init-too-large"),
        (1.3, "relu", "missing-normalization"),
    ],
)
def test_why_grows(gain: float, activation: str, cause: str) -> None:
    assert why_grows(network(gain, activation)).name == cause


def test_why_grows_names_the_exponential() -> None:
    record = network(1.0)
    sites = tuple(replace(s, kind="exp") if s.kind == "relu" else s for s in record.sites)
    assert why_grows(replace(record, sites=sites)).name == "exploding-activation"


@pytest.mark.parametrize(
    ("gains", "name"),
    [
        ([1 / math.sqrt(3)] * 9, "torch's default (U(±1/√fan_in))"),
        ([1.0] * 9, "LeCun"),
        ([math.sqrt(2)] * 9, "He"),
        ([0.81] * 9, None),
    ],
)
def test_names_the_initializer(gains: list[float], name: str | None) -> None:
    record = network(1.0, **{"weight.gain": gains})  # type: ignore[arg-type]  # a column
    assert initializer(record, hidden_layers(record)) == name


def test_tells_xavier_from_lecun_by_the_shape() -> None:
    record = network(1.0)
    inputs, outputs = 784.0, 100.0
    series = {
        **record.series,
        "weight.fan_in": (inputs,) * 9,
        "weight.fan_out": (outputs,) * 9,
        "weight.gain": (math.sqrt(2 * inputs / (inputs + outputs)),) * 9,
    }
    record = replace(record, series=series)
    assert initializer(record, hidden_layers(record)) == "Xavier"


def test_the_head_is_not_hidden() -> None:
    layers = hidden_layers(network(1.0, depth=4))
    assert [layer.parameter for layer in layers] == [0, 1, 2]
    assert {layer.activation for layer in layers} == {"relu"}


def test_remedies_name_the_users_weights() -> None:
    first = why_lost(network(1 / math.sqrt(3))).remedies[0]
    assert "layers.0.weight" in first
    assert "kaiming_normal_" in first


def test_what_a_skip_connection_goes_around() -> None:
    inputs = ((), (0,), (1,), (0, 2), (3,))
    kinds = ("linear", "linear", "linear", "add", "linear")
    sites = tuple(
        Site(f"s{i}", kind, "X", i + 1, (8, 5), before, (i,) if kind == "linear" else ())
        for i, (kind, before) in enumerate(zip(kinds, inputs, strict=True))
    )
    parameters = tuple(Parameter(f"w{i}", (5, 5), "linear") for i in range(5))
    record = Record(sites, parameters, {"weight.gain": (1.0,) * 5})
    assert [layer.bypassed for layer in hidden_layers(record)] == [False, True, True]

"""Headline experiments run end to end at the scale `full`, made tiny, on the CPU."""

from typing import Any

import pytest

from isograd.lab.experiments import EXPERIMENTS
from isograd.lab.running import run

TINY: dict[str, dict[str, Any]] = {
    "activations-in-resnet": {
        "activations": ("relu", "gelu"), "depth": 8, "width": 2, "images": 200, "size": 8,
        "steps": 4, "batch": 16, "seeds": 1,
    },
    "delta-orthogonal": {"depth": 6, "channels": 4, "steps": 2},
    "path-ensemble": {"blocks": 6, "width": 2, "steps": 4, "samples": 1, "draws": 1},
    "plain-against-residual": {
        "depths": (8, 14), "width": 2, "images": 200, "size": 8, "steps": 4, "batch": 16,
    },
    "relu-against-tanh": {"images": 60, "epochs": 2, "channels": (2, 2, 2), "rates": (0.01,)},
}  # fmt: skip
"""Settings on top of those of the scale; every experiment with that scale and a device is here."""


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_full_scale_runs_on_the_cpu(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert "full" in experiment.scales
    result = run(name, scale="full", settings=TINY[name], data=experiment.data[-1])
    assert result.numbers
    assert result.device == "cpu"
    drawn = experiment.given(result.settings).figure(result)
    assert len(drawn.get_suptitle()) > 20

"""Trainings that are watched: healthy ones raise nothing, ill ones the alarm that fits."""

import pytest
import torch

from patients.courses import WELL
from patients.ill_courses import ILL
from patients.training import watched

QUICK = (
    "MLP, warm-up and cosine to zero",
    "conv net, two drops of the rate",
    "transformer, warm-up and cosine",
    "two broken batches",
    "batches of 8",
    "warm restarts",
    "GAN, the one that judges",
    "GAN, the one that makes",
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(11)


@pytest.mark.parametrize("name", QUICK)
def test_a_healthy_training_raises_nothing(name: str) -> None:
    make, steps = WELL[name]
    changes, _, reading = watched(make(), steps)
    assert [f"{a.finding.code} {a.last_step}: {a.finding.message}" for a in changes] == []
    assert len(reading.history) > 20


@pytest.mark.parametrize("name", ILL)
def test_an_ill_training_raises_what_fits(name: str) -> None:
    make, steps, codes = ILL[name]
    changes, _, _ = watched(make(), steps)
    raised = {a.finding.code: a.first_step for a in changes if a.state == "raised"}
    assert set(codes) & set(raised), raised

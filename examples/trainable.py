"""Keep a model trainable: a test that fails with the report as its message.

pytest examples/trainable.py
"""

import torch
from networks import residual

import isograd
from isograd import datasets


def test_the_network_trains() -> None:
    torch.manual_seed(0)
    inputs, targets = datasets.load("digits")
    rows = torch.randperm(len(inputs))[:64]
    isograd.assert_trainable(residual(), (inputs[rows], targets[rows]))

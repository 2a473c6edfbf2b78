"""Learning rates that are unusually high, with the momentum that adds them up."""

import pytest
import torch

from isograd.probe.facts import optimizer_facts
from isograd.records import Record
from isograd.sites.rates import bold_rate, usual_rate


@pytest.mark.parametrize(
    ("make", "bold"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9), 5.0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), None),  # residual networks
        (lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.99), 30.0),
        (lambda p: torch.optim.SGD(p, lr=1.0), None),
        (lambda p: torch.optim.SGD(p, lr=3.0), 3.0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=1.0), None),  # IG306 has it
        (lambda p: torch.optim.AdamW(p, lr=0.05), 0.05),
        (lambda p: torch.optim.Adam(p, lr=0.01), None),
        (lambda p: torch.optim.RMSprop(p, lr=0.1), 0.1),
        (lambda p: torch.optim.Adadelta(p), None),  # whose rate is 1
        (lambda p: torch.optim.LBFGS(p, lr=1.0), None),
    ],
)
def test_rates_that_are_bold(make: object, bold: float | None) -> None:
    layer = torch.nn.Linear(2, 2)
    facts = optimizer_facts(make(layer.parameters()), layer.named_parameters())  # type: ignore[operator]
    found = bold_rate(Record((), (), {}, {}, facts, ()))
    assert found == (None if bold is None else pytest.approx(bold))


@pytest.mark.parametrize(("rate", "bold"), [(0.01, 0.01), (0.003, 0.003), (0.001, None)])
def test_a_stack_of_post_norm_sublayers_bears_less_of_adam(rate: float, bold: float | None) -> None:
    layer = torch.nn.Linear(2, 2)
    facts = optimizer_facts(torch.optim.Adam(layer.parameters(), rate), layer.named_parameters())
    record = Record((), (), {}, {}, facts, ())
    assert bold_rate(record, post_norm=True) == bold
    assert bold_rate(record) is None
    assert usual_rate(record, post_norm=True) < 0.001 < usual_rate(record)

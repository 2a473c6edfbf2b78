"""Train and eval mode in a watched loop: statistics that lag, a mode that is left on."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watched_loops import Loop, data, looks, plain, watched

import isograd


class Normed(nn.Module):
    """A batch norm over inputs that are off center, and dropout."""

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8, momentum=momentum)
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(3 + 2 * x)))


def test_running_statistics_that_lag_are_seen_without_a_forward() -> None:
    for momentum, found in ((1e-3, True), (0.1, False)):
        torch.manual_seed(0)
        model = Normed(momentum)
        copy: dict[str, Tensor] = {}
        x, y = data()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
            for step in range(70):
                if step == 64:
                    copy = {k: v.clone() for k, v in model.state_dict().items()}
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        # The second witness: the norm itself in both modes, with what it had before step 64.
        model.load_state_dict(copy)
        there = model.norm.train()(3 + 2 * x)
        model.load_state_dict(copy)
        here = model.norm.eval()(3 + 2 * x)
        gap = ((there - here).norm() / there.norm()).item()
        (look,) = [r for r in looks(watch) if r.step == 64]
        assert look.facts["norm.eval_gap"] == pytest.approx(gap, rel=0.01)
        assert look.facts["norm.tracked"] == 65
        codes = {alarm.finding.code for alarm in watch.alarms}
        assert ("IG502" in codes) is found


def test_evaluation_mode_that_is_left_on() -> None:
    def loop(left_on: bool) -> Loop:
        def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            for _ in range(4):
                plain(model, optimizer)
                model.eval()
                with torch.no_grad():
                    model(data()[0])
                if not left_on:
                    model.train()

        return loop

    for left_on in (True, False):
        torch.manual_seed(0)
        watch = watched(Normed(0.1), loop(left_on))
        assert all("model.in_eval" in r.facts for r in looks(watch))
        assert ([a.first_step for a in watch.alarms if a.finding.code == "IG505"] == [4]) is left_on

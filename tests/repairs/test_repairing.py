"""repair(): finds what helps, proves it, and leaves everything as found."""

import copy
import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isograd
from isograd.errors import DataError, InputError
from isograd.repairs.racing import Runner
from isograd.repairs.repairing import _closed
from isograd.repairs.supply import Supply
from patients import data
from patients.dense import mlp
from patients.ill import he, stack
from patients.snapshot import changes, snapshot

SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)

Deep = tuple[nn.Module, tuple[torch.Tensor, torch.Tensor], isograd.Repair]


def digits(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x, y = data.digits(count * 64)
    return list(zip(x.split(64), y.split(64), strict=True))


@pytest.fixture(scope="module")
def deep() -> Deep:
    torch.manual_seed(0)
    model = stack(10, nn.ReLU, width=48)
    batches = digits()
    return (
        model,
        batches[0],
        isograd.repair(model, batches[0], optimizer=SGD, data=batches, budget=400),
    )


def test_a_deep_network_is_repaired(deep: Deep) -> None:
    model, _, done = deep
    assert done.verdict == "repaired"
    assert done.changed
    assert done.remedies[0].startswith("init-")
    assert done.comparison.better
    assert done.model is not model
    assert not done.before.healthy
    assert done.after.healthy
    before, after = done.trials
    assert before.treatment == "as it is"
    assert 3 <= len(before.scores) == len(after.scores) <= 5
    assert max(after.scores) < min(before.scores)
    assert done.cost.steps <= 400


def test_the_optimizer_is_that_of_the_repaired_model(
    deep: Deep,
) -> None:
    *_, done = deep
    held = {id(p) for group in done.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in done.model.parameters()}
    assert done.optimizer.defaults["lr"] == 0.05


def test_the_code_makes_the_same_change(deep: Deep) -> None:
    model, batch, done = deep
    twin = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(done.code, {"model": twin, "loss": None, "batch": batch})
    kept = done.model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in twin.state_dict().items())


def test_it_trains_as_the_proof_says(deep: Deep) -> None:
    *_, done = deep
    model, optimizer = copy.deepcopy((done.model, done.optimizer))
    for x, y in digits() * 3:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.5


def test_everything_is_left_as_found() -> None:
    torch.manual_seed(0)
    model = stack(12, nn.ReLU, width=48)
    optimizer = SGD(model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    batches = digits()
    before = snapshot(model, optimizer)
    done = isograd.repair(model, batches[0], optimizer=optimizer, data=batches, budget=60)
    assert changes(before, snapshot(model, optimizer)) == []
    assert done.optimizer is not optimizer or not done.changed


def test_the_same_seed_gives_the_same_repair() -> None:
    torch.manual_seed(0)
    model = stack(12, nn.ReLU, width=32)
    batches = digits()
    one, two = (
        isograd.repair(model, batches[0], optimizer=SGD, data=batches, budget=90) for _ in range(2)
    )
    assert one.trials == two.trials
    assert one.verdict == two.verdict


def test_code_that_adds_parameters_makes_the_optimizer_last() -> None:
    torch.manual_seed(0)
    model, batches = stack(10, nn.ReLU, width=48), digits()
    done = isograd.repair(
        model, batches[0], optimizer=SGD, data=batches, budget=300, allow="normalization"
    )
    assert done.verdict == "repaired"
    names = {"model": copy.deepcopy(model)}
    exec(done.code, names)
    held = {id(p) for group in names["optimizer"].param_groups for p in group["params"]}
    assert held == {id(p) for p in names["model"].parameters()}
    assert len(held) > len(list(model.parameters()))
    assert names["optimizer"].param_groups[0]["momentum"] == 0.9


def test_a_budget_that_is_too_small_says_so(deep: Deep) -> None:
    model, batch, _ = deep
    done = isograd.repair(model, batch, optimizer=SGD, data=digits(), budget=6)
    assert done.verdict == "nothing-helps"
    assert "give a budget of 100 steps or more" in done.reason
    assert "further changes were not tried. A larger budget has room for that: budget=100." in (
        done.reason
    )
    assert done.reason.endswith("What the findings advise is for you to do.")


def test_batches_that_do_not_fit_the_model_are_an_error_of_the_data(deep: Deep) -> None:
    model, batch, _ = deep
    other = [(torch.randn(64, 3), batch[1])] * 9
    with pytest.raises(DataError, match="batches of data= have to be like batch="):
        isograd.repair(model, batch, optimizer=SGD, data=other)


def test_what_a_lost_run_counts_is_told() -> None:
    torch.manual_seed(0)
    model, batches = he(mlp(64, 40, 10)), digits()
    rate = functools.partial(torch.optim.SGD, lr=1e15)
    done = isograd.repair(model, batches[0], optimizer=rate, data=batches, budget=120)
    assert done.verdict == "repaired"
    lost = any(s > max(done.comparison.before) for s in done.trials[0].scores)
    assert lost is ("who has learned nothing, counts" in done.reason)
    assert lost


def test_a_healthy_network_is_left_alone() -> None:
    torch.manual_seed(0)
    model = he(mlp(64, 100, 90, 10))
    done = isograd.repair(model, digits()[0], optimizer=SGD, data=digits())
    assert done.verdict == "healthy"
    assert done.model is model
    assert done.cost.steps == 8
    assert "a copy learned in 8 steps" in done.reason
    assert not done.changed


def test_families_that_are_not_allowed_are_not_used() -> None:
    torch.manual_seed(0)
    model = stack(12, nn.ReLU, width=32)
    done = isograd.repair(
        model, digits()[0], optimizer=SGD, data=digits(), budget=60, allow=("optimizer",)
    )
    reasons = {one.remedy: one.reason for one in done.skipped}
    assert "not allowed" in reasons["init-gain"]
    assert not any(code.startswith("init-") for code in done.remedies)


@pytest.mark.parametrize("budget", [0, -3, 2.5, True, "soon", "0s", None])
def test_a_budget_that_is_none_is_refused(budget: object) -> None:
    with pytest.raises(InputError, match="budget"):
        isograd.repair(nn.Linear(4, 2), torch.randn(8, 4), budget=budget)


def test_more_steps_than_asked_for_are_told() -> None:
    torch.manual_seed(0)
    model = he(mlp(64, 40, 10))
    done = isograd.repair(model, digits()[0], optimizer=SGD, data=digits(), budget=1)
    assert f"budget: {done.cost.steps} steps were taken, not 1:" in " ".join(done.notes)
    kept = isograd.repair(model, digits()[0], optimizer=SGD, data=digits(), budget=40)
    assert kept.cost.steps <= 40
    assert not any(note.startswith("budget:") for note in kept.notes)
    took = "to see whether the network learns as it is"
    assert f"not 1: {done.cost.steps} {took}" in " ".join(done.notes)
    ill = isograd.repair(mlp(64, 40, 10).apply(zeroed), digits()[0], optimizer=SGD, budget=1)
    why = "of trials and their proof, which takes 6 or more"
    assert f"not 1: {ill.cost.steps} {why}" in " ".join(ill.notes)
    both = _closed(kept, 75, 0.0, 300, trials=276)
    assert both.cost.steps == 351
    assert both.notes[-1] == (
        f"budget: 351 steps were taken, not 300: 75 {took} and 276 of trials and their proof"
    )


def zeroed(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)


@pytest.mark.parametrize("ask", [isograd.check, isograd.repair])
def test_a_seed_that_is_none_is_refused(ask: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="seed='a' is a str; give a whole number"):
        ask(nn.Linear(4, 2), torch.randn(8, 4), seed="a")


@pytest.mark.parametrize(("allow", "told"), [((), "empty"), (("magic",), "'magic'.*init")])
def test_families_that_are_none_are_refused(allow: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        isograd.repair(nn.Linear(4, 2), torch.randn(8, 4), allow=allow)


def test_without_a_loss_nothing_can_be_tried() -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match="Without targets"):
        isograd.repair(stack(20, nn.ReLU), digits()[0][0])


def test_a_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only trainings move: 10 ms a step."""
    now, advance = 0.0, Runner.advance

    def slowly(runner: Runner, supply: Supply, steps: int) -> int:
        nonlocal now
        taken = advance(runner, supply, steps)
        now += 0.01 * taken
        return taken

    monkeypatch.setattr(Runner, "advance", slowly)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    torch.manual_seed(0)
    model = stack(12, nn.ReLU, width=32)
    done = isograd.repair(model, digits()[0], optimizer=SGD, data=digits(), budget="2s")
    assert 0.5 < done.cost.seconds <= 2
    assert done.cost.steps > 50


def test_steps_that_all_trials_go_on_from_are_of_the_budget() -> None:
    torch.manual_seed(0)
    slow = [(nn.Linear(64, 64), nn.BatchNorm1d(64, momentum=0.001), nn.ReLU()) for _ in range(3)]
    model = nn.Sequential(*(layer for block in slow for layer in block), nn.Linear(64, 10))
    done = isograd.repair(he(model), digits()[0], optimizer=SGD, data=digits(), budget=60)
    assert done.remedies == ("normalization-statistics",)
    assert 12 < done.cost.steps <= 60


def test_copies_of_a_compiled_network_are_not_compiled() -> None:
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        compiled.append(graph)
        return graph.forward

    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    model = torch.compile(inner, backend=backend)
    x = torch.randn(64, 20)
    done = isograd.repair(model, (x, x[:, :4].argmax(1)))
    assert done.verdict == "healthy"
    assert compiled == []
    model(x)
    assert len(compiled) == 1

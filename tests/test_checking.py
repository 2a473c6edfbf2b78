"""check() and assert_trainable(): what they hand on, and every error in one line."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.checking import assert_trainable, check
from isograd.errors import InputError, UntrainableError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.records import Reading, Record
from isograd.rules import RULES
from patients.snapshot import changes, snapshot

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(29, 7, generator=GENERATOR)
Y = torch.randint(5, (29,), generator=GENERATOR)


def network(depth: int = 1, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    torch.manual_seed(0)
    layers = [m for _ in range(depth) for m in (nn.Linear(17, 17), activation())]
    return nn.Sequential(nn.Linear(7, 17), *layers, nn.Linear(17, 5))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def test_one_look_judged_by_every_rule() -> None:
    diagnosis = check(network(), (X, Y))
    assert [v.code for v in diagnosis.verdicts] == [rule.code for rule in RULES]
    assert diagnosis.reading.history == ()
    assert not diagnosis.reading.seen.has("weight.update_ratio")
    assert diagnosis.reading.seen.step == 0


def test_an_optimizer_adds_its_facts() -> None:
    seen = check(network(), (X, Y), optimizer=sgd).reading.seen
    assert seen.fact("optimizer.lr") == 0.1
    assert seen.has("weight.update_ratio")


def test_steps_add_a_look() -> None:
    told: list[tuple[int, int]] = []
    data = [(X[:k], Y[:k]) for k in (11, 13)]
    diagnosis = check(
        network(), (X, Y), optimizer=sgd, data=data, steps=3, progress=lambda *at: told.append(at)
    )
    (last,) = diagnosis.reading.history
    losses = last.fact("rehearsal.losses")
    assert len(losses) == 3
    assert losses[0] == pytest.approx(float(F.cross_entropy(network()(X[:11]), Y[:11]).detach()))
    assert last.fact("batch.size") == 29
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_loss_is_handed_on() -> None:
    seen = check(network(), (X, Y), F.multi_margin_loss).reading.seen
    assert seen.fact("loss.name") == "multi_margin_loss"
    expected = float(F.multi_margin_loss(network()(X), Y).detach())
    assert seen.fact("loss.value") == pytest.approx(expected)


def test_the_seed_draws_the_probes() -> None:
    def rms(seed: int) -> Any:
        return check(network(), X, seed=seed).reading.seen.series["backward.rms"]

    assert rms(1) == rms(1)
    assert rms(1) != rms(2)


def test_theory_stands_beside_what_was_measured() -> None:
    reading = check(network(), (X, Y)).reading
    assert reading.expected is not None
    assert reading.expected.source == "predicted"
    assert [site.name for site in reading.expected.sites] == [s.name for s in reading.seen.sites]
    for key in ("forward.rms", "backward.rms"):
        ratios = [number / reading.expected.series[key][i] for i, number in reading.seen.pairs(key)]
        assert ratios == pytest.approx([1.0] * len(ratios), rel=0.3)
    assert check(network(), (X, Y), predict=False).reading.expected is None


def test_theory_stands_beside_a_rehearsal_too() -> None:
    reading = check(network(), (X, Y), optimizer=sgd, steps=2).reading
    assert reading.expected is not None
    assert len(reading.history) == 1


class Peeks(nn.Module):
    """Looks at a value, which no prediction has."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(x)
        return found if found.mean().item() > 0 else -found


def test_what_cannot_be_predicted_is_measured_all_the_same() -> None:
    seen = check(Peeks(), (X, Y)).reading.seen
    assert seen.has("backward.rms")
    (note,) = [note for note in seen.notes if note.startswith("no prediction: ")]
    assert "item() in" in note


def test_a_broken_prediction_costs_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Record:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("isograd.prediction.predicting.predict", broken)
    reading = check(network(), (X, Y)).reading
    assert reading.expected is None
    assert "no prediction: ZeroDivisionError: division by zero" in reading.seen.notes


class Remembers(nn.Module):
    """Keeps its last hidden state, as training over long sequences does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 5)
        self.state: Tensor | None = None
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.tanh(self.fc(x))
        if self.state is not None:
            found = found + self.state
        self.state = found.detach()
        self.seen.append(found)
        return found


def test_a_prediction_leaves_no_trace_in_the_model() -> None:
    model = Remembers()
    model(X)
    state, before = model.state, snapshot(model)
    assert check(model, (X, Y)).reading.expected is not None
    assert model.state is state
    assert len(model.seen) == 1
    assert changes(before, snapshot(model)) == []


def test_rules_are_chosen() -> None:
    states = {v.code: v.state for v in check(network(), (X, Y), select=["IG1"]).verdicts}
    assert all(
        (state == "ignored") == (not code.startswith("IG1")) for code, state in states.items()
    )
    states = {v.code: v.state for v in check(network(), (X, Y), ignore=["IG10"]).verdicts}
    assert all((state == "ignored") == code.startswith("IG10") for code, state in states.items())


def test_assert_trainable_hands_the_diagnosis_back() -> None:
    diagnosis = assert_trainable(network(), (X, Y))
    assert diagnosis.healthy


@pytest.mark.parametrize("fail_on", ["error", "warning", "info", Severity.ERROR, Severity.INFO])
def test_assert_trainable_fails_at_its_threshold(fail_on: Any) -> None:
    model = network(20, nn.Sigmoid)
    with pytest.raises(UntrainableError) as caught:
        assert_trainable(model, (X, Y), fail_on=fail_on)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).strip() == str(check(model, (X, Y))).strip()


@pytest.mark.parametrize("severity", list(Severity))
def test_a_threshold_lets_through_what_is_below(
    severity: Severity, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("IG999", severity, "data-bug", "1 thing.")
    made = Diagnosis((finding,), (), Reading(Record(())))
    monkeypatch.setattr("isograd.checking.check", lambda *args, **options: made)
    for threshold in Severity:
        if severity.weight >= threshold.weight:
            with pytest.raises(UntrainableError):
                assert_trainable(MODEL, (X, Y), fail_on=threshold)
        else:
            assert assert_trainable(MODEL, (X, Y), fail_on=threshold) is made


class Cut(nn.Module):
    """A detach() on the way to the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, 13), nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(torch.relu(self.first(x)).detach())
        return found


def test_a_failing_test_begins_with_what_to_fix() -> None:
    with pytest.raises(UntrainableError) as caught:
        assert_trainable(Cut(), (X, Y))
    assert isinstance(caught.value, AssertionError)
    # pytest's summary shows the first line alone
    first = str(caught.value).splitlines()[0]
    assert first.startswith("✗ 1 error")
    assert "fix first: graph-cut at first.weight" in first


def test_what_is_no_finding_or_not_severe_enough_passes() -> None:
    assert assert_trainable(nn.Linear(7, 5), (X, Y)).healthy
    diagnosis = assert_trainable(Cut(), (X, Y), ignore=["IG103"], fail_on="error")
    assert [v.state for v in diagnosis.verdicts if v.code == "IG103"] == ["ignored"]


def nan_inside() -> Tensor:
    bad = X.clone()
    bad[3, 4] = math.nan
    return bad


MODEL = network()

ERRORS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str, str]] = {
    "a class": (
        (nn.Linear, (X, Y)),
        {},
        "ModelError",
        r"^model: expected a torch.nn.Module, found a type; pass the model",
    ),
    "outputs": ((MODEL(X), (X, Y)), {}, "ModelError", "found a Tensor; pass the model itself"),
    "other width": (
        (MODEL, (X[:, :3], Y)),
        {},
        "ModelError",
        r"^model: '0' \(Linear, given float32\[29, 3\]\) raised RuntimeError: mat1.*; check that",
    ),
    "other type": (
        (MODEL, (X.double(), Y)),
        {},
        "ModelError",
        r"^model: '0' .*raised RuntimeError: .*inputs are float64\[29, 7\]; check",
    ),
    "too many inputs": (
        (MODEL, ((X, X), Y)),
        {},
        "ModelError",
        "^model: .*raised TypeError: .*positional argument.*; check that",
    ),
    "unknown keywords": (
        (MODEL, {"pixels": X}),
        {},
        "ModelError",
        "^model: .*raised TypeError: .*unexpected keyword.*; check that",
    ),
    "no batch": (
        (MODEL, "digits"),
        {},
        "DataError",
        r"^batch: expected a tensor, .*found a str; several inputs go",
    ),
    "not finite": (
        (MODEL, (nan_inside(), Y)),
        {},
        "DataError",
        r"^batch: input 0 holds 1 NaN or infinite values of 203 \(the first at \(3, 4\)\); remove",
    ),
    "other number of targets": (
        (MODEL, (X, Y[:5])),
        {},
        "LossError",
        r"^loss: none fits output float32\[29, 5\], targets int64\[5\]; pass loss=",
    ),
    "labels beyond": (
        (MODEL, (X, Y + 9)),
        {},
        "LossError",
        r"^loss: cross_entropy raised IndexError.*outputs float32\[29, 5\], targets .*; check that",
    ),
    "loss not a scalar": (
        (MODEL, (X, Y), nn.CrossEntropyLoss(reduction="none")),
        {},
        "LossError",
        r"^loss: CrossEntropyLoss returned float32\[29\]; it must return one real number",
    ),
    "loss not a tensor": (
        (MODEL, (X, Y), lambda o, t: 1.0),
        {},
        "LossError",
        "^loss: <lambda> returned a float; it must return a tensor",
    ),
    "loss raises": (
        (MODEL, (X, Y), lambda o, t: 1 / 0),
        {},
        "LossError",
        "^loss: <lambda> raised ZeroDivisionError: division by zero; outputs .*; check that loss",
    ),
    "loss no callable": (
        (MODEL, (X, Y), "mse"),
        {},
        "LossError",
        "^loss: 'mse' is no function of .*; pass one",
    ),
    "steps without an optimizer": (
        (MODEL, (X, Y)),
        {"steps": 3},
        "InputError",
        r"^check: steps=3 needs optimizer=, the model's optimizer or a factory",
    ),
    "negative steps": (
        (MODEL, (X, Y)),
        {"steps": -3, "optimizer": sgd},
        "InputError",
        "^check: steps=-3; it must be 0 or more",
    ),
    "no optimizer": (
        (MODEL, (X, Y)),
        {"optimizer": "adam"},
        "InputError",
        "^optimizer: expected a torch.optim.Optimizer or a factory .* found a str",
    ),
    "no rule": (
        (MODEL, (X, Y)),
        {"select": ["1G1"]},
        "InputError",
        r"^select: no rule has the code '1G1'; the rules are IG101, ",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("way", [check, assert_trainable], ids=["check", "assert_trainable"])
def test_errors(name: str, way: Any) -> None:
    """Each says in one line where, what was found and what to do; the model is as before."""
    args, options, kind, message = ERRORS[name]
    before = snapshot(MODEL)
    with pytest.raises(InputError, match=message) as caught:
        way(*args, **options)
    assert type(caught.value).__name__ == kind
    assert "\n" not in str(caught.value)
    assert changes(before, snapshot(MODEL)) == []


def test_a_threshold_that_is_none() -> None:
    pattern = "^assert_trainable: fail_on='fatal' is no severity; it is one of error, warning, info"
    with pytest.raises(InputError, match=pattern):
        assert_trainable(MODEL, (X, Y), fail_on="fatal")


def test_the_cause_of_an_error_is_kept() -> None:
    with pytest.raises(isograd.LossError) as caught:
        check(MODEL, (X, Y), lambda o, t: 1 / 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torch_jit_has_compiled_is_said_to_be_out_of_sight() -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 5)))
    diagnosis = isograd.check(model, (torch.randn(11, 7), torch.arange(11) % 5))
    (finding,) = (one for one in diagnosis.findings if one.code == "IG901")
    assert "All 122 parameters are in modules compiled by torch.jit" in finding.message


def test_a_rate_of_zero_is_told_and_one_that_a_schedule_raises_is_tried_at_its_height() -> None:
    model = network()
    idle = check(model, (X, Y), optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    assert [f.code for f in idle.findings] == ["IG304"]
    assert "is 0" in idle.findings[0].message
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    warming = check(model, (X, Y), optimizer=optimizer, steps=30)
    assert warming.healthy
    assert any("a schedule holds its rate at 0" in note for note in warming.reading.seen.notes)
    done = isograd.repair(model, (X, Y), optimizer=optimizer)
    assert done.verdict == "healthy"
    assert [group["lr"] for group in optimizer.param_groups] == [0.0]

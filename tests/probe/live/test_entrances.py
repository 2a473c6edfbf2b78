"""Loops that never call the model itself, and steps whose forward comes inside of them."""

import pytest
import torch
from torch import nn

import isograd


class Pair(nn.Module):
    """Called by its parts: `encoder`, then `heads[0]`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(7, 13), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(13, 3)])


def train(*, closure: bool, watched: bool, rule=torch.optim.SGD, parts: bool = True):
    torch.manual_seed(0)
    model = Pair()
    whole = nn.Sequential(model.encoder, model.heads[0])
    optimizer = rule(model.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(1)
    watch = isograd.watch(model if parts else whole, optimizer, every=2, sinks=(), on_finding=None)
    if watched:
        watch.open()
    samples = torch.randn(99, 7, generator=draw)
    for step in range(9):
        inputs = samples[11 * step :][:11]  # what is done to data is no part of the model
        targets = torch.randint(3, (11,), generator=draw)

        def compute(inputs=inputs, targets=targets):
            optimizer.zero_grad()
            outputs = model.heads[0](model.encoder(inputs)) if parts else whole(inputs)
            loss = nn.functional.cross_entropy(outputs, targets)
            loss.backward()
            return loss

        if closure:
            optimizer.step(compute)
        else:
            compute()
            optimizer.step()
    watch.close()
    return model, watch


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.parametrize("closure", [False, True])
def test_a_model_that_is_called_by_its_parts(closure):
    plain, _ = train(closure=closure, watched=False)
    model, watch = train(closure=closure, watched=True)
    _, whole = train(closure=closure, watched=True, parts=False)
    assert same(plain, model)
    assert watch.failure is None
    assert watch.losses == whole.losses
    for ours, theirs in zip(
        (watch.reading.seen, watch.record), (whole.reading.seen, whole.record), strict=True
    ):
        assert [site.inputs for site in ours.sites] == [(), (0,), (1,)]
        assert ours.step == theirs.step
        assert ours.facts["batch.size"] == 11
        for key in ("forward.rms", "backward.rms", "weight.update_ratio"):
            assert ours.series[key] == theirs.series[key], key
    assert watch.reading.seen.facts["loss.kind"] == "cross_entropy"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_only_the_parts_that_are_called_keep_their_hooks():
    model = Pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with isograd.watch(model, optimizer, every=5, sinks=(), on_finding=None):
        for _ in range(2):
            model.heads[0](model.encoder(torch.randn(5, 7))).sum().backward()
            optimizer.step()
        hooked = [n for n, m in model.named_modules() if m._forward_pre_hooks]
    assert [name for name in hooked if name] == ["encoder", "heads.0"]


def test_a_model_that_is_called_itself_has_no_hooks_on_its_parts():
    model = nn.Sequential(nn.Linear(7, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with isograd.watch(model, optimizer, every=5, sinks=(), on_finding=None):
        model(torch.randn(5, 7)).sum().backward()
        optimizer.step()
        assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.LBFGS])
def test_a_step_with_a_closure_is_read_before_and_after(rule):
    plain, _ = train(closure=True, watched=False, rule=rule, parts=False)
    model, watch = train(closure=True, watched=True, rule=rule, parts=False)
    assert same(plain, model)
    first = watch.reading.seen
    torch.manual_seed(0)
    start = [p.detach().double() for p in Pair().parameters()]
    rms = [float(p.square().mean().sqrt()) for p in start]
    assert first.series["weight.rms"] == pytest.approx(rms, rel=1e-6)
    assert all(ratio > 0 for ratio in first.series["weight.update_ratio"])


def test_a_closure_that_is_given_by_name():
    model = nn.Linear(7, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def compute():
        loss = model(torch.ones(5, 7)).sum()
        loss.backward()
        return loss

    with isograd.watch(model, optimizer, sinks=(), on_finding=None) as watch:
        returned = optimizer.step(closure=compute)
    assert watch.losses[0] == (0, float(returned.detach()))
    assert watch.record.series["weight.update_ratio"][0] > 0


def test_a_model_that_cannot_be_run_again_is_told_of_to_within_a_site():
    class Once(nn.Module):
        """Runs where the loop says that it may, as what Lightning hands to DDP does."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(7, 5), nn.Linear(5, 3)
            self.allowed = 0

        def forward(self, x):
            self.allowed -= 1
            if self.allowed < 0:
                raise RuntimeError("only inside of the loop")
            return self.second(self.first(x))

    model = Once()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for step in range(6):
            model.allowed = 1
            inputs = torch.full((5, 7), torch.inf if step == 3 else 1.0)
            optimizer.zero_grad()
            model(inputs).sum().backward()
            optimizer.step()
    assert watch.failure is None
    assert "Step 3: the first non-finite value came out of linear in first" in watch.explain_nan()


@pytest.mark.parametrize("where", ["batch", "encoder", "head", "loop"])
def test_where_a_nan_came_from(where):
    torch.manual_seed(0)
    model = Pair()
    model.heads[0] = nn.Sequential(nn.Linear(13, 3), Root())
    model.encoder.append(Root())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with isograd.watch(model, optimizer, sinks=(), on_finding=None) as watch:
        for step in range(60):
            now = step == 57  # far from every look of the schedule
            inputs = torch.randn(11, 7) * (float("nan") if now and where == "batch" else 1)
            model.encoder[-1].low = -1.0 if now and where == "encoder" else 1.0
            model.heads[0][-1].low = -1.0 if now and where == "head" else 1.0
            optimizer.zero_grad()
            hidden = model.encoder(inputs)
            out = model.heads[0](hidden / 0 if now and where == "loop" else hidden)
            nn.functional.cross_entropy(out, torch.arange(11) % 3).backward()
            optimizer.step()
    (finding,) = [a.finding for a in watch.alarms if a.finding.code == "IG401"]
    said = watch.explain_nan()
    assert "after 57 steps" in finding.message
    assert said.startswith("Step 57")
    op, module = {
        "batch": ("linear", "encoder.0"),
        "encoder": ("sqrt", "encoder.2"),
        "head": ("sqrt", "heads.0.1"),
        "loop": ("linear", "heads.0.0"),
    }[where]
    assert f"came out of {op} in {module}" in said
    assert finding.cause == ("data-bug" if where in ("batch", "loop") else "local-nan")


class Root(nn.Module):
    """A square root of what is positive, as long as nobody changes `low`."""

    low = 1.0

    def forward(self, x):
        return (x.abs() * self.low + self.low).sqrt()

"""Loops of every kind: what is counted, once each, and in the unit of the loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watched_loops import RMS, Loop, Net, data, looks, make, plain, same, watched

import isograd


def test_micro_batches_add_up() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        x, y = data()
        for _ in range(3):
            optimizer.zero_grad()
            for half in (slice(0, 16), slice(16, 32)):
                (F.cross_entropy(model(x[half]), y[half]) / 2).backward()
            optimizer.step()

    parts, whole = watched(make(), loop), watched(make(), plain)
    assert [r.facts["loss.value"] for r in looks(parts)] == pytest.approx(
        [r.facts["loss.value"] for r in looks(whole)], rel=1e-5
    )
    for one, other in zip(looks(parts)[1:], looks(whole)[1:], strict=True):
        same(one, other, *RMS, "forward.count", "forward.dead", "weight.update_ratio")
        assert one.facts["batch.size"] == 32


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_block_is_read_once(reentrant: bool) -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        x, y = data()
        x.requires_grad_()  # what reentrant checkpointing asks for
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    one, other = watched(make(reentrant), loop), watched(make(), plain)
    for a, b in zip(looks(one)[1:], looks(other)[1:], strict=True):
        for name in ("first.0", "second.0", "second.1", "head"):
            i, j = ([s.name for s in r.sites].index(name) for r in (a, b))
            for key in ("forward.rms", "forward.count", "backward.rms", "backward.count"):
                assert a.value(key, i) == pytest.approx(b.value(key, j), rel=1e-5), (name, key)


def test_evaluation_in_between_is_not_counted() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        x, y = data()
        for _ in range(3):
            optimizer.zero_grad()
            with torch.no_grad():
                model(100 * x)
            F.cross_entropy(model(x), y).backward()
            model.eval()
            with torch.inference_mode():
                model(100 * x)
            model.train()
            optimizer.step()

    one, other = watched(make(), loop), watched(make(), plain)
    for a, b in zip(looks(one), looks(other), strict=True):
        same(a, b, *RMS, "forward.count")


def scaled(scale: float, poison: int | None = None) -> Loop:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
        x, y = data()
        for step in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if step == poison:
                loss = loss * torch.tensor(1e38)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return loop


def test_the_loss_scale_is_divided_out() -> None:
    one = watched(make(), scaled(1024.0))
    other = watched(make(), lambda m, o: plain(m, o, steps=4))
    for a, b in zip(looks(one), looks(other), strict=True):
        same(a, b, *RMS, "weight.update_ratio")
        assert a.facts["loss.value"] == pytest.approx(b.facts["loss.value"])
        assert a.facts["watch.scale"] == 1024.0


def test_a_step_that_the_scaler_leaves_out_is_a_step() -> None:
    watch = watched(make(), scaled(2.0**20, poison=2))
    assert watch.step == 4
    assert looks(watch)[-1].facts["watch.skipped"] == 1
    assert [r.step for r in looks(watch)] == [0, 1, 2, 3]


def test_a_closure_that_is_evaluated_again_and_again() -> None:
    """Of a step of LBFGS that is read which is at the weights where it begins."""
    model = make()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x, y = data()
    first: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        return loss

    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for _ in range(4):
            losses: list[float] = []
            optimizer.step(closure)
            assert len(losses) > 1
            first.append(losses[0])
    assert watch.failure is None
    assert [value for _, value in watch.losses] == pytest.approx(first)
    for one, other in zip(looks(watch)[1:2], looks(watched(make(), plain))[:1], strict=True):
        same(one, other, "forward.count", "backward.count")
        assert (one.facts["batch.size"], one.has("weight.grad_rms")) == (32, True)
    assert watch.diagnosis is not None
    (verdict,) = [v for v in watch.diagnosis.verdicts if v.code == "IG304"]
    assert verdict.state == "not-applicable"


class Both(nn.Module):
    """Two networks that are trained against each other."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))
        self.judge = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


@pytest.mark.parametrize("name", ["maker", "judge"])
@pytest.mark.parametrize("cleared_first", [True, False])
def test_of_two_networks_that_judge_each_other_one_is_read(name: str, cleared_first: bool) -> None:
    torch.manual_seed(3)
    both = Both()
    steps = {k: torch.optim.Adam(m.parameters(), 1e-3) for k, m in both.named_children()}
    real, score = data()[0], F.binary_cross_entropy_with_logits
    own: list[float] = []
    watch = isograd.watch(getattr(both, name), steps[name], every=1, sinks=(), on_finding=None)
    with watch:
        for _ in range(8):
            fake = both.maker(torch.randn(32, 6))
            if cleared_first:
                steps["judge"].zero_grad()
            losses = [score(both.judge(real), torch.ones(32, 1))]
            losses.append(score(both.judge(fake.detach()), torch.zeros(32, 1)))
            if not cleared_first:
                steps["judge"].zero_grad()
            for loss in losses:
                loss.backward()
            steps["judge"].step()
            steps["maker"].zero_grad()
            last = score(both.judge(fake), torch.ones(32, 1))
            last.backward()
            steps["maker"].step()
            own.append((last if name == "maker" else losses[0] + losses[1]).item())
    assert watch.failure is None
    assert [value for _, value in watch.losses] == pytest.approx(own)
    times = 1 if name == "maker" else 2
    for look in looks(watch)[1:]:
        assert look.facts["batch.size"] == 32 * times
        assert look.series["forward.count"][0] == 32 * 16 * times or not cleared_first
        assert (look.series["backward.rms"][0] or 0) > 0
        assert look.facts["gradient.carried"] == 0


def test_what_is_cleared_before_the_step_is_not_of_it() -> None:
    """SAM climbs along one gradient, and steps along another."""

    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        x, y = data()
        for _ in range(3):
            F.cross_entropy(model(100 * x), y).backward()
            model.zero_grad(set_to_none=False)
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    one, other = watched(make(), loop), watched(make(), plain)
    assert one.losses == other.losses
    for a, b in zip(looks(one), looks(other), strict=True):
        same(a, b, *RMS, "forward.count", "weight.update_ratio")
        assert a.facts["batch.size"] == 32


def test_gradients_that_nobody_clears() -> None:
    def loop(clear: int) -> Loop:
        def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            x, y = data()
            for step in range(6):
                if clear and step % clear == 0:
                    for p in model.parameters():
                        p.grad = None
                F.cross_entropy(model(x), y).backward()
                optimizer.step()

        return loop

    # By hand: of the sample that is all of each parameter, the gradient before over that after.
    model, sizes = make(), []
    optimizer, (x, y) = torch.optim.SGD(model.parameters(), 0.1), data()
    for _ in range(6):
        old = [p.grad for p in model.parameters() if p.grad is not None]
        before = math.sqrt(sum(float(g.square().sum()) for g in old))
        F.cross_entropy(model(x), y).backward()
        now = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))  # type: ignore[union-attr]
        sizes.append(before / now)
        optimizer.step()
    watch = watched(make(), loop(0))
    assert [r.facts["gradient.carried"] for r in looks(watch)] == pytest.approx(sizes, rel=1e-5)
    assert [a.finding.cause for a in watch.alarms if a.finding.code == "IG309"] == [
        "stale-gradient"
    ]
    assert not [a for a in watched(make(), loop(1)).alarms if a.finding.code == "IG309"]
    assert [a for a in watched(make(), loop(3)).alarms if a.finding.code == "IG309"]


def test_another_model_in_the_same_loop_is_left_alone() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        other = nn.Linear(8, 4)
        its = torch.optim.SGD(other.parameters(), 0.1)
        x, y = data()
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            (1e6 * other(x).sum()).backward()
            its.step()

    one, other = watched(make(), loop), watched(make(), plain)
    assert one.losses == other.losses
    for a, b in zip(looks(one), looks(other), strict=True):
        same(a, b, *RMS)


def test_parts_of_a_large_tensor_tell_its_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 4))
    x = torch.randn(512, 64)
    y = torch.randint(4, (512,))

    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    watch = watched(model, loop)
    _, part, _ = looks(watch)
    count = part.series["forward.count"][0]
    assert count is not None
    assert count == 2**12
    model.zero_grad()
    # The last step moved the weights a little: the sizes are those of the look before within 3 %.
    assert part.series["forward.rms"][0] == pytest.approx(
        float(model[0](x).detach().std()), rel=0.03
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_two_hundred_steps_to_the_last_bit(bf16: bool) -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        x, y = data()
        for _ in range(200):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()

    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(Net(), nn.Dropout(0.2), nn.BatchNorm1d(4))

    bare, seen, sometimes = build(), build(), build()
    torch.manual_seed(5)
    loop(bare, torch.optim.SGD(bare.parameters(), 0.1))
    assert watched(seen, loop).step == 200
    torch.manual_seed(5)
    with isograd.watch(sometimes, sinks=(), on_finding=None) as watch:
        loop(sometimes, torch.optim.SGD(sometimes.parameters(), 0.1))
    assert watch.failure is None
    for a, b, c in zip(bare.parameters(), seen.parameters(), sometimes.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_losses_of_all_steps_are_kept() -> None:
    watch = watched(make(), lambda m, o: plain(m, o, steps=20))
    assert [step for step, _ in watch.losses] == list(range(20))
    assert all(math.isfinite(value) for _, value in watch.losses)

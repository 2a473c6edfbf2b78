"""The Transformers callback in the real Trainer, and Accelerate's objects in a plain loop."""

import pytest
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

import isograd
from isograd.errors import InputError
from isograd.integrations.transformers import IsogradCallback

pytestmark = pytest.mark.filterwarnings("ignore", "error::isograd.errors.IsogradWarning")


def model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 12, "n_positions": 16, "vocab_size": 23}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


def texts(count: int = 24) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(7)
    tokens = torch.randint(23, (count, 10), generator=draw)
    return [{"input_ids": row, "labels": row} for row in tokens]


class Notes(transformers.TrainerCallback):
    """What the trainer itself logs."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def fit(folder, callback=None, **settings):
    net, notes = model(), Notes()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        **{
            "use_cpu": True,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "max_steps": 6,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            **settings,
        },
    )
    trainer = transformers.Trainer(
        net,
        arguments,
        train_dataset=texts(),
        eval_dataset=texts(4),
        callbacks=[notes, *([callback] if callback else [])],
    )
    trainer.train()
    return net, notes, trainer


def watching(**options) -> IsogradCallback:
    return IsogradCallback(**{"sinks": (), "on_finding": None, "every": 2, **options})


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"gradient_checkpointing": True}])
def test_every_step_is_seen_and_nothing_changed(tmp_path, settings):
    plain, _, _ = fit(tmp_path, **settings)
    callback = watching()
    net, notes, _ = fit(tmp_path, callback, **settings)
    watch = callback.watch
    assert watch.failure is None
    assert same(plain, net)
    assert watch.step == 6
    assert [step for step, _ in watch.losses] == list(range(6))
    assert [loss for _, loss in watch.losses] == pytest.approx(notes.losses, abs=1e-3)
    history = [watch.reading.seen, *watch.reading.history]
    assert [record.step for record in history] == [0, 2, 4]
    for record in history:
        assert record.facts["batch.size"] == 4
        ratios = zip(record.parameters, record.series["weight.update_ratio"], strict=True)
        assert all(ratio > 0 for parameter, ratio in ratios if parameter.name.endswith("weight"))
    assert "transformer.h.1.mlp.c_fc" in [site.name for site in watch.record.sites]
    assert hooks(net) == hooks(plain)


def test_accumulated_batches_are_one_step(tmp_path):
    plain, _, _ = fit(tmp_path, gradient_accumulation_steps=3, max_steps=2)
    callback = watching(every=1)
    net, notes, _ = fit(tmp_path, callback, gradient_accumulation_steps=3, max_steps=2)
    assert same(plain, net)
    assert callback.watch.step == 2
    losses = [loss for _, loss in callback.watch.losses]
    assert losses == pytest.approx(notes.losses, abs=1e-3)
    assert callback.watch.record.facts["batch.size"] == 12


def test_stop_stops_the_trainer_its_own_way(tmp_path, recwarn):
    file = tmp_path / "run.isograd"
    callback = watching(on_finding="stop", sinks=("sqlite",), run=file)
    _, _, trainer = fit(tmp_path, callback, learning_rate=1e30, max_steps=30, max_grad_norm=0.0)
    assert 0 < trainer.state.global_step < 30
    assert callback.watch.step == trainer.state.global_step
    assert any("training is stopped at step" in str(w.message) for w in recwarn)
    with isograd.open_run(file) as run:
        assert run.session.state == "stopped at a finding"


def test_a_training_that_failed_ends_when_the_next_begins(tmp_path):
    file = tmp_path / "run.isograd"

    class Breaks(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise RuntimeError("no more disk")

    callback = watching(sinks=("sqlite",), run=file)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=6, report_to=[], disable_tqdm=True
    )
    broken = transformers.Trainer(
        model(), arguments, train_dataset=texts(), callbacks=[callback, Breaks()]
    )
    with pytest.raises(RuntimeError, match="no more disk"):
        broken.train()
    with isograd.open_run(file) as run:
        assert run.session.state == "running"
    fit(tmp_path, callback)
    with isograd.open_run(file, session=1) as run:
        assert run.session.state == "ended by an exception"
    with isograd.open_run(file) as run:
        assert run.session.state == "finished"


def test_an_argument_that_watch_does_not_have():
    with pytest.raises(InputError, match="no argument 'model'"):
        IsogradCallback(model=None)


def accelerated(watched: bool, *, precision: str = "no", accumulate: int = 1):
    torch.manual_seed(0)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulate
    )
    net = nn.Sequential(nn.Linear(5, 11), nn.Dropout(0.3), nn.ReLU(), nn.Linear(11, 3))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(7)
    inputs = torch.randn(42, 5, generator=draw)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=7
    )
    net, optimizer, data = accelerator.prepare(net, optimizer, data)
    watch = isograd.watch(net, optimizer, every=1, sinks=(), on_finding=None)
    if watched:
        watch.open()
    for _ in range(2):
        for batch, targets in data:
            with accelerator.accumulate(net):
                loss = nn.functional.cross_entropy(net(batch), targets)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    watch.close()
    return net, watch


@pytest.mark.parametrize(
    ("precision", "accumulate", "steps"), [("no", 1, 12), ("bf16", 1, 12), ("bf16", 3, 4)]
)
def test_accelerate_in_a_plain_loop(precision, accumulate, steps):
    plain, _ = accelerated(False, precision=precision, accumulate=accumulate)
    net, watch = accelerated(True, precision=precision, accumulate=accumulate)
    assert watch.failure is None
    assert same(plain, net)
    assert watch.step == len(watch.losses) == steps
    assert [r.step for r in watch.reading.history] == list(range(1, steps))
    assert watch.record.facts["batch.size"] == 7 * accumulate
    assert all(ratio > 0 for ratio in watch.record.series["weight.update_ratio"])

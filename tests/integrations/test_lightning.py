"""The Lightning callback, in real trainings by the real Trainer."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from isograd.errors import InputError, UntrainableError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_lightning as lightning

    from isograd.integrations.lightning import IsogradCallback

pytestmark = pytest.mark.filterwarnings("ignore", "error::isograd.errors.IsogradWarning")


class Classifier(lightning.LightningModule):
    """Calls a part of itself, never itself; notes its losses."""

    def __init__(self, *, manual: bool = False, rate: float = 0.1, broken: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 11), nn.Dropout(0.3), nn.ReLU(), nn.Linear(11, 3))
        self.automatic_optimization = not manual
        self.rate, self.broken, self.seen = rate, broken, []

    def training_step(self, batch, index):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs), targets)
        self.seen.append(float(loss.detach()))
        if index == self.broken:
            raise RuntimeError("no more data")
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch, _):
        self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)


def data(samples: int = 42) -> DataLoader:
    draw = torch.Generator().manual_seed(7)
    inputs = torch.randn(samples, 5, generator=draw)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=7)


def fit(callback=None, *, epochs=2, accumulate=1, **settings):
    torch.manual_seed(0)
    model = Classifier(**settings)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        gradient_clip_val=None if settings.get("manual") else 1.0,
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data(), data(14))
    return model, trainer


def watching(**options) -> IsogradCallback:
    return IsogradCallback(**{"sinks": (), "on_finding": None, "every": 2, **options})


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("manual", [False, True])
def test_every_step_is_seen_and_nothing_changed(manual):
    plain, _ = fit(manual=manual)
    callback = watching()
    model, _ = fit(callback, manual=manual)
    watch = callback.watch
    assert watch.failure is None
    assert same(plain, model)
    assert watch.losses == tuple(enumerate(model.seen))  # neither sanity check nor validation
    assert watch.step == len(model.seen) == 12
    history = [watch.reading.seen, *watch.reading.history]
    assert [record.step for record in history] == [0, 2, 4, 6, 8, 10]
    for record in history:
        assert record.facts["batch.size"] == 7
        assert all(ratio > 0 for ratio in record.series["weight.update_ratio"])
    assert [site.name for site in watch.record.sites] == ["net.0", "net.1", "net.2", "net.3"]
    assert history[0].facts["loss.kind"] == "cross_entropy"
    assert not any(m._forward_hooks for m in model.modules())


def test_accumulated_batches_are_one_step():
    plain, _ = fit(accumulate=3)
    callback = watching(every=1)
    model, _ = fit(callback, accumulate=3)
    assert same(plain, model)
    assert callback.watch.step == 4
    means = [sum(model.seen[i : i + 3]) / 3 for i in range(0, 12, 3)]
    assert [loss for _, loss in callback.watch.losses] == pytest.approx(means, rel=1e-6)
    assert callback.watch.record.facts["batch.size"] == 21


def test_stop_stops_the_trainer_its_own_way(recwarn):
    callback = watching(on_finding="stop")
    model, trainer = fit(callback, rate=1e30, epochs=9)
    assert trainer.should_stop
    assert len(model.seen) < 20
    assert any("training is stopped at step" in str(w.message) for w in recwarn)


def test_raise_reaches_the_caller_and_ends_the_run(tmp_path):
    from isograd import open_run

    file = tmp_path / "run.isograd"
    callback = watching(on_finding="raise", sinks=("sqlite",), run=file)
    with pytest.raises(UntrainableError, match="IG"):
        fit(callback, rate=1e30)
    with open_run(file) as run:
        assert run.session.state == "ended by UntrainableError"


def test_an_exception_ends_the_run_and_another_training_can_begin(tmp_path):
    from isograd import open_run

    file = tmp_path / "run.isograd"
    callback = watching(sinks=("sqlite",), run=file)
    with pytest.raises(RuntimeError, match="no more data"):
        fit(callback, broken=3)
    with open_run(file) as run:
        assert run.session.state == "ended by RuntimeError"
    fit(callback)
    with open_run(file) as run:
        assert run.session.state == "finished"
        assert run.session.number == 2


def test_an_argument_that_watch_does_not_have():
    with pytest.raises(InputError, match="no argument 'evry'; there is run, overhead, every"):
        IsogradCallback(evry=3)

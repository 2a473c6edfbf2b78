"""The sinks that other people's programs show: what was written is read by their own readers."""

import json
import math
import struct
import sys
import threading
from dataclasses import replace

import pytest
from made_runs import INFO, alarm, look

from isograd.errors import IsogradWarning
from isograd.findings import Diagnosis, Finding, Severity
from isograd.records import Reading
from isograd.sinks import SINKS, Sinks
from isograd.sinks.mlflow import Mlflow
from isograd.sinks.wandb import Wandb
from isograd.testing import check_sink

VALUES = {"forward.rms/linear": 4.25, "optimizer.lr": 0.5, "weight.rms/linear": 3.0}
"""Of the look at step 4: of a, of the optimizer, of the weights a, b and c."""

pytestmark = pytest.mark.filterwarnings("ignore:The ..noload.. loader")  # MLflow's own models


@pytest.fixture
def info(tmp_path):
    return replace(INFO, path=str(tmp_path / "runs" / "today.isograd"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of MLflow for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path, monkeypatch):
    """The packages write into this test's folder, reach no network, and leave no thread."""
    monkeypatch.chdir(tmp_path)
    for name in ("DIR", "CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t not in before and t.is_alive()] == []


def drive(sinks: Sinks, info) -> None:
    finding = Finding("IG201", Severity.ERROR, "dead-units", "They died.", ("a:relu",))
    sinks.open(info)
    sinks.record(look(0))
    sinks.losses([(0, 2.5), (1, math.nan), (2, 1.5)])
    sinks.alarms([alarm()])
    sinks.record(look(4))
    sinks.alarms([alarm("withdrawn", last=8)])
    sinks.close(Diagnosis((finding,), (), Reading(look(0))), "interrupted")


def test_tensorboard_shows_curves_and_how_the_layers_spread(info, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drive(Sinks(["tensorboard"]), info)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "today.tensorboard"
    events = EventAccumulator(str(folder))
    events.Reload()

    def scalars(name):
        return [(event.step, event.value) for event in events.Scalars(name)]

    assert repr(scalars("loss")) == "[(0, 2.5), (1, nan), (2, 1.5)]"
    for name, value in VALUES.items():
        assert scalars(name)[-1] == (4, value)
    assert scalars("alarms") == [(0, 0), (4, 1)]
    assert len(events.Tags()["scalars"]) < 20
    weights = events.Histograms("layers/log10 weight.rms")[-1]
    assert weights.step == 4
    assert weights.histogram_value.num == 3
    assert weights.histogram_value.max == pytest.approx(math.log10(4), rel=1e-6)
    assert {t.rpartition("/")[0] for t in events.Tags()["tensors"]} == {"run", "alarms", "end"}
    (told, over) = events.Tensors("alarms/text_summary")
    assert (told.step, over.step) == (5, 8)
    assert b"**IG201** raised, dead-units: 2 of 7" in told.tensor_proto.string_val[0]
    assert (
        b"IG201 dead-units: They died"
        in events.Tensors("end/text_summary")[0].tensor_proto.string_val[0]
    )
    assert capsys.readouterr().out == ""


def scan(folder):
    """Every record in the file that an offline run of W&B leaves: LevelDB's log of protobufs."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.rglob("*.wandb")
    data, at, whole = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is padding
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history(records):
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def test_wandb_opens_a_run_where_there_is_none(info, tmp_path, capsys):
    import wandb

    drive(Sinks([Wandb(project="nets")]), info)
    assert wandb.run is None
    wandb.teardown()
    records = list(scan(tmp_path))
    rows = list(history(records))
    assert [row["isograd/step"] for row in rows] == [0, 0, 1, 2, 4]
    assert [row.get("isograd/loss") for row in rows[1:4]] == [
        2.5,
        pytest.approx(math.nan, nan_ok=True),
        1.5,
    ]
    assert {name: rows[-1][f"isograd/{name}"] for name in VALUES} == VALUES
    kinds = [record.WhichOneof("record_type") for record in records]
    (alert,) = [r.alert for r in records if r.WhichOneof("record_type") == "alert"]
    assert (alert.title, alert.level) == ("IG201 dead-units", "WARN")
    assert (
        records[kinds.index("run")].run.project,
        records[kinds.index("exit")].exit.exit_code,
    ) == ("nets", 1)
    assert capsys.readouterr().out == ""


def test_wandb_logs_to_the_run_that_is_open_and_leaves_it_open(info, tmp_path):
    import wandb

    with wandb.init(project="theirs", dir=str(tmp_path)) as run:
        run.log({"accuracy": 0.5})
        drive(Sinks(["wandb"]), info)
        assert wandb.run is run
        run.log({"accuracy": 0.75})
        assert run.step == 7  # W&B's counter takes every call; ours have an axis of their own
        assert run.summary["isograd/outcome"] == "interrupted"
    wandb.teardown()
    records = list(scan(tmp_path))
    axes = {
        r.metric.glob_name or r.metric.name: r.metric.step_metric
        for r in records
        if r.WhichOneof("record_type") == "metric"
    }
    assert axes == {"isograd/step": "", "isograd/*": "isograd/step"}
    assert [row["accuracy"] for row in history(records) if "accuracy" in row] == [0.5, 0.75]


def test_mlflow_begins_a_run_where_none_is_active(info, store, capsys):
    import mlflow

    drive(Sinks([Mlflow(tracking_uri=store, experiment="nets")]), info)
    client = mlflow.MlflowClient(store)
    place = client.get_experiment_by_name("nets").experiment_id
    (run,) = client.search_runs([place])
    assert (run.info.run_name, run.info.status) == ("night shift", "FAILED")

    def metric(name):
        rows = client.get_metric_history(run.info.run_id, f"isograd/{name}")
        return [(row.step, row.value) for row in sorted(rows, key=lambda row: row.step)]

    assert repr(metric("loss")) == "[(0, 2.5), (1, nan), (2, 1.5)]"
    for name, value in VALUES.items():
        assert metric(name)[-1] == (4, value)
    assert metric("alarms") == [(0, 0), (4, 1)]
    tags = {key: text for key, text in run.data.tags.items() if key.startswith("isograd.")}
    assert tags == {
        "isograd.model.name": "Net",
        "isograd.lr": "(1, 2)",
        "isograd.IG201": "withdrawn at step 8: 2 of 7 units died.",
        "isograd.outcome": "interrupted",
        "isograd.findings": "IG201 dead-units",
    }
    assert capsys.readouterr().out == ""


def test_mlflow_logs_to_the_active_run_and_leaves_it_active(info, store):
    import mlflow

    mlflow.set_tracking_uri(store)
    try:
        with mlflow.start_run() as run:
            for _ in range(2):  # two trainings in one run
                drive(Sinks(["mlflow"]), info)
            assert mlflow.active_run().info.run_id == run.info.run_id
        found = mlflow.get_run(run.info.run_id)
        assert found.info.status == "FINISHED"
        assert found.data.metrics["isograd/forward.rms/linear"] == 4.25
    finally:
        mlflow.set_tracking_uri(None)


def test_mlflow_is_called_seldom_and_gets_everything(info, store, monkeypatch):
    sink = Mlflow(tracking_uri=store, experiment="seldom")
    sink.open(info)
    calls = []
    monkeypatch.setattr(sink._client, "log_batch", lambda _, metrics: calls.append(metrics))
    for step in range(500):
        sink.losses([(step, step / 2)])
        sink.record(look(step))
    seldom = len(calls)
    sink.close(None, "finished")
    assert seldom < 20
    assert max(map(len, calls)) <= 1000
    losses = [(m.step, m.value) for call in calls for m in call if m.key == "isograd/loss"]
    assert losses == [(step, step / 2) for step in range(500)]


@pytest.mark.parametrize(
    ("code", "package", "extra"),
    [
        ("tensorboard", "torch.utils.tensorboard", "tensorboard"),
        ("wandb", "wandb", "wandb"),
        ("mlflow", "mlflow", "mlflow"),
    ],
)
def test_a_package_that_is_missing_is_named_and_the_training_goes_on(
    info, monkeypatch, code, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    sinks = Sinks([code])
    with pytest.warns(IsogradWarning, match=rf"{code}.*pip install 'isograd\[{extra}\]'"):
        sinks.open(info)
    sinks.losses([(0, 1.0)])
    sinks.close()


@pytest.mark.parametrize("code", [sink.code for sink in SINKS])
def test_every_sink_keeps_the_contract(code, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    check_sink(type(SINKS[code])())
    if code == "wandb":
        sys.modules["wandb"].teardown()

"""A watched run in its file: what is written is read, also while it is written."""

import math
import os
import sqlite3
from dataclasses import replace

import pytest
from made_runs import INFO, alarm, look

import isograd
from isograd.errors import RunTakenError, StorageError
from isograd.findings import Diagnosis, Finding, Severity, Verdict
from isograd.records import Reading, Record, Site
from isograd.storage import RunWriter, load, open_run, save, sessions


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.isograd"


def test_records_come_back(file):
    writer = RunWriter(file, INFO)
    looks = [look(step) for step in (0, 1, 4)]
    for one in looks:
        writer.add(one)
    with open_run(file) as run:  # the writer is still at work
        assert repr(run.records()) == repr(tuple(looks))
        assert run.steps == (0, 1, 4)
        assert repr(run.record(4)) == repr(look(4))
        assert run.session.state == "running"
        assert run.session.info == replace(INFO, path=str(file))
    writer.close()


def test_facts_notes_and_histograms_of_each_look_come_back(file):
    first = replace(look(0), histograms={"forward.exponents": ((0, 3), (1, 2), (5, 0))})
    facts = {"optimizer.lr": 0.25, "loss.value": math.nan, "odd": {1: ("nan", None)}}
    second = replace(look(1), facts=facts, notes=("other", "notes"))
    third = look(2, **{"optimizer.lr": 1})
    writer = RunWriter(file, INFO)
    for one in (first, second, third):
        writer.add(one)
    writer.close()
    with open_run(file) as run:
        assert repr(run.records()) == repr((first, second, third))


def test_another_set_of_sites_in_the_middle(file):
    other = Record(
        (Site("a", "linear", "Linear", 1, (9, 7)), Site("c", "add", "add", 1, (9, 7), (0,))),
        series={"forward.rms": (8.0, 9.0)},
        source="predicted",
        step=1,
    )
    writer = RunWriter(file, INFO)
    for one in (look(0), other, look(2)):
        writer.add(one)
    writer.close()
    with open_run(file) as run:
        assert repr(run.records()) == repr((look(0), other, look(2)))
        assert run.column("forward.rms", "a") == ((0, 1, 2), (0.25, 8.0, 2.25))
        assert run.column("forward.rms", "c") == ((1,), (9.0,))
        assert run.column("weight.rms", "b.weight") == ((0, 2), (3.0, 3.0))
        assert run.column("forward.rms", "nowhere") == ((), ())
    layouts = sqlite3.connect(file).execute("SELECT count(*) FROM layouts").fetchone()
    assert layouts == (2,)  # the first one came back


def test_a_column_says_where_nothing_was_measured(file):
    writer = RunWriter(file, INFO)
    for step in range(3):
        writer.add(look(step))
    writer.close()
    with open_run(file) as run:
        assert run.column("forward.dead", "a") == ((0, 1, 2), (None, None, None))
        assert run.column("forward.dead", "a:relu") == ((0, 1, 2), (0, 1 / 1024, 2 / 1024))
        assert run.column("backward.rms", "a:relu")[1] == (math.inf,) * 3


def test_losses_and_alarms(file):
    writer = RunWriter(file, INFO)
    writer.losses([(0, 2.5), (1, math.nan)])
    writer.losses(iter([(2, math.inf), (3, 0.1)]))
    writer.losses([])
    writer.alarms([alarm(), alarm(first=9, last=9)])
    writer.alarms([alarm("withdrawn", last=8), alarm(code="IG607")])
    with open_run(file) as run:
        assert repr(run.losses()) == "((0, 1, 2, 3), (2.5, nan, inf, 0.1))"
        assert run.alarms() == (
            alarm("withdrawn", last=8),
            alarm(first=9, last=9),
            alarm(code="IG607"),
        )
    writer.close()


def test_news_since_a_mark(file):
    writer = RunWriter(file, INFO)
    with open_run(file) as run:
        nothing = run.since(isograd.storage.Mark())
        assert (nothing.records, nothing.losses, nothing.alarms) == ((), (), ())
        writer.add(look(0))
        writer.losses([(0, 1.0), (1, 0.5)])
        first = run.since(nothing.mark)
        assert repr(first.records) == repr((look(0),))
        assert first.losses == ((0, 1.0), (1, 0.5))
        writer.alarms([alarm()])
        writer.losses([(2, 0.25)])
        second = run.since(first.mark)
        assert (second.records, second.losses, second.alarms) == ((), ((2, 0.25),), (alarm(),))
        assert run.since(second.mark).losses == ()
    writer.close()


def diagnosis():
    finding = Finding("IG201", Severity.ERROR, "dead-units", "They died.", ("a:relu",))
    verdicts = (Verdict("IG201", "finding", "They died."), Verdict("IG101", "passed", "1 is fine"))
    expected = replace(look(0), source="predicted")
    return Diagnosis((finding,), verdicts, Reading(look(0), expected, (look(1),)))


def test_the_last_judgement_is_kept(file):
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    writer.add(look(1))
    writer.losses([(0, 2.0), (1, 1.0)])
    with open_run(file) as run:
        assert run.diagnosis() is None
        writer.close(diagnosis(), outcome="stopped by a finding")
        kept = run.diagnosis()
        assert run.session.state == "stopped by a finding"
        assert run.session.ended is not None
    assert (kept.findings, kept.verdicts) == (diagnosis().findings, diagnosis().verdicts)
    assert repr(kept.reading.seen) == repr(look(0))
    assert repr(kept.reading.expected) == repr(diagnosis().reading.expected)
    assert kept.reading.last.step == 1
    assert kept.reading.last.fact("watch.losses") == [[0, 1], [2.0, 1.0]]


def test_a_long_run_is_thinned_for_the_rules(file):
    writer = RunWriter(file, INFO)
    for step in range(101):
        writer.add(look(step))
    writer.losses([(step, step / 2) for step in range(3000)])
    writer.close()
    with open_run(file) as run:
        steps, losses = run.reading().last.fact("watch.losses")
        assert [record.step for record in run.records(5)] == [0, 25, 50, 75, 100]
        reading = run.reading(3)
        assert (reading.seen.step, *(r.step for r in reading.history)) == (0, 50, 100)
    assert losses == [step / 2 for step in steps]
    assert steps[:3] == [0, 5, 10]
    assert steps[-512:] == list(range(3000 - 512, 3000))
    assert len(steps) < 1024


def test_thinning_leaves_neither_the_crowded_nor_the_empty_stretch_out(file):
    steps = [*range(50), *range(100, 1100, 200), *range(1100, 1150)]
    writer = RunWriter(file, INFO)
    for step in steps:
        writer.add(look(step))
    writer.close()
    with open_run(file) as run:
        kept = [record.step for record in run.records(22)]
        assert [record.step for record in run.records(1)] == [0]
        assert [record.step for record in run.records(2)] == [0, 1149]
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, 1149)
    assert 12 <= len(kept) <= 22
    assert sum(step < 50 for step in kept) >= 4
    assert set(range(100, 1100, 200)) <= set(kept)


def test_the_facts_that_a_table_holds_are_not_stored_again(file):
    writer = RunWriter(file, INFO)
    for step in range(50):
        writer.add(look(step, **{"watch.losses": (tuple(range(1000)), (0.5,) * 1000)}))
    writer.close()
    assert file.stat().st_size < 60_000
    with open_run(file) as run:
        assert repr(run.record(7)) == repr(look(7))


def test_a_run_that_has_ended_is_one_file_whoever_reads_it(file):
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    assert len(list(file.parent.iterdir())) == 3
    writer.close()
    for _ in range(2):
        with open_run(file) as run:
            assert run.steps == (0,)
        assert list(file.parent.iterdir()) == [file]
    writer = RunWriter(file, INFO)  # and is written again as if it had never ended
    with open_run(file) as beside:
        writer.add(look(1))
        assert beside.steps == (1,)
        writer.close()  # while somebody reads
        assert beside.session.state == "finished"
        assert beside.steps == (1,)


def test_sessions_stay_apart(file):
    for number, name in enumerate(("first", "second")):
        writer = RunWriter(file, replace(INFO, name=name))
        writer.add(look(number))
        writer.losses([(number, 1.5)])
        writer.close()
    save(file, diagnosis(), name="checked")
    assert [(s.number, s.info.name, s.state) for s in sessions(file)] == [
        (1, "first", "finished"),
        (2, "second", "finished"),
    ]
    with open_run(file) as latest, open_run(file, session=1) as first:
        assert (latest.steps, first.steps) == ((1,), (0,))
        assert first.losses() == ((0,), (1.5,))
    with pytest.raises(StorageError, match="has no session 3, it holds 2"):
        open_run(file, session=3)
    assert [stored.name for stored in load(file)] == ["checked"]


def test_a_file_that_another_writes_is_refused(file):
    writer = RunWriter(file, INFO)
    with pytest.raises(RunTakenError, match=f"process {os.getpid()} on .* is writing it"):
        RunWriter(file, INFO)
    assert len(sessions(file)) == 1
    writer.close()
    RunWriter(file, INFO).close()


def test_a_writer_that_was_thrown_away_does_not_block_its_process(file):
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    del writer
    RunWriter(file, INFO).close()
    assert [s.state for s in sessions(file)] == ["died", "finished"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda file: open_run(file).record(3), "step 3 was not looked at; the nearest is 1"),
        (lambda file: open_run(file.with_name("none")), "there is no such file"),
        (lambda file: open_run(file, session=0), "has no session 0, it holds 1"),
    ],
)
def test_what_is_not_there_is_said(file, ask, message):
    writer = RunWriter(file, INFO)
    writer.add(look(1))
    writer.close()
    with pytest.raises(StorageError, match=message):
        ask(file)


def test_a_file_of_diagnoses_alone_holds_no_run(file):
    save(file, diagnosis())
    assert sessions(file) == []
    with pytest.raises(StorageError, match=r"run\.isograd: holds no watched run"):
        open_run(file)


def test_a_file_of_the_first_schema_is_read_and_gets_the_new_tables_when_written(file):
    save(file, diagnosis(), "old")
    old = sqlite3.connect(file, isolation_level=None)
    for table in ("sessions", "layouts", "readings", "losses", "alarms"):
        old.execute(f"DROP TABLE {table}")
    old.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    old.close()
    assert [stored.name for stored in load(file)] == ["old"]
    assert sessions(file) == []
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    writer.close()
    assert [stored.name for stored in load(file)] == ["old"]
    with open_run(file) as run:
        assert run.steps == (0,)


def test_a_fact_that_is_no_plain_value_is_named_and_leaves_the_rest(file):
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    for bad in (look(1, it=object()), replace(look(1, it=object()), sites=(), series={})):
        with pytest.raises(StorageError, match=r"fact it holds a builtins\.object"):
            writer.add(bad)
    writer.add(look(2))
    writer.close()
    with open_run(file) as run:
        assert run.steps == (0, 2)


def test_a_forked_process_writes_nothing(file):
    writer = RunWriter(file, INFO)
    writer.add(look(0))
    child = os.fork()
    if not child:
        writer.add(look(1))
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.add(look(2))
    with open_run(file) as run:
        assert run.steps == (0, 2)
        assert run.session.state == "running"
    writer.close()

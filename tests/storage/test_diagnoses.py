"""Run files: exact round trips, clear errors, and nothing lost when a writer dies."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from isograd.errors import StorageError
from isograd.findings import Diagnosis, Finding, Severity, Verdict
from isograd.records import Parameter, Reading, Record, Site
from isograd.storage import _files, dumps, from_plain, load, loads, save, to_plain

ODD = {
    "shape": (3, 5),
    "nested": [(1, [2.5, None]), {"a": math.inf, "b": (math.nan,)}],
    "word": "nan",
    "words": ["inf", "-inf", "plain"],
    "keys": {1: "one", "$tuple": 2, (1, 2): {"deep": -math.inf}},
    "flags": [True, False, None, 0, 0.0, -0.0, 10**20, 0.1, 5e-324],
    "empty": [(), [], {}, ""],
    "text": "née \ud800 \x00 </script>",
}


def record(step: int = 0) -> Record:
    return Record(
        sites=(
            Site("a", "linear", "Linear", 1, (2, 7), (), (0,)),
            Site("b:relu", "relu", "relu", 1, (2, 7), (0,)),
        ),
        parameters=(Parameter("a.weight", (7, 3), "linear", trainable=False),),
        series={
            "forward.rms": (math.nan, math.inf),
            "backward.rms": (-math.inf, None),
            "forward.count": (14, 14),
            "weight.rms": (0.30000000000000004,),
        },
        histograms={"forward.exponents": ((0, 3, 11), (1, 2, 3))},
        facts=ODD,
        notes=("loss: chosen",),
        source="predicted",
        step=step,
    )


def diagnosis(message: str = "the gradient vanishes") -> Diagnosis:
    symptom = Finding("IG201", Severity.INFO, "saturating-activation", "flat", ("b:relu",))
    finding = Finding(
        "IG101",
        Severity.ERROR,
        "init-too-small",
        message,
        ("a",),
        ODD,
        ("Initialize wider.",),
        ("IG201",),
        (symptom,),
    )
    verdicts = (Verdict("IG101", "finding", message), Verdict("IG999", "passed", "fine"))
    return Diagnosis((finding,), verdicts, Reading(record(), record(0), (record(5), record(10))))


def test_everything_comes_back_exactly(tmp_path):
    # repr, because NaN differs from itself; it shows tuples, lists and signs of zero apart
    save(tmp_path / "run.isograd", diagnosis(), name="module:factory")
    (stored,) = load(tmp_path / "run.isograd")
    assert repr(stored.diagnosis) == repr(diagnosis())
    assert stored.name == "module:factory"
    assert stored.saved.endswith("+00:00")


def test_diagnoses_keep_their_order_and_their_own_records(tmp_path):
    bare = Diagnosis((), (), Reading(replace(record(), notes=("second",))))
    save(tmp_path / "run", diagnosis("first"))
    save(tmp_path / "run", bare)
    first, second = load(tmp_path / "run")
    assert first.diagnosis.findings[0].message == "first"
    assert first.name is None
    assert repr(second.diagnosis) == repr(bare)


def test_plain_values_are_strict_json():
    text = dumps(to_plain(diagnosis()))
    assert not any(word in text for word in ("NaN", "Infinity"))
    assert repr(from_plain(Diagnosis, json.loads(text))) == repr(diagnosis())


@pytest.mark.parametrize("thing", [diagnosis().reading, diagnosis().findings[0], record()])
def test_parts_have_plain_forms_too(thing):
    assert repr(from_plain(type(thing), to_plain(thing))) == repr(thing)


def test_numbers_keep_their_type():
    assert to_plain(record())["series"]["forward.rms"] == ["nan", "inf"]
    assert to_plain(record())["series"]["forward.count"] == [14, 14]


def test_a_value_that_is_not_plain_is_named():
    with pytest.raises(StorageError, match=r"fact model\.it holds a builtins\.object"):
        to_plain(Record((), facts={"model.it": object()}))
    odd = replace(diagnosis().findings[0], evidence={"worst": {"at": {1, 2}}})
    with pytest.raises(StorageError, match=r"IG101: evidence worst\.at holds a builtins\.set"):
        to_plain(odd)


def test_a_value_that_is_not_plain_leaves_the_file_as_it_was(tmp_path):
    save(tmp_path / "run", diagnosis())
    with pytest.raises(StorageError, match=r"fact it holds a builtins\.object"):
        save(tmp_path / "run", Diagnosis((), (), Reading(Record((), facts={"it": object()}))))
    assert len(load(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    "plain", [{}, {"findings": 3}, [], None, {**to_plain(record()), "step": 1}]
)
def test_foreign_values_are_refused(plain):
    with pytest.raises(StorageError, match="this is not a stored Diagnosis of schema 1"):
        from_plain(Diagnosis, plain)


def test_text_that_is_not_json_is_refused():
    with pytest.raises(StorageError, match="this is not JSON"):
        loads("{")


def test_no_file(tmp_path):
    with pytest.raises(StorageError, match="there is no such file"):
        load(tmp_path / "none.isograd")
    assert not (tmp_path / "none.isograd").exists()


def test_no_folder(tmp_path):
    with pytest.raises(StorageError, match=r"there is no folder .*none; make it first"):
        save(tmp_path / "none" / "run.isograd", diagnosis())


def test_a_file_that_is_no_database_is_not_touched(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("my notes " * 200)
    before = file.read_bytes()
    for act in (load, lambda path: save(path, diagnosis())):
        with pytest.raises(StorageError, match="it is not a SQLite file"):
            act(file)
    assert file.read_bytes() == before


def test_a_foreign_database_is_not_touched(tmp_path):
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    before = file.read_bytes()
    for act in (load, lambda path: save(path, diagnosis())):
        with pytest.raises(StorageError, match="but not a run of isograd"):
            act(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "found"),
    [("UPDATE meta SET value = '7'", "found schema 7"), ("DELETE FROM meta", "no schema number")],
)
def test_another_schema_is_refused(tmp_path, change, found):
    save(tmp_path / "run", diagnosis())
    run = sqlite3.connect(tmp_path / "run", isolation_level=None)
    run.execute(change)
    run.close()
    for act in (load, lambda path: save(path, diagnosis())):
        with pytest.raises(StorageError, match=f"{found}, this version .* schema 1, 2"):
            act(tmp_path / "run")


def test_a_damaged_document_is_refused(tmp_path):
    save(tmp_path / "run", diagnosis())
    run = sqlite3.connect(tmp_path / "run", isolation_level=None)
    run.execute("UPDATE records SET document = '{}'")
    run.close()
    with pytest.raises(StorageError, match=r"run: this is not a stored Record"):
        load(tmp_path / "run")


def test_a_locked_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "LOCK_SECONDS", 0.05)
    save(tmp_path / "run", diagnosis())
    holder = sqlite3.connect(tmp_path / "run", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process has it locked"):
        save(tmp_path / "run", diagnosis())
    assert len(load(tmp_path / "run")) == 1  # readers do not wait for a writer
    holder.close()
    save(tmp_path / "run", diagnosis())
    assert len(load(tmp_path / "run")) == 2


def test_a_folder_without_write_permission(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir()
    save(folder / "run", diagnosis())
    (folder / "run").chmod(0o444)
    folder.chmod(0o555)
    for part in (tmp_path, *tmp_path.parents):
        if part == tmp_path or part.name.startswith(("pytest-", "popen-")):
            part.chmod(0o755)
    if os.getuid() == 0:  # root may write everywhere, so be nobody for a while
        os.seteuid(65534)
    try:
        assert len(load(folder / "run")) == 1
        for name in ("run", "new"):
            with pytest.raises(StorageError, match="give a place where this user may write"):
                save(folder / name, diagnosis())
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


WRITER = """
import sys
sys.path.insert(0, {folder!r})
from test_diagnoses import diagnosis
from isograd.storage import save
for i in range(100_000):
    save({file!r}, diagnosis(f"number {{i}}"))
    print(i, flush=True)
"""


def test_a_killed_writer_loses_nothing_committed(tmp_path):
    file = tmp_path / "run.isograd"
    folder = os.path.dirname(__file__)
    code = WRITER.format(folder=folder, file=str(file))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        writer.stdout.readline()
    time.sleep(0.003)
    writer.kill()  # SIGKILL: no handler, no clean-up
    promised = 20 + len(writer.stdout.read().splitlines())
    writer.wait()
    writer.stdout.close()
    found = [stored.diagnosis.findings[0].message for stored in load(file)]
    assert found == [f"number {i}" for i in range(len(found))]
    assert len(found) in (promised, promised + 1)  # the last may be committed but not announced
    save(file, diagnosis("after"))
    assert len(load(file)) == len(found) + 1


def test_a_writer_killed_between_its_statements_leaves_nothing(tmp_path):
    file = tmp_path / "run.isograd"
    save(file, diagnosis("whole"))
    code = WRITER.replace("for i in", "import os, isograd.storage._files\nfor i in").format(
        folder=os.path.dirname(__file__), file=str(file)
    )
    # The records follow the diagnosis row: dying at the first of them is dying half-way.
    code = code.replace(
        "import sys\n",
        "import sys, os, sqlite3\n"
        "class Dying(sqlite3.Connection):\n"
        "    def executemany(self, *a):\n"
        "        os.kill(os.getpid(), 9)\n"
        "connect = sqlite3.connect\n"
        "sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Dying)\n",
        1,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9
    (stored,) = load(file)
    assert stored.diagnosis.findings[0].message == "whole"


def test_writers_at_once_lose_nothing(tmp_path):
    file = tmp_path / "run.isograd"
    code = WRITER.replace("100_000", "5").format(folder=os.path.dirname(__file__), file=str(file))
    writers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(load(file)) == 15


def test_only_ground_rooms_are_imported():
    heavy = "('torch', 'numpy', 'rich', 'isograd.rules')"
    code = f"import isograd.storage, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

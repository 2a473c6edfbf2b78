"""`isograd lab`: what it lists, runs, compares and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from isograd.cli import main
from isograd.lab.experiments import questions


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lab", *words])
    return int(ended.value.code or 0)


def test_the_list_loads_no_torch() -> None:
    code = (
        "import sys\nfrom isograd.cli import main\n"
        "try:\n    main(['lab', 'list'])\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    assert [line.split()[0] for line in lines[:-1]] == list(questions())


def test_a_run_writes_numbers_figures_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "products-of-factors", "--output", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "✓ overflow_fp16" in out
    assert "S0.12 is imprecise" in out
    names = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(names) == {".json", ".png", ".svg", ".html"}
    told = json.loads(names[".json"].read_text())
    assert told["numbers"]["overflow_fp16"] == 28
    html = names[".html"].read_text()
    assert "data:image/png;base64," in html
    assert "<table>" in html
    assert "FIGURE" not in html


def test_a_setting_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "products-of-factors", "--set", "depth=3", "--set", "factor=2")
    assert call(*words, "--output", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "output_growing                   8" in out
    assert "S0.12: not tested at these settings" in out
    page = (tmp_path / "products-of-factors.html").read_text()
    assert "isograd lab run products-of-factors --set depth=3 --set factor=2.0" in page
    assert "these were not tested" in page


def test_numbers_are_kept_where_no_figure_can_show_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", "products-of-factors", "--set", "factor=0")
    assert call(*words, "--output", str(tmp_path)) == 2
    told = capsys.readouterr()
    assert "output_growing                   0" in told.out
    assert "its figure cannot show numbers" in told.err
    assert json.loads((tmp_path / "products-of-factors.json").read_text())["numbers"]


def test_the_folder_is_made_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("isograd.lab.running.run", lambda *_, **__: pytest.fail("it ran"))
    (tmp_path / "file").touch()
    assert call("run", "contours", "--output", str(tmp_path / "file")) == 2
    assert "cannot be made: File exists" in capsys.readouterr().err


def test_the_example_of_the_help_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("run", "--help") == 0
    example = capsys.readouterr().out.split("Example:")[1].split()
    assert example[:4] == ["isograd", "lab", "run", "depth-cliff"]
    words = (*example[2:], "--scale", "fast", "--set", "depths=1,2", "--set", "steps=2")
    assert call(*words, "--output", str(tmp_path)) == 0


def test_verify_tells_what_came_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "products-of-factors", "--fast") == 0
    out = capsys.readouterr().out
    assert out.startswith("ok   products-of-factors")
    assert out.endswith("1 experiments, 15 numbers: all came out\n")


def test_verify_fails_on_a_miss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from isograd.lab.experiments import products_of_factors

    monkeypatch.setattr(products_of_factors, "first_depth", lambda *_: 29)
    assert call("verify", "products-of-factors") == 1
    out = capsys.readouterr().out
    assert out.startswith("MISS products-of-factors")
    assert "✗ overflow_fp16" in out
    assert "missed in products-of-factors" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run",), "wants either the NAME of an experiment or --all"),
        (("run", "x", "--all"), "wants either"),
        (("run", "products"), "no experiment is named 'products'; did you mean products-of-"),
        (("run", "products-of-factors", "--set", "depth"), "--set: 'depth' is no name=value"),
        (("run", "products-of-factors", "--set", "deep=1"), "no setting 'deep'"),
        (("run", "products-of-factors", "--data", "digits"), "needs no data"),
        (("run", "products-of-factors", "--scale", "full"), "no scale 'full'"),
        (("run", "products-of-factors", "--device", "gpu"), "is no device"),
        (("run", "--all", "--set", "depth=1"), "--set belongs to one experiment"),
        (("verify", "nothing-at-all"), "no experiment is named 'nothing-at-all'"),
        (("fetch", "imagenet"), "no data set 'imagenet' to fetch"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    assert told in capsys.readouterr().err


def test_data_tells_what_is_at_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ISOGRAD_DATA", raising=False)
    monkeypatch.setattr("isograd.lab.fetching.home", lambda: None)
    assert call("data") == 0
    out = capsys.readouterr().out
    assert "digits         at hand" in out
    assert "isograd lab fetch cifar10" in out

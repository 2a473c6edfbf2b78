"""`isograd predict`: a network by theory alone, judged, explained, varied and swept."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

NET = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        inner = 3 * width
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self, depth=4, width=37):
        super().__init__()
        self.stem = nn.Linear(11, width)
        self.block = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


def sigmoid(depth=20):
    layers = [one for _ in range(depth) for one in (nn.Linear(11, 11), nn.Sigmoid())]
    return nn.Sequential(*layers)


def huge():
    return nn.Sequential(nn.Linear(11, 10**7), nn.ReLU(), nn.Linear(10**7, 10**7))


def with_batch():
    return Net(), (torch.randn(13, 11), torch.arange(13) % 5)


def normed():
    return nn.Sequential(nn.Linear(11, 23), nn.BatchNorm1d(23), nn.Linear(23, 5))


def sorted_():
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.cumprod(x, -1)
    return nn.Sequential(nn.Linear(11, 7), Sorted())


def gelu_he(depth=60):
    layers = []
    for _ in range(depth):
        layer = nn.Linear(100, 100)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.GELU()]
    return nn.Sequential(*layers)


class Item(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(11, 3)

    def forward(self, x):
        x = self.fc(x)
        return x * x.max().item()


class Branch(Item):
    def forward(self, x):
        x = self.fc(x)
        return x if x.sum() > 0 else -x


def from_file():
    net = nn.Linear(11, 3)
    net.load_state_dict(torch.load("weights.pt"))
    return net


def reads_values():
    net = nn.Linear(11, 3)
    if net.weight.abs().max() > 3:
        raise ValueError
    return net


def of_width(width):
    return nn.Linear(11, width)


def prints():
    print("building")
    return Net()


def number():
    return 3


three = 3
model = Net()
"""

INPUT = ("--input", "float32[13,11]")


@pytest.fixture
def predict(folder: Path, isograd: Run) -> Run:
    (folder / "net.py").write_text(NET)
    return lambda *words: isograd("predict", *words)


# -- the report -----------------------------------------------------------------------------------


def test_every_site_with_its_band_and_repeated_blocks_once(predict: Run) -> None:
    ended = predict("net.py:Net", *INPUT)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "✓ healthy"
    assert lines[1].split(" · ")[-1] == "predicted"
    assert "input 13×11 float, train mode" in ended.out
    (heading,) = [n for n, line in enumerate(lines) if line == "  block.0 … 3, 4 times"]
    rows = [line.split()[0] for line in lines[heading + 1 : heading + 6]]
    assert rows == [".norm", ".mlp.0", ".mlp.1", ".mlp.2", ":add"]
    add = re.sub(r" +", " ", lines[heading + 5].strip())
    cell = r"[\d.e-]+ → [\d.e-]+ ±\d+%"
    assert re.fullmatch(rf":add 3 → 9 {cell} {cell} -?[\d.]+ → [\d.]+", add)
    assert ended.err == ""


def test_a_sick_network_exits_with_1(predict: Run) -> None:
    ended = predict("net.py:sigmoid", *INPUT)
    assert ended.code == 1
    assert "fix first: saturating-activation" in ended.out.splitlines()[0]
    assert predict("net.py:sigmoid", *INPUT, "--fail-on", "never").code == 0
    healthy = predict("net.py:sigmoid", *INPUT, "--select", "IG501")
    assert healthy.code == 0


def test_nothing_is_allocated(predict: Run) -> None:
    ended = predict("net.py:huge", *INPUT)
    assert ended.code == 0
    assert "100,000,130,000,000 parameters" in ended.out


def test_an_unpredictable_network_says_so_first(predict: Run) -> None:
    ended = predict("net.py:gelu_he", "--input", "float32[13,100]", "--set", "depth=100")
    assert ended.code == 1
    assert re.match("[!✗] not predictable", ended.out)
    assert "not predictable: a small deviation of the signal grows" in ended.out
    assert predict(
        "net.py:gelu_he", "--input", "float32[13,100]", "--set", "depth=100", "--fail-on", "never"
    ).code == 0  # fmt: skip


def test_what_was_sampled_is_named(predict: Run) -> None:
    assert "sampled cumprod: no rule for it" in predict("net.py:sorted_", *INPUT).out


@pytest.mark.parametrize("form", ["json", "html", "markdown", "sarif"])
def test_other_forms(predict: Run, folder: Path, form: str) -> None:
    ended = predict("net.py:Net", *INPUT, "--format", form, "--output", "report.txt")
    assert ended.code == 0
    text = (folder / "report.txt").read_text()
    if form in ("json", "sarif"):
        json.loads(text)
    if form == "json":
        assert json.loads(text)["reading"]["seen"]["source"] == "predicted"
    if form == "markdown":
        assert "block.0 … 3, 4 times" in text


def test_what_a_factory_prints_is_no_part_of_the_report(predict: Run) -> None:
    ended = predict("net.py:prints", *INPUT, "--format", "json")
    assert json.loads(ended.out)["healthy"]
    assert "building" in ended.err


def test_it_is_saved_and_shown_again(predict: Run, isograd: Run) -> None:
    assert predict("net.py:Net", *INPUT, "--save", "run.isograd").code == 0
    shown = isograd("report", "run.isograd")
    assert "block.0 … 3, 4 times" in shown.out


def test_data_targets_and_mode(predict: Run) -> None:
    assert "cross_entropy 1.6" in predict("net.py:with_batch").out
    text = predict("net.py:Net", "--input", "float32[13,11] -> int64[13]<5").out
    assert "cross_entropy" in text
    mse = predict("net.py:Net", "--input", "float32[13,11] -> float32[13,5]", "--loss", "l1_loss")
    assert "l1_loss" in mse.out
    assert "eval mode" in predict("net.py:normed", *INPUT, "--eval").out
    assert "train mode" in predict("net.py:model", *INPUT, "--train").out


def test_a_batch_from_a_file(predict: Run, folder: Path) -> None:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(20, 11))
    np.savez(folder / "batch.npz", x=x, y=np.arange(20) % 5)
    ended = predict("net.py:Net", "--data", "batch.npz", "--batch-size", "7")
    assert ended.code == 0
    assert "input 7×11 float" in ended.out


# -- one place ------------------------------------------------------------------------------------


def test_an_explanation(predict: Run) -> None:
    ended = predict("net.py:Net", *INPUT, "--explain", "block.3.mlp")
    assert ended.code == 0
    assert ended.out.startswith("block.3.mlp: Sequential, 3 operations\n")
    assert "37 · E x² 1 · E w² 0.00901 (uniform) + E b² 0.00901 = 0.342" in ended.out
    assert "to block.3.mlp.0.weight 111×37" in ended.out
    assert "Poole et al. 2016" in ended.out


def test_an_explanation_as_json(predict: Run) -> None:
    ended = predict("net.py:Net", *INPUT, "--explain", "block.3:add", "--format", "json")
    told = json.loads(ended.out)
    assert told["path"] == "block.3:add"
    assert [one["name"] for one in told["operations"]] == ["add"]
    assert set(told["operations"][0]) >= {"module", "formula", "source", "inputs", "outputs"}


def test_an_unknown_place_names_close_ones(predict: Run) -> None:
    ended = predict("net.py:Net", *INPUT, "--explain", "block.3.mpl")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "no module or site 'block.3.mpl'; did you mean block.3.mlp" in ended.err


# -- what if --------------------------------------------------------------------------------------


def seen(ended: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(ended.out)["reading"]["seen"]
    return record


def test_arguments_of_the_factory(predict: Run) -> None:
    ended = predict("net.py:Net", *INPUT, "--set", "depth=48", "--set", "width=64")
    assert "block.0 … 47, 48 times" in ended.out


def test_other_weights_activations_and_branches(predict: Run) -> None:
    plain = seen(predict("net.py:Net", *INPUT, "--format", "json"))
    words = ("--init", "xavier_normal", "--init", "head=zeros", "--activation", "tanh")
    ended = predict(
        "net.py:Net", *INPUT, *words, "--residual-scale", "0.1", "--format", "json", "--set",
        "depth=4",
    )  # fmt: skip
    varied = seen(ended)
    kinds = [site["kind"] for site in varied["sites"]]
    assert "tanh" in kinds
    assert "gelu" not in kinds
    assert varied["series"]["forward.rms"][-1] < plain["series"]["forward.rms"][-1]
    assert [note.partition(":")[0] for note in varied["notes"]][:4] == [
        "activation", "init", "init", "residual-scale",
    ]  # fmt: skip


# -- several values -------------------------------------------------------------------------------


def test_a_sweep(predict: Run) -> None:
    ended = predict("net.py:sigmoid", *INPUT, "--sweep", "depth=1:13:5", "--ignore", "IG302")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == "! healthy at depth 1, 4"
    rows = [line.split() for line in lines[5:10]]
    assert [row[0] for row in rows] == ["1", "4", "7", "10", "13"]
    bars = [line.count("█") for line in lines[5:10]]
    assert bars == sorted(bars, reverse=True)
    assert predict("net.py:sigmoid", *INPUT, "--sweep", "depth=1,2").code == 0


def test_a_sweep_as_json(predict: Run) -> None:
    ended = predict("net.py:sigmoid", *INPUT, "--sweep", "depth=2,20", "--format", "json")
    told = json.loads(ended.out)
    assert told["name"] == "depth"
    well, ill = told["points"]
    assert well["healthy"]
    assert well["findings"] == []
    assert not ill["healthy"]
    assert ill["findings"][0]["cause"] == "saturating-activation"
    assert ill["gradient"] < 1e-6 < well["gradient"]
    assert "record" not in well


@pytest.mark.parametrize(
    "sweep",
    [
        "init=kaiming_normal,xavier_normal",
        "init=normal:0.1,normal:0.2",
        "activation=gelu,tanh",
        "residual-scale=0.1,1",
    ],
)
def test_a_change_is_swept(predict: Run, sweep: str) -> None:
    ended = predict("net.py:Net", *INPUT, "--sweep", sweep)
    assert ended.code == 0
    assert "healthy at both 2 values" in ended.out
    for value in sweep.partition("=")[2].split(","):
        assert f"\n  {value} " in ended.out


def test_a_value_that_fails_does_not_hide_the_others(predict: Run) -> None:
    ended = predict("net.py:of_width", *INPUT, "--sweep", "width=7,'x'")
    assert ended.code == 2
    assert "healthy at width 7" in ended.out
    assert "of_width() raised TypeError" in " ".join(ended.out.split())


@pytest.mark.parametrize("name", ["depth.png", "depth.svg"])
def test_a_figure(predict: Run, folder: Path, name: str) -> None:
    ended = predict("net.py:sigmoid", *INPUT, "--sweep", "depth=1,5,9", "--figure", name)
    assert ended.err == f"wrote {name}\n"
    assert (folder / name).stat().st_size > 5_000


# -- bad input ------------------------------------------------------------------------------------

BAD = [
    ("net.py:Item", INPUT, r"item() in 'the forward' needs a value that is never computed"),
    ("net.py:Branch", INPUT, "__bool__() in 'the forward' needs a value"),
    ("net.py:from_file", INPUT, "from_file() raised FileNotFoundError"),
    ("net.py:reads_values", INPUT, "needs values that nobody has computed: the result of max"),
    ("net.py:Net", (), "there is nothing to predict on; add --input"),
    ("net.py:Net", ("--input", "float32[13,12]"), "linear of 13×12 by 37×11 in 'stem' would fail"),
    ("net.py:Net", ("--input", "y=float32[13,11]"), "unexpected keyword argument 'y'"),
    ("net.py:Net", ("--input", "float32[13,11];float32[13]"), "takes 2 positional arguments"),
    ("net.py:Net", (*INPUT, "--set", "dpeth=3"), "takes no argument 'dpeth'; did you mean depth"),
    ("net.py:Net", (*INPUT, "--sweep", "dpeth=3"), "takes no argument 'dpeth'"),
    ("net.py:Net", (*INPUT, "--sweep", "width=5:100"), "'5:100' is no from:to:points"),
    ("net.py:Net", (*INPUT, "--sweep", "width=5", "--sweep", "act=relu"), "2 are given"),
    ("net.py:of_width", INPUT, "needs the arguments width; add --set width=…"),
    ("net.py:model", (*INPUT, "--set", "depth=3"), "is a model, not a factory"),
    ("net.py:number", INPUT, "returned an object of type int, not a model"),
    ("net.py:three", INPUT, "is of type int; name a torch.nn.Module"),
    ("net.py:Net", (*INPUT, "--init", "stm=zeros"), "no weight is called 'stm'; there is stem"),
    ("net.py:Net", (*INPUT, "--activation", "stem=gelu"), "no activation module is called 'stem'"),
    ("net.py:sigmoid", (*INPUT, "--init", "critical"), "sigmoid has no critical initialization"),
    ("net.py:sigmoid", (*INPUT, "--residual-scale", "2"), "no addition that closes an identity"),
    ("net.py:Net", (*INPUT, "--sweep", "width=0"), "would fail: Given normalized_shape=[0]"),
    ("net.py:Net", (*INPUT, "--loss", "mse_loss"), "--loss mse_loss compares with targets"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "words", "said"), BAD)
def test_bad_input_is_one_line_that_says_where_and_what_to_do(
    predict: Run, target: str, words: tuple[str, ...], said: str
) -> None:
    ended = predict(target, *words)
    assert ended.code == 2
    assert ended.err.startswith("isograd: error: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert said in ended.err
    assert ended.out == ""

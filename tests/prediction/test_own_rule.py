"""A rule that another package brings, found through its entry point as after an installation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BROKEN = """\
from isograd.prediction.ops import Op

class Broken(Op):
    code, functions, source = "broken", ("cummax",), "nowhere"

    def apply(self, call, x, dim):
        raise TypeError("two of them")

class Relu(Op):
    code, functions, source = "a-relu", ("relu6",), "nowhere"

    def apply(self, call, x, *args, **kwargs):
        return call.field(x).missing
"""
SCRIPT = """\
import json, torch, isograd, own_op
from torch import nn

torch.set_num_threads(1)
found = {"packages": isograd.prediction.ops.catalogue()["squared-relu"].source}
predicted = isograd.predict(lambda: own_op.Net(256, 2), "float32[32,256]")
found["sampled"] = predicted.fact("prediction.sampled")
found["forward"] = predicted.series["forward.rms"]
found["backward"] = predicted.series["backward.rms"]
torch.manual_seed(0)
measured = [isograd.measure(own_op.Net(256, 2), torch.randn(32, 256)) for _ in range(4)]
found["measured"] = [
    [sum(r.value(key, i) for r in measured) / 4 for i in range(len(predicted.sites))]
    for key in ("forward.rms", "backward.rms")
]
errors = []
for function in (lambda x: x.cummax(1)[0], nn.functional.relu6):
    class Net(nn.Linear):
        def forward(self, x, function=function):
            return function(super().forward(x))
    try:
        isograd.predict(lambda: Net(5, 7), "float32[3,5]")
    except isograd.IsogradError as error:
        errors.append(str(error))
print(json.dumps({**found, "errors": errors}))
"""


def test_an_installed_rule_is_used(tmp_path: Path) -> None:
    installed = tmp_path / "own_op-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: own-op\nVersion: 1.0\n")
    lines = "squared-relu=own_op:SquaredReLU", "broken=broken:Broken", "relu=broken:Relu"
    (installed / "entry_points.txt").write_text("\n".join(["[isograd.prediction.ops]", *lines]))
    (tmp_path / "broken.py").write_text(BROKEN)
    paths = os.pathsep.join([str(tmp_path), str(EXAMPLES)])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["sampled"] == []  # without the rule it would be, by name
    # Two draws differ by 2 % forward and 4 % backward.
    assert found["forward"] == pytest.approx(found["measured"][0], rel=0.06)
    assert found["backward"] == pytest.approx(found["measured"][1], rel=0.12)
    of_method, of_torchs_own = found["errors"]
    assert (
        "the rule broken:Broken for cummax in 'the forward' raised TypeError: two of them"
        in of_method
    )
    assert "the rule broken:Relu for relu6" in of_torchs_own  # a third party's goes before

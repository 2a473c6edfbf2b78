"""Architectures that predictions are judged by: they run, and are the ones of the papers."""

import json
from pathlib import Path

import pytest
import torch

import isograd
from patients.architectures.table import FAMILIES

MEASURED = Path(__file__).parents[1] / "benchmarks" / "measured"

PUBLISHED = {
    "vgg16": 138_357_544,
    "vgg16bn": 138_365_992,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "mobilenetv2": 3_504_872,
    "efficientnet-b0": 5_288_548,
    "convnext-t": 28_589_128,
    "gpt2": 124_439_808,
}
"""Parameters of the reference implementations."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_one_runs(name: str) -> None:
    family = FAMILIES[name]
    torch.manual_seed(3)
    model = family.build(**family.small)
    inputs = (family.small_inputs or family.inputs)(torch.Generator().manual_seed(4))
    record = isograd.measure(model, inputs)
    assert all(module.training for module in model.modules())
    assert len(record.sites) > 1
    assert all(rms is not None and rms >= 0 for rms in record.series["forward.rms"])
    assert any(record.series["backward.rms"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_full_one_has_as_many_parameters_as_published(name: str) -> None:
    with torch.device("meta"):
        model = FAMILIES[name].build()
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_vit_for_images_of_224_pixels_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        model = FAMILIES["vit-b16"].build(size=224)
    assert sum(p.numel() for p in model.parameters()) == 86_567_656


OTHERS = {"depth", "gpu", "repairs"}
"""Tables of other benchmarks in the same folder."""

PREDICTED = sorted(path for path in MEASURED.glob("*.json") if path.stem not in OTHERS)


@pytest.mark.parametrize("path", PREDICTED, ids=lambda path: path.stem)
def test_a_measured_table_is_of_a_family_as_it_is_now(path: Path) -> None:
    table = json.loads(path.read_text())
    assert table["name"] == path.stem
    assert table["seeds"] == FAMILIES[path.stem].seeds
    batch = FAMILIES[path.stem].batch(0)
    shapes = [batch] if isinstance(batch, torch.Tensor) else batch.values()
    assert all(str(list(tensor.shape)) in table["inputs"] for tensor in shapes)

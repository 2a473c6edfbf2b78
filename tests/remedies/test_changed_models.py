"""Changed models are models: torch.export, distributed training, compiled graphs take them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isograd.remedies import REMEDIES, Plan
from isograd.sites.batches import as_batch

NEW_MODULES = """
    activation-dks activation-swap gradient-finite normalization-insert normalization-weight
    optimizer-precision preprocess-standardize preprocess-targets preprocess-whiten
    residual-skipinit residual-skips
""".split()
"""Those that leave modules of this package, or of another kind, in the model."""


def changed(code: str) -> tuple[nn.Module, Any]:
    case = REMEDIES[code].sick()
    plan = REMEDIES[code].plan(case)
    assert isinstance(plan, Plan)
    return plan.apply(case.model).model, as_batch(case.batch).args[0]


@pytest.mark.parametrize("code", NEW_MODULES)
def test_a_changed_model_is_exported(code: str) -> None:
    model, x = changed(code)
    model.eval()
    exported = torch.export.export(model, (x,)).module()
    assert torch.allclose(exported(x), model(x), atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one."""
    store: Path = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("code", NEW_MODULES)
@pytest.mark.usefixtures("alone")
def test_a_changed_model_trains_in_parallel(code: str) -> None:
    model, x = changed(code)
    plain = model(x).detach()
    parallel = DistributedDataParallel(model)
    out = parallel(x)
    # Standardized outputs of a batch norm in train mode are those of the same batch.
    assert torch.allclose(out, plain, atol=1e-5)
    out.square().mean().backward()
    assert all(p.grad is not None for p in parallel.parameters())

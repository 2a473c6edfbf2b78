"""Settings that every test shares; this file's folder is on the path: `from patients import …`."""

import os

# Before torch is imported: small tensors gain nothing from threads, and nothing may be downloaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before triton is imported, by whomever: without a GPU its kernels are interpreted.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import settings

# The same examples every time: a red run can be repeated, and the machine's speed decides nothing.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_runtest_setup() -> None:
    """Seeds torch, which begins anywhere, before every test: a red run can be repeated."""
    import torch

    torch.manual_seed(0)

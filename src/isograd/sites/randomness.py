"""Random numbers: torch's generators begin at a seed, on the devices that are in use."""

import torch


def reseed(seed: int) -> None:
    """Seeds the generators that exist; whoever calls this puts their states back.

    `torch.manual_seed` also tells devices that nobody uses yet where to begin once somebody does:
    that would stay after the states are put back, and each call notes a stack for it (0.5 ms).
    """
    torch.default_generator.manual_seed(seed)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)

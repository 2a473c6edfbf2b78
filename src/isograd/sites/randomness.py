"""Random numbers of torch, on the CPU and on the devices in use: seeded, kept and put back."""

import torch
from torch import Tensor


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


def random_states() -> list[Tensor]:
    """States of the generators of the CPU and, where one is in use, of all CUDA devices."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        states += torch.cuda.get_rng_state_all()
    return states


def put_random_states(states: list[Tensor]) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])

"""A Hugging Face model, unchanged: the batch is a dict and the loss is the model's own.

isograd check examples/transformer.py:gpt2
"""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY, LENGTH, SAMPLES = 997, 48, 8


def gpt2() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A small GPT-2 at its own initialization, with a batch of random tokens."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=96,
        n_layer=6,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    ids = torch.randint(VOCABULARY, (SAMPLES, LENGTH))
    return GPT2LMHeadModel(config), {"input_ids": ids, "labels": ids}

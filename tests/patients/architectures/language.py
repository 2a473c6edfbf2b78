"""Language models of `transformers`, random weights from their configurations."""

from typing import Any

import torch
from torch import Generator, nn

from patients.architectures.family import Family, Inputs, tokens

LENGTH = 128


def gpt2(**small: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False, **small))


def bert(**small: int) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**small))


def llama(**small: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1376,
        "num_hidden_layers": 8, "num_attention_heads": 8,
    } | small  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(use_cache=False, **sizes))


def t5(**small: int) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {
        "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
        "decoder_start_token_id": 0,
    } | small  # fmt: skip
    return T5ForConditionalGeneration(T5Config(use_cache=False, **sizes))


def pairs(batch: int, length: int, other: int, words: int) -> Inputs:
    """Source and target tokens, of different lengths."""

    def draw(generator: Generator) -> dict[str, Any]:
        return {
            "input_ids": torch.randint(words, (batch, length), generator=generator),
            "decoder_input_ids": torch.randint(words, (batch, other), generator=generator),
        }

    return draw


SMALL = {"vocab_size": 90}

FAMILIES = {
    "gpt2": Family(
        gpt2, tokens(4, LENGTH, 50257),
        SMALL | {"n_embd": 24, "n_layer": 2, "n_head": 3, "bos_token_id": 1, "eos_token_id": 2},
        tokens(2, 9, 90), seeds=8, note="small: 12 layers of width 768, 128 tokens",
    ),
    "bert": Family(
        bert, tokens(4, LENGTH, 30522),
        SMALL | {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
                 "intermediate_size": 40},
        tokens(2, 9, 90), seeds=8, note="base: 12 layers of width 768, 128 tokens",
    ),
    "llama8": Family(
        llama, tokens(4, LENGTH, 32000),
        SMALL | {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                 "num_attention_heads": 3},
        tokens(2, 9, 90), seeds=16, note="8 layers of width 512, 8 heads, 128 tokens",
    ),
    "t5-small": Family(
        t5, pairs(4, LENGTH, 96, 32128),
        SMALL | {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3},
        pairs(2, 9, 7, 90), seeds=16, note="6 + 6 layers of width 512; 128 and 96 tokens",
    ),
}  # fmt: skip

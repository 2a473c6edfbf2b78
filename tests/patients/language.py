"""Patients from `transformers`: random weights from small configurations, called with a dict."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from patients import data
from patients.patient import Patient, adamw, seeded

WORDS = 128


@seeded
def gpt2() -> Patient:
    config = GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=48, n_layer=3, n_head=4, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    ids = data.tokens(8, 24, WORDS)
    return Patient(
        GPT2LMHeadModel(config).train(), {"input_ids": ids, "labels": ids}, None, adamw()
    )


@seeded
def bert() -> Patient:
    config = BertConfig(
        vocab_size=WORDS, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=32,
    )  # fmt: skip
    ids = data.tokens(16, 20, WORDS)
    hidden = torch.rand(ids.shape) < 0.15
    batch = {
        "input_ids": ids.masked_fill(hidden, 1),
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(~hidden, -100),
    }
    return Patient(BertForMaskedLM(config).train(), batch, None, adamw())


@seeded
def llama() -> Patient:
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=48, intermediate_size=112, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    ids = data.tokens(8, 24, WORDS)
    return Patient(
        LlamaForCausalLM(config).train(), {"input_ids": ids, "labels": ids}, None, adamw()
    )


@seeded
def vit() -> Patient:
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        image_size=16, patch_size=4, num_labels=10,
    )  # fmt: skip
    pixels, labels = data.images(32, 16)
    batch = {"pixel_values": pixels, "labels": labels}
    return Patient(ViTForImageClassification(config).train(), batch, None, adamw())


@seeded
def t5() -> Patient:
    config = T5Config(
        vocab_size=WORDS, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    source = data.tokens(12, 16, WORDS)
    batch = {"input_ids": source, "labels": source.flip(1)}
    return Patient(T5ForConditionalGeneration(config).train(), batch, None, adamw(1e-3))

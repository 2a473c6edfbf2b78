"""Models of transformers, recorded and built for real; and one of 70 billion parameters."""

import subprocess
import sys
from typing import Any

import pytest
from sampled_laws import assert_same_model
from torch import nn

from isograd.prediction.recording import law_of, recording, same_values

transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 4, "vocab_size": 131}
GROUPED = {**SMALL, "intermediate_size": 75, "num_key_value_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_layer": 2, "n_embd": 96, "n_head": 4, "vocab_size": 131},
    "Bert": {**SMALL, "intermediate_size": 75},
    "Llama": GROUPED,
    "T5": {"num_layers": 2, "d_model": 96, "d_ff": 75, "vocab_size": 131},
    "ViT": {**SMALL, "intermediate_size": 75, "image_size": 48},
    "Mamba": {"num_hidden_layers": 2, "hidden_size": 96, "vocab_size": 131},
    "ResNet": {"embedding_size": 24, "hidden_sizes": [24, 40], "depths": [1, 2]},
    "ConvNext": {"hidden_sizes": [24, 40], "depths": [1, 2], "num_stages": 2},
    "Swin": {"image_size": 56, "embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4]},
    "Whisper": {
        "d_model": 96,
        "vocab_size": 131,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "pad_token_id": 3,
    },
    "Qwen2": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 24},
    "Mixtral": {**GROUPED, "num_local_experts": 3},
    "Qwen3Moe": {**GROUPED, "head_dim": 24, "moe_intermediate_size": 31, "num_experts": 5},
    "XLNet": {"n_layer": 1, "d_model": 96, "n_head": 4, "d_inner": 75, "vocab_size": 131},
    "DebertaV2": {**SMALL, "intermediate_size": 75},
    "Rwkv": {"num_hidden_layers": 2, "hidden_size": 96, "vocab_size": 131},
}


def build(name: str) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(**CONFIGS[name])
    model: nn.Module = getattr(transformers, f"{name}Model")(config)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_is_recorded_as_it_initializes_itself(name: str) -> None:
    seen = assert_same_model(lambda: build(name))
    weights = [p for p in seen.parameters() if p.dim() > 1 and p.is_meta]
    assert len(weights) > 3
    assert all(law_of(p) is not None for p in seen.parameters() if p.is_meta)


def test_layers_of_a_language_model_are_drawn_one_by_one() -> None:
    with recording():
        model = build("GPT2")
    assert same_values(model) == []


def test_tied_weights_stay_one() -> None:
    config = transformers.GPT2Config(**CONFIGS["GPT2"])
    with recording():
        model = transformers.GPT2LMHeadModel(config)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert same_values(model) == []


LARGE = """
import resource, time
import torch, transformers
from isograd.prediction.recording import law_of, recording

small = transformers.LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, vocab_size=16)
transformers.LlamaForCausalLM(small)
config = transformers.LlamaConfig(hidden_size=8192, num_hidden_layers=80, num_attention_heads=64,
    num_key_value_heads=8, intermediate_size=28672, vocab_size=32000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = []
for _ in range(3):
    start = time.process_time()
    with recording():
        model = transformers.LlamaForCausalLM(config)
    seconds.append(time.process_time() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(p.numel() for p in model.parameters())
unknown = sum(law_of(p) is None for p in model.parameters() if p.is_meta)
print(count, unknown, (peak - before) // 1024, min(seconds))
"""


def test_seventy_billion_parameters_take_no_memory_and_no_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=300
    )
    count, unknown, megabytes, seconds = done.stdout.split()[-4:]
    assert int(count) == 68_976_648_192
    assert int(unknown) == 0
    assert int(megabytes) < 100  # 17 measured; 276,000 for real
    assert float(seconds) < 0.6  # 0.1 measured, CPU time on one thread

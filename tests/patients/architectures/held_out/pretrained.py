"""Models of `transformers` of medium size, random weights from their configurations."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, nn

from patients.architectures.family import NORMED, Family, Inputs, Target, images, tokens

WORDS = 500
BERT_LIKE = {
    "vocab_size": WORDS, "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6,
    "intermediate_size": 512,
}  # fmt: skip
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
ONE_GROUP = {"num_key_value_heads": 1}
DECODER = BERT_LIKE | {"use_cache": False}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def model(kind: str, head: str, sizes: dict[str, Any], **small: Any) -> nn.Module:
    """`kind` + Config and `kind` + `head`, by name."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**(sizes | small))
    return getattr(transformers, kind + head)(config)


def text(kind: str, head: str, sizes: dict[str, Any], small: dict[str, Any], **more) -> Family:
    """Reads token ids, but no padding, whose zero embedding a norm would magnify without bound."""
    return Family(
        partial(model, kind, head, sizes), tokens(8, 48, WORDS, first=3), small,
        tokens(2, 11, WORDS, first=3), seeds=24, held_out=True, **more,
    )  # fmt: skip


def pictures(
    kind: str,
    sizes: dict[str, Any],
    small: dict[str, Any],
    *,
    target: Target = NORMED,
    size: int = 64,
    **more,
) -> Family:
    """Classifies images; by a class token or after batch norm, unless another target is given."""

    def named(draw: Inputs) -> Inputs:
        return lambda generator: {"pixel_values": draw(generator)}

    build = partial(model, kind, "ForImageClassification", {"num_labels": 10} | sizes)
    return Family(
        build, named(images(8, size)), small, named(images(2, size)), seeds=32, target=target,
        held_out=True, **more,
    )  # fmt: skip


def translated(batch: int, length: int, other: int) -> Inputs:
    """Token ids for an encoder and a decoder."""

    def draw(generator: Generator) -> dict[str, Any]:
        shapes = {"input_ids": length, "decoder_input_ids": other}
        return {
            key: torch.randint(3, WORDS, (batch, steps), generator=generator)
            for key, steps in shapes.items()
        }

    return draw


def heard(batch: int, frames: int, steps: int) -> Inputs:
    """A spectrogram of 40 bands, and token ids."""

    def draw(generator: Generator) -> dict[str, Any]:
        return {
            "input_features": torch.randn(batch, 40, frames, generator=generator),
            "decoder_input_ids": torch.randint(3, WORDS, (batch, steps), generator=generator),
        }

    return draw


def both(batch: int, length: int, size: int) -> Inputs:
    """Token ids and images."""

    def draw(generator: Generator) -> dict[str, Any]:
        return {
            "input_ids": torch.randint(3, WORDS, (batch, length), generator=generator),
            "pixel_values": torch.randn(batch, 3, size, size, generator=generator),
        }

    return draw


LANGUAGE = {
    "mistral": text("Mistral", "ForCausalLM", DECODER | GROUPED, SMALL | ONE_GROUP),
    "qwen2": text("Qwen2", "ForCausalLM", DECODER | GROUPED, SMALL | ONE_GROUP),
    "qwen3": text("Qwen3", "ForCausalLM", DECODER | GROUPED | {"head_dim": 32},
                  SMALL | ONE_GROUP | {"head_dim": 8}, note="norm of queries and keys"),
    "gemma2": text("Gemma2", "ForCausalLM", DECODER | GROUPED | {"head_dim": 32} | ENDS,
                   SMALL | ONE_GROUP | {"head_dim": 8},
                   note="four norms a layer, capped logits, scaled embeddings"),
    "olmo2": text("Olmo2", "ForCausalLM", DECODER | ENDS, SMALL | {"num_key_value_heads": 3},
                  note="norms after the branches"),
    "mixtral": text("Mixtral", "ForCausalLM", DECODER | GROUPED | {"num_local_experts": 4},
                    SMALL | ONE_GROUP, note="experts chosen by the tokens"),
    "gpt-neox": text("GPTNeoX", "ForCausalLM", DECODER | ENDS, SMALL, note="parallel branches"),
    "opt": text("OPT", "ForCausalLM",
                ENDS | {"vocab_size": WORDS, "hidden_size": 192, "num_hidden_layers": 4,
                        "num_attention_heads": 6, "ffn_dim": 512, "word_embed_proj_dim": 192,
                        "use_cache": False},
                {"hidden_size": 24, "ffn_dim": 40, "word_embed_proj_dim": 24,
                 "num_attention_heads": 3, "num_hidden_layers": 2}),
    "bloom": text("Bloom", "ForCausalLM",
                  ENDS | {"vocab_size": WORDS, "hidden_size": 192, "n_layer": 4, "n_head": 6,
                          "use_cache": False},
                  {"hidden_size": 24, "n_layer": 2, "n_head": 3}, note="bias by distance"),
    "falcon": text("Falcon", "ForCausalLM", DECODER | ENDS, SMALL, note="one key and value head"),
    "gptj": text("GPTJ", "ForCausalLM",
                 ENDS | {"vocab_size": WORDS, "n_embd": 192, "n_layer": 4, "n_head": 6,
                         "rotary_dim": 16, "use_cache": False},
                 {"n_embd": 24, "n_layer": 2, "n_head": 3, "rotary_dim": 4},
                 note="parallel branches, rotary by pairs"),
    "phi": text("Phi", "ForCausalLM", DECODER | ENDS, SMALL),
    "mamba": text("Mamba", "ForCausalLM",
                  ENDS | {"vocab_size": WORDS, "hidden_size": 192, "num_hidden_layers": 4,
                          "use_cache": False},
                  {"hidden_size": 24, "num_hidden_layers": 2}, note="selective state space"),
    "albert": text("Albert", "ForMaskedLM", BERT_LIKE | {"embedding_size": 64},
                   SMALL | {"embedding_size": 8}, note="one layer, called four times"),
    "distilbert": text("DistilBert", "ForMaskedLM",
                       {"vocab_size": WORDS, "dim": 192, "n_layers": 4, "n_heads": 6,
                        "hidden_dim": 512},
                       {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}),
    "roberta": text("Roberta", "ForMaskedLM", BERT_LIKE | ENDS, SMALL),
    "electra": text("Electra", "ForMaskedLM", BERT_LIKE | {"embedding_size": 64},
                    SMALL | {"embedding_size": 8}),
    "deberta-v2": text("DebertaV2", "ForMaskedLM",
                       BERT_LIKE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                                    "position_buckets": 16, "type_vocab_size": 0},
                       SMALL, note="content and position apart"),
    "modernbert": text("ModernBert", "ForMaskedLM", BERT_LIKE | ENDS | {
                       "attn_implementation": "sdpa", "cls_token_id": 1, "sep_token_id": 2},
                       SMALL | {"hidden_size": 36}, note="gated, rotary, local and global"),
    "xlnet": text("XLNet", "LMHeadModel",
                  {"vocab_size": WORDS, "d_model": 192, "n_layer": 4, "n_head": 6, "d_inner": 512,
                   "use_mems_eval": False, "use_mems_train": False},
                  {"d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 40}),
    "fnet": text("FNet", "ForMaskedLM",
                 {"vocab_size": WORDS, "hidden_size": 192, "num_hidden_layers": 4,
                  "intermediate_size": 512},
                 {"hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40},
                 note="Fourier transform instead of attention"),
}  # fmt: skip

_VIT = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "patch_size": 8,
        "intermediate_size": 512, "image_size": 64}  # fmt: skip

VISION = {
    "vit": pictures("ViT", _VIT, SMALL, note="class token"),
    "deit": pictures("DeiT", _VIT, SMALL, note="class and distillation tokens"),
    "beit": pictures("Beit", _VIT, SMALL, note="relative positions, layer scale, mean readout"),
    "dinov2": pictures("Dinov2", _VIT | {"mlp_ratio": 3}, SMALL, note="layer scale"),
    "swin": pictures("Swin", {"image_size": 64, "patch_size": 4, "embed_dim": 48, "depths": [2, 2],
                              "num_heads": [3, 6], "window_size": 4},
                     {"embed_dim": 12, "num_heads": [2, 3]}, target=Target(),
                     note="shifted windows, merged patches"),
    "convnext-v2": pictures("ConvNextV2", {"hidden_sizes": [48, 96, 192], "depths": [2, 2, 2],
                                           "num_stages": 3},
                            {"hidden_sizes": [8, 12, 16]}, target=Target(),
                            note="global response norm"),
    "segformer": pictures("Segformer", {"hidden_sizes": [32, 64, 96, 128]},
                          {"hidden_sizes": [8, 16, 20, 24], "num_attention_heads": [1, 2, 2, 2]},
                          note="reduced keys, mixed kernels"),
    "mobilevit": pictures("MobileViT", {"hidden_sizes": [72, 96, 120],
                                        "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 320]},
                          {"hidden_sizes": [8, 12, 16]}, note="convolutions and attention"),
    "regnet": pictures("RegNet", {"embedding_size": 32, "hidden_sizes": [48, 96, 192, 384],
                                  "depths": [1, 2, 3, 1], "groups_width": 24},
                       {"hidden_sizes": [24, 24, 48, 48]}, note="groups, squeeze-and-excitation"),
    "poolformer": pictures("PoolFormer", {"hidden_sizes": [32, 64, 96, 128]},
                           {"hidden_sizes": [8, 12, 16, 20]}, target=Target(),
                           note="pool minus identity, group norm"),
    "focalnet": pictures("FocalNet", {"image_size": 64, "embed_dim": 48, "depths": [2, 2, 2],
                                      "focal_levels": [2, 2, 2], "focal_windows": [3, 3, 3],
                                      "hidden_sizes": [48, 96, 192]},
                         {"embed_dim": 12}, target=Target(), note="focal modulation"),
    "cvt": pictures("Cvt", {"embed_dim": [32, 64, 96], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
                    {"embed_dim": [8, 16, 24]}, note="convolutional projections"),
}  # fmt: skip

_BART = {
    "vocab_size": WORDS, "d_model": 192, "encoder_layers": 3, "decoder_layers": 3,
    "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512, "use_cache": False, "decoder_start_token_id": 2, **ENDS,
}  # fmt: skip
_THIN = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 3,
         "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}  # fmt: skip
_TOWER = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6,
          "intermediate_size": 512}  # fmt: skip

PAIRS = {
    "bart": Family(partial(model, "Bart", "ForConditionalGeneration", _BART),
                   translated(8, 40, 24), _THIN, translated(2, 7, 5)),
    "mt5": Family(
        partial(model, "MT5", "ForConditionalGeneration",
                {"vocab_size": WORDS, "d_model": 192, "d_kv": 32, "d_ff": 512, "num_layers": 4,
                 "num_heads": 6, "use_cache": False, "decoder_start_token_id": 0}),
        translated(8, 40, 24), {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1},
        translated(2, 7, 5), note="gated GELU, relative positions"),
    "whisper": Family(
        partial(model, "Whisper", "ForConditionalGeneration",
                _BART | {"num_mel_bins": 40, "max_source_positions": 60,
                         "max_target_positions": 40}),
        heard(8, 120, 24), _THIN, heard(2, 120, 5), note="kernels over a spectrogram"),
    "clip": Family(
        partial(model, "CLIP", "Model",
                {"text_config": _TOWER | ENDS | {"vocab_size": WORDS},
                 "vision_config": _TOWER | {"image_size": 64, "patch_size": 8},
                 "projection_dim": 96}),
        both(8, 24, 64), {"text_config": SMALL | ENDS | {"vocab_size": WORDS},
                          "vision_config": SMALL | {"image_size": 64, "patch_size": 8}},
        both(2, 7, 64), note="two towers, cosines of all pairs"),
}  # fmt: skip

FAMILIES: dict[str, Family] = {
    **LANGUAGE,
    **VISION,
    **{name: replace(one, seeds=24, held_out=True) for name, one in PAIRS.items()},
}

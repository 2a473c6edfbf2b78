"""Which places of a model are read, what they are called, and how depth is counted.

One definition for the probe and the prediction.
"""

ACTIVATIONS = frozenset(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus sigmoid logsigmoid "
    "tanh hardtanh hardswish hardsigmoid softsign hardshrink softshrink tanhshrink threshold "
    "sin cos exp glu".split()
)
"""Elementwise nonlinearities (glu: elementwise on its two halves)."""

ELEMENTWISE = ACTIVATIONS - {"glu"}
"""Activations with one input per output, for which theory has moments."""

STEPS = frozenset("round round_ sign sign_ sgn floor floor_ ceil ceil_ trunc trunc_ fix".split())
"""Operations whose slope is zero wherever it is defined: no gradient comes through."""

BOUNDED = frozenset("sigmoid tanh hardtanh hardsigmoid softsign".split())
"""Activations that flatten on both sides, so that a unit can saturate."""

RECTIFIERS = frozenset("relu relu6 threshold hardshrink softshrink".split())
"""Activations whose derivative is exactly zero on a whole range, so that a unit can die."""

NORMS = frozenset("batch_norm layer_norm group_norm instance_norm rms_norm".split())

WEIGHTS = frozenset("linear conv recurrent attention".split())
"""Ops that pass the signal through a weight matrix; each counts as one layer of depth
(`attention` is torch's fused multi-head call, which counts as two)."""

KINDS = (
    ACTIVATIONS
    | NORMS
    | WEIGHTS
    | frozenset("embedding softmax log_softmax dropout pool add sdpa module".split())
)
"""Every kind a site can have; `module` is a module call that is none of the others."""

_SAME_NAME = ACTIVATIONS | NORMS | frozenset("linear softmax log_softmax embedding".split())

_FUNCTIONS = {
    **{name: name for name in _SAME_NAME},
    **{f"{name}_": name for name in ACTIVATIONS},
    **{f"conv{d}d": "conv" for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": "conv" for d in (1, 2, 3)},
    "bilinear": "linear",
    "conv_tbc": "conv",
    # What torch's functions call themselves.
    "_threshold": "threshold",
    "log_sigmoid": "logsigmoid",
    "special_expit": "sigmoid",
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "sdpa",
    "embedding_bag": "embedding",
    "softmin": "softmax",
    "gumbel_softmax": "softmax",
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "recurrent"),
    **{f"{name}_cell": "recurrent" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "mv"), "matmul"),
    **dict.fromkeys(("__matmul__", "__rmatmul__", "addmv", "tensordot"), "matmul"),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), "add"),
    **dict.fromkeys(
        "dropout dropout_ alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d "
        "feature_dropout".split(),
        "dropout",
    ),
}


def kind_of_function(name: str) -> str | None:
    """The kind of a torch function by its `__name__`; `None` for one that is not read.

    `matmul` is returned for products of two tensors: a weight layer (`linear`) if one factor is a
    parameter, otherwise not a site. `add` is a site only where it closes a residual branch.
    """
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    if "pool" in name:
        return "pool"
    return None

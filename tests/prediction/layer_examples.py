"""Examples of layers and losses, by the code of the rule, for the contract of operations."""

from dataclasses import replace

import torch
from contract import KINDS, LINES, Example
from graph_examples import scattering
from loss_examples import losses
from torch.nn import functional as F

IDS = torch.tensor([[0, 4, 2, 4], [1, 4, 3, 3], [6, 6, 2, 0]])
CAUSAL = torch.full((6, 6), float("-inf")).triu(1)


def normalization():
    long, image = (2, 3, 60), (3, 4, 5, 6)
    near = {"diverse": True, "slack": 0.06, "back_slack": 0.08, "weight_slack": 0.08}
    # Of rectified values there are fewer degrees of freedom: 1 / variance is larger in the mean.
    loose = {**near, "slack": 0.1, "back_slack": 0.2, "kinds": ("function",)}
    near["kinds"] = ("plain", "classes")
    return [
        Example(lambda x, w, b: F.layer_norm(x, (60,), w, b), (long,), ((60,), (60,)), **near),
        Example(lambda x: F.layer_norm(x, (60,)), (long,), **near),
        Example(lambda x: F.layer_norm(x, (60,)), (long,), **loose),
        Example(lambda x, w: F.rms_norm(x, (60,), w), (long,), ((60,),), **near),
        Example(lambda x, w: F.rms_norm(x, (60,), w), (long,), ((60,),), **loose),
        Example(lambda x, w, b: F.group_norm(x, 2, w, b), (image,), ((4,), (4,)), **near),
        *(
            Example(
                lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                (image,),
                ((4,), (4,)),
                **settings,
            )
            for settings in (near, loose)
        ),
        Example(lambda x: F.instance_norm(x), ((2, 3, 8, 7),), **near),
    ]


NEARLY = {"slack": 0.06, "back_slack": 0.06, "kinds": ("plain",)}
"""Rules for many Gaussian logits of one law."""


def log_softmax():
    return [
        Example(lambda x: torch.log_softmax(x, -1), ((4, 40),), **NEARLY),
        Example(lambda x: F.log_softmax(x, dim=1), ((3, 30, 4),), **NEARLY),
        Example(lambda x: torch.log(torch.softmax(x, -1)), ((4, 40),), **NEARLY),
        Example(lambda x: (torch.softmax(x, -1) + 1e-8).log(), ((4, 40),), **NEARLY),
    ]


def dropout():
    return [
        Example(lambda x: F.dropout(x, 0.3), ((3, 5),)),
        Example(lambda x: F.dropout(x, 0.3, training=False), ((3, 5),)),
        Example(lambda x: F.alpha_dropout(x, 0.3, training=True), ((3, 5),)),
        Example(lambda x: F.feature_alpha_dropout(x, 0.3, training=True), ((2, 3, 5),)),
        Example(lambda x: F.dropout1d(x, 0.3), ((2, 3, 5),)),
        Example(lambda x: F.dropout2d(x, 0.3), ((2, 3, 4, 5),)),
    ]


def embedding():
    return [
        Example(lambda w: F.embedding(IDS, w), (), ((7, 5),), weight_slack=None),
        Example(lambda w: torch.embedding(w, IDS[0]), (), ((7, 5),), weight_slack=None),
    ]


def convolution():
    image, kernel = (3, 4, 5, 6), (2, 4, 3, 2)
    return [
        Example(lambda x, w, b: F.conv1d(x, w, b, padding=1), ((2, 3, 5),), ((4, 3, 3), (4,))),
        Example(lambda x, w: F.conv1d(x, w, stride=2, padding=1), ((2, 3, 6),), ((4, 3, 3),)),
        Example(lambda x, w: F.conv2d(x, w, padding=(1, 0)), (image,), (kernel,)),
        Example(lambda x, w: F.conv2d(x, w, stride=2, dilation=(2, 1)), (image,), (kernel,)),
        Example(lambda x, w: F.conv2d(x, w, groups=2), (image,), ((6, 2, 3, 3),)),
        Example(lambda x, w: F.conv_transpose1d(x, w, stride=2), ((2, 3, 4),), ((3, 5, 3),)),
        Example(lambda x, w: F.conv3d(x, w), ((2, 2, 3, 4, 2),), ((3, 2, 2, 2, 2),)),
    ]


def pooling():
    image = (2, 3, 4, 6)
    near = {"slack": 0.06, "back_slack": 0.06}
    # Which class the largest entry is of, in other samples or channels, is not told apart.
    whole = {**near, "kinds": ("plain", "function")}
    return [
        Example(lambda x: F.avg_pool1d(x, 2), ((2, 3, 6),), linear="jointly"),
        Example(lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), (image,), linear="jointly"),
        Example(lambda x: F.adaptive_avg_pool2d(x, 1), (image,), linear="jointly"),
        Example(lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (image,), linear="jointly"),
        Example(lambda x: F.max_pool2d(x, 2), (image,), **near),
        Example(lambda x: F.max_pool1d(x, 3, stride=2), ((2, 3, 7),), **near),
        Example(lambda x: F.adaptive_max_pool2d(x, 1), (image,), **whole),
    ]


def extremes():
    # Which class the largest entry is of is not told apart.
    near = {"slack": 0.06, "back_slack": 0.06, "kinds": ("plain", "function")}
    return [
        Example(lambda x: x.amax(1), ((2, 3, 5),), **near),
        Example(lambda x: x.amin((1, 2), keepdim=True), ((2, 3, 5),), **near),
        Example(lambda x: x.max(-1)[0], ((2, 3, 5),), **near),
        # Of equal entries, such as rectified ones, torch shares the gradient out.
        Example(lambda x: torch.min(x), ((2, 3),), **near | {"kinds": ("plain",)}),
    ]


def patches():
    return [
        Example(lambda x: F.unfold(x, (2, 3), padding=1), ((2, 3, 4, 5),), linear="jointly"),
        # Entries of a window are one class.
        Example(
            lambda x: x.unfold(1, 3, 2), ((2, 7),), linear="jointly", kinds=("plain", "function")
        ),
        Example(lambda x: F.fold(x, (3, 4), (2, 2)), ((2, 12, 6),), linear="jointly"),
    ]


def resizing():
    image = (2, 3, 4, 5)
    return [
        Example(lambda x: F.interpolate(x, scale_factor=2), (image,), linear="jointly"),
        Example(
            lambda x: F.interpolate(x, size=(6, 3), mode="bilinear", align_corners=False),
            (image,),
            linear="jointly",
        ),
        Example(lambda x: F.pixel_shuffle(x, 2), ((2, 12, 3, 4),), linear="jointly"),
        Example(lambda x: F.pixel_unshuffle(x, 2), ((2, 3, 4, 6),), linear="jointly"),
        Example(lambda x: F.channel_shuffle(x, 2), ((2, 6, 3, 4),), linear="jointly"),
    ]


def response():
    return [
        Example(lambda x: F.local_response_norm(x, 3), ((2, 5, 3, 4),), slack=0.01, back_slack=0.01)
    ]


def softmax():
    near = {"diverse": True, "slack": 0.08, "back_slack": 0.15, "kinds": ("plain",)}
    attention = F.scaled_dot_product_attention
    q, v, small = (2, 6, 16), (2, 6, 5), 0.1
    # Of two keys one wins more than is said: logits are small where queries see few keys. What a
    # query sees is averaged over those of its class.
    masked = {**near, "back_slack": 0.3}
    return [
        Example(lambda x: torch.softmax(x, -1), ((2, 3, 40),), **near),
        Example(lambda x: F.softmax(x, 1), ((2, 40, 3),), **near),
        Example(attention, (q, q, v), **near),
        Example(lambda *x: attention(*x, is_causal=True, scale=small), (q, q, v), **masked),
        Example(lambda *x: attention(*x, CAUSAL.to(x[0].dtype), scale=small), (q, q, v), **masked),
    ]


def composed():
    near = {"diverse": True, "slack": 0.05, "back_slack": 0.06, "kinds": ("plain",)}
    gated = {"diverse": True, "slack": 0.1, "back_slack": 0.1, "kinds": ("plain", "classes")}
    pair = ((3, 50), (3, 50))
    return [
        Example(lambda x: F.glu(x, 1), ((3, 8, 5),), **gated),
        Example(lambda x, w: F.prelu(x, w), ((3, 4, 5),), ((4,),)),
        Example(lambda v, g: torch._weight_norm(v, g, 0), ((4, 90), (4, 1)), **near),
        Example(lambda x: F.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)), ((3, 4, 5),)),
        Example(lambda x, y: torch.outer(x, y), ((3,), (5,)), linear="each"),
        Example(lambda x, y: F.cosine_similarity(x, y, dim=1), pair, **near),
        Example(F.pairwise_distance, pair, **near),
        Example(lambda x: torch.std_mean(x, -1), ((3, 50),), **near),
        Example(lambda x: torch.var_mean(x, dim=-1, keepdim=True), ((3, 50),), **near),
    ]


def with_lines(examples):
    """Examples that are to hold on axes that tell near from far, too."""
    return [
        replace(one, kinds=LINES) if one.kinds == KINDS and len(one.inputs[0]) > 2 else one
        for one in examples
    ]


def cumulative():
    return [
        Example(lambda x: x.cumsum(1), ((3, 5),), linear="jointly"),
        Example(lambda x: torch.cumsum(x, dim=-2), ((2, 6, 4),), linear="jointly"),
        Example(lambda x: x.cumsum(0) / torch.arange(1.0, 8.0)[:, None], ((7, 3),)),
    ]


EXAMPLES = {
    "cumulative": cumulative(),
    "normalization": with_lines(normalization()),
    "dropout": dropout(),
    "log_softmax": log_softmax(),
    "embedding": embedding(),
    "convolution": with_lines(convolution()),
    "pooling": with_lines(pooling()),
    "extremes": extremes(),
    "patches": patches(),
    "resizing": [*with_lines(resizing()[:3]), *resizing()[3:]],
    "response": response(),
    "scattering": scattering(),
    "softmax": softmax(),
    "losses": losses(),
    "composed": composed(),
}

"""Examples of operations of arithmetic and layout, by the code of the rule, for the contract.

No two sizes of a shape are alike, so that no axis can be taken for another.
"""

import torch
from contract import KINDS, Example
from torch.nn import functional as F

COARSE = ("plain", "function")
"""Kinds without classes, for rules that give classes up."""
RAMP = torch.linspace(-1.0, 2.0, 15).reshape(3, 5)
HALF = torch.tensor(0.5)
KEEP = RAMP.abs() > 0.6


def of_each(functions, **settings):
    """Functions of one tensor, each on one kind of field in turn."""
    return [
        Example(function, ((3, 5),), kinds=(KINDS[number % 3],), **settings)
        for number, function in enumerate(functions)
    ]


def elementwise():
    anywhere = [
        F.relu,
        F.relu6,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.celu,
        F.gelu,
        F.silu,
        F.mish,
        F.softplus,
        torch.sigmoid,
        F.logsigmoid,
        torch.tanh,
        F.hardtanh,
        F.hardswish,
        F.hardsigmoid,
        F.softsign,
        F.hardshrink,
        F.softshrink,
        F.tanhshrink,
        torch.sin,
        torch.cos,
        torch.abs,
        torch.absolute,
        torch.sign,
        torch.erf,
        torch.erfc,
        torch.atan,
        torch.arctan,
        torch.asinh,
        torch.special.expit,
        torch.special.erf,
        torch.sinc,
        torch.nan_to_num,
        torch.round,
        torch.floor,
        torch.ceil,
        torch.trunc,
        torch.square,
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: F.threshold(x, 0.1, 2.0),
        lambda x: x.clamp(-0.5, 1.0),
        lambda x: torch.clip(x, max=0.4),
        lambda x: x.clamp_min(0.2),
        lambda x: torch.clamp_max(x, 0.2),
        lambda x: torch.logit(torch.sigmoid(x)),
        lambda x: F.relu(x.clone(), inplace=True),
        lambda x: x.clone().sigmoid_(),
        lambda x: F.threshold_(x.clone(), 0.1, 2.0),
        lambda x: x**2,
        lambda x: torch.pow(x, 3) / 8,
    ]
    tame = [torch.exp, torch.exp2, torch.expm1, torch.sinh, torch.cosh]
    positive = [
        torch.log, torch.log2, torch.log10, torch.log1p, torch.sqrt, torch.rsqrt, torch.reciprocal,
        torch.lgamma,
        lambda x: x**-1.5,
        lambda x: torch.float_power(x, 0.5).to(x.dtype),
    ]  # fmt: skip
    truth = [
        lambda x: x > 0.3, lambda x: x.lt(0.3), lambda x: torch.ge(x, 0.3), lambda x: x <= 0.3,
        lambda x: x == 0.0, lambda x: x.ne(0.0), lambda x: torch.logical_not(x), lambda x: x.bool(),
    ]  # fmt: skip
    return [
        *of_each(anywhere),
        *of_each(tame, shift=0.5),
        *of_each(positive, shift=6.0),
        *of_each(truth),
        Example(F.rrelu, ((3, 5),), vectorized=False),
        Example(
            lambda x: F.rrelu(x, training=True),
            ((3, 5),),
            slack=0.03,
            back_slack=0.03,
            vectorized=False,
        ),
    ]


def arithmetic():
    pair, wide = ((3, 5), (3, 5)), ((2, 3, 5), (3, 1))
    return [
        Example(lambda x, y: x + y, pair, linear="jointly"),
        Example(lambda x, y: x - y, wide, linear="jointly"),
        Example(lambda x, y: torch.sub(x, y, alpha=0.5), ((5,), (3, 1)), linear="jointly"),
        Example(lambda x, y: torch.rsub(x, y), pair, linear="jointly"),
        Example(lambda x, y: torch.add(x, y, alpha=2), pair, linear="jointly"),
        Example(lambda x, y: torch.subtract(x, y), pair, linear="jointly"),
        Example(lambda x, y: x.clone().add_(y), pair, linear="jointly"),
        Example(lambda x, y: x * y, wide, linear="each"),
        Example(lambda x, y: torch.multiply(x, y), pair, linear="each"),
        Example(lambda x, y: x / y, pair, shift=6.0, slack=0.01, back_slack=0.01),
        Example(lambda x, y: torch.divide(x, y), pair, shift=6.0, kinds=("plain",)),
        Example(lambda x: x / 4, ((3, 5),), linear="jointly"),
        Example(lambda x: torch.true_divide(x, 4), ((3, 5),), linear="jointly"),
        Example(lambda x: 2 - x, ((3, 5),)),
        Example(lambda x: 1 / x, ((3, 5),), shift=6.0),
        Example(lambda x: 2**x, ((3, 5),), shift=0.5),
        Example(lambda x: 3 * x + 1, ((3, 5),)),
        Example(lambda x: -x, ((3, 5),), linear="jointly"),
        Example(torch.negative, ((3, 5),), linear="jointly"),
        Example(lambda x: x + RAMP.to(x.dtype), ((3, 5),)),
        Example(lambda x: RAMP.to(x.dtype) - x, ((3, 5),)),
        Example(lambda x: x * RAMP.to(x.dtype), ((3, 5),), linear="jointly"),
        Example(lambda x: RAMP.to(x.dtype) * x, ((2, 3, 5),), linear="jointly"),
        Example(lambda x: x / (RAMP.to(x.dtype) + 4), ((3, 5),), linear="jointly"),
        Example(lambda x: x * HALF.to(x.dtype), ((3, 5),), linear="jointly"),
        Example(lambda x: x * torch.sigmoid(x), ((3, 5),)),
        Example(lambda x: x + x, ((3, 5),), linear="jointly"),
        Example(lambda x: x * x, ((3, 5),)),
        Example(lambda x: torch.maximum(x, 0.5 * x), ((3, 5),)),
        Example(lambda x: torch.tanh(x) - torch.relu(x), ((3, 5),)),
        Example(torch.maximum, pair, slack=0.05, back_slack=0.05),
        Example(torch.minimum, pair, slack=0.05, back_slack=0.05, kinds=("plain",)),
        Example(torch.atan2, pair, slack=0.05, back_slack=0.05, shift=1.0, kinds=("plain",)),
        Example(lambda x, y: torch.lerp(x, y, 0.3), pair, linear="jointly"),
        Example(
            lambda x, y, z: torch.lerp(x, y, torch.sigmoid(z)), (*pair, (3, 5)), kinds=("plain",)
        ),
        Example(lambda x, y, z: torch.addcmul(x, y, z, value=0.5), (*pair, (3, 5))),
        Example(lambda x, y, z: torch.addcdiv(x, y, z), (*pair, (3, 5)), shift=6.0, slack=0.01),
    ]


def choices():
    pair = ((3, 5), (3, 5))

    def between(x):
        return ((x > -0.5) & ~(x > 1.0)).to(x.dtype)

    return [
        Example(lambda x: torch.where(x > 0, x, 0.1 * x), ((3, 5),)),
        Example(lambda x: torch.where(x > 0, x.sigmoid(), -1.0), ((3, 5),)),
        Example(lambda x: x.where(x < 0.5, HALF.to(x.dtype)), ((3, 5),)),
        Example(lambda x, y: x.where(y > 0, y), pair, slack=0.05, kinds=("plain",)),
        Example(lambda x, y: x.where(KEEP, y), pair, linear="jointly"),
        Example(between, ((3, 5),)),
        Example(lambda x: x * torch.logical_or(x > 1, x < -1), ((3, 5),)),
        Example(lambda x: (x > 1) ^ (x > 0), ((3, 5),)),
        Example(lambda x, y: ((x > 0) & (y > 0)).to(x.dtype), pair, slack=0.05),
        Example(lambda x, y: torch.where(KEEP, x, y), pair, linear="jointly"),
        Example(lambda x: torch.where(KEEP, x, 0.5), ((3, 5),)),
        Example(
            lambda x, y: torch.where(y > 0, x, y),
            pair,
            slack=0.05,
            back_slack=0.05,
            kinds=("plain", "classes"),
        ),
    ]


def linear():
    x, y = (2, 3, 5), (2, 5, 4)
    return [
        Example(lambda x, w, b: F.linear(x, w, b), (x,), ((4, 5), (4,))),
        Example(lambda x, w: F.linear(x, w), ((3, 5),), ((4, 5),), linear="each"),
        Example(lambda x, w: F.linear(x, w), ((5,),), ((4, 5),), linear="each"),
        Example(lambda x, y: x @ y, (x, y), linear="each"),
        Example(lambda x, y: x @ y, (x, (5, 4)), linear="each"),
        Example(lambda x, y: torch.matmul(x, y), ((3, 5), y), linear="each"),
        Example(lambda x, y: torch.matmul(x, y), ((5,), (5, 4)), linear="each"),
        Example(lambda x, y: torch.matmul(x, y), (x, (5,)), linear="each"),
        Example(lambda x, y: torch.matmul(x, y), ((7, 1, 3, 5), y), linear="each"),
        Example(lambda x, y: torch.linalg.matmul(x, y), (x, y), linear="each"),
        Example(lambda x: RAMP.to(x.dtype) @ x, ((5, 4),), kinds=COARSE, linear="each"),
        Example(torch.mm, ((3, 5), (5, 4)), linear="each"),
        Example(torch.bmm, (x, y), linear="each"),
        Example(torch.mv, ((3, 5), (5,)), linear="each"),
        Example(torch.dot, ((5,), (5,)), linear="each"),
        Example(lambda x, w, b: torch.addmm(b, x, w, beta=0.5, alpha=2), ((3, 5),), ((5, 4), (4,))),
        Example(lambda x, y, z: torch.baddbmm(z, x, y), (x, y, (2, 3, 4))),
        Example(lambda x, y, z: torch.addbmm(z, x, y), (x, y, (3, 4))),
        Example(lambda x, y, z: torch.addmv(z, x, y), ((3, 5), (5,), (3,))),
        Example(
            lambda x, y: torch.einsum("bhid,bhjd->bhij", x, y),
            ((2, 3, 4, 5), (2, 3, 6, 5)),
            linear="each",
        ),
        Example(lambda x, y: torch.einsum("...i,ij->...j", x, y), (x, (5, 4)), linear="each"),
        Example(lambda x, y: torch.einsum("bi,bj", x, y), ((3, 5), (3, 4)), linear="each"),
        Example(lambda x: torch.einsum("bij->jb", x), ((3, 5, 4),), linear="jointly"),
        Example(
            lambda x, y, z: torch.einsum("bi,ij,cj->bc", x, y, z),
            ((3, 5), (5, 4), (2, 4)),
            linear="each",
        ),
        Example(lambda x, y: torch.tensordot(x, y, dims=1), (x, (5, 4)), linear="each"),
        Example(
            lambda x, y: torch.tensordot(x, y, dims=([0, 1], [1, 0])), (x, (3, 2, 4)), linear="each"
        ),
        Example(lambda x, y: torch.inner(x, y), (x, (4, 5)), linear="each"),
        Example(lambda x, y, w, b: F.bilinear(x, y, w, b), ((3, 5), (3, 4)), ((2, 5, 4), (2,))),
    ]


def layout():
    whole, image = (2, 3, 4), (2, 6, 5)
    functions = [
        lambda x: x.permute(2, 0, 1),
        lambda x: torch.transpose(x, 0, 2),
        lambda x: x.swapaxes(1, 2),
        lambda x: torch.swapdims(x, 0, 1),
        lambda x: torch.movedim(x, 0, -1),
        lambda x: x.moveaxis((0, 1), (2, 0)),
        lambda x: x.mT,
        lambda x: x.mH,
        lambda x: x.adjoint(),
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x),
        lambda x: x.ravel(),
        lambda x: x.view(2, 12),
        lambda x: x.reshape(-1, 4),
        lambda x: x.reshape(2, 3, 2, 2),
        lambda x: x.unflatten(2, (2, 2)),
        lambda x: x.view_as(torch.empty(2, 12)),
        lambda x: x.reshape_as(torch.empty(6, 4)),
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x[:, None].squeeze(),
        lambda x: x.contiguous().clone(),
        lambda x: x.unsqueeze(0).expand(5, -1, -1, -1),
        lambda x: x.unsqueeze(2).expand_as(torch.empty(2, 3, 5, 4)),
        lambda x: x.broadcast_to((5, 2, 3, 4)),
        lambda x: torch.tile(x, (2, 1)),
        lambda x: x.repeat(3, 1, 2, 1),
    ]
    return [
        *(Example(f, (whole,), linear="jointly") for f in functions),
        Example(lambda x: x.t(), ((3, 5),), linear="jointly"),
        Example(lambda x: x.T, ((3, 5),), linear="jointly"),
        Example(lambda x: x.H, ((3, 5),), linear="jointly"),
        Example(lambda x: x.reshape(2, 2, 3, 5).transpose(1, 2), (image,), linear="jointly"),
        Example(lambda x: x.reshape(2, 3, 2, 5).transpose(1, 2).reshape(2, 6, 5), (image,)),
        Example(lambda x: x.detach(), ((3, 5),)),
        Example(lambda x: x.to(torch.float64), ((3, 5),)),
        Example(lambda x: x.double(), ((3, 5),)),
        Example(lambda x: x.type(torch.float64), ((3, 5),)),
        Example(lambda x: x.type_as(torch.empty(1, dtype=torch.float64)), ((3, 5),)),
    ]


def indexing():
    whole = (2, 5, 4)
    one = [
        lambda x: x[:, 0],
        lambda x: x[1],
        lambda x: x[:, -1, :],
        lambda x: x[:, 1:4],
        lambda x: x[..., 2:],
        lambda x: x[..., None, 1],
        lambda x: x[:, ::2],
        lambda x: x[:, 1:, ::2],
        lambda x: x[:, [0, 2, 2]],
        lambda x: x[:, torch.tensor([4, 1])],
        lambda x: x[:, torch.tensor([True, False, True, True, False])],
        lambda x: x[torch.arange(2), torch.tensor([4, 1])],
        lambda x: x.select(1, 2),
        lambda x: x.narrow(1, 1, 3),
        lambda x: torch.narrow(x, -1, 1, 2),
        lambda x: x.chunk(2, dim=1),
        lambda x: torch.chunk(x, 2, -1),
        lambda x: x.split(2, dim=1),
        lambda x: torch.split(x, [1, 4], 1),
        lambda x: x.split_with_sizes([3, 2], 1),
        lambda x: x.tensor_split(2, dim=1),
        lambda x: torch.tensor_split(x, (1, 3), dim=1),
        lambda x: x.unbind(1)[:3],
        lambda x: torch.unsafe_chunk(x, 2, 1),
        lambda x: torch.unsafe_split(x, 2, 1),
        lambda x: x.flip(1),
        lambda x: torch.flip(x, (0, 1)),
        lambda x: x.roll(2, 1),
        lambda x: torch.roll(x, (1, 2), (0, 1)),
        lambda x: x.index_select(1, torch.tensor([3, 3, 0])),
        lambda x: x.repeat_interleave(3, dim=1),
        lambda x: torch.repeat_interleave(x, 2, -1),
        lambda x: F.pad(x, (1, 2)),
        lambda x: F.pad(x, (0, 0, 2, 1)),
        lambda x: F.pad(x, (1, 1, 1, 0), mode="reflect"),
        lambda x: F.pad(x, (1, 2), mode="replicate"),
        lambda x: F.pad(x, (1, 2), mode="circular"),
        lambda x: torch.constant_pad_nd(x, (1, 2)),
    ]
    return [
        *(Example(f, (whole,), linear="jointly", kinds=("plain", "function")) for f in one),
        *(Example(f, (whole,), kinds=("classes",)) for f in one),
        Example(lambda x, y: torch.cat([x, y], 1), ((2, 1, 4), (2, 5, 4)), linear="jointly"),
        Example(lambda x, y: torch.concat([x, y], -1), ((2, 5, 3), (2, 5, 4)), linear="jointly"),
        Example(lambda x, y: torch.concatenate([x, y], 0), ((3, 4), (2, 4)), linear="jointly"),
        Example(lambda x, y: torch.hstack([x, y]), ((2, 3), (2, 4)), linear="jointly"),
        Example(lambda x, y: torch.vstack([x, y]), ((2, 4), (3, 4)), linear="jointly"),
        Example(lambda x, y: torch.stack([x, y], 1), ((3, 5), (3, 5)), linear="jointly"),
        Example(lambda x, y: torch.stack([x, y], -1), ((3, 5), (3, 5)), linear="jointly"),
        Example(lambda x: F.pad(x, (1, 2), value=1.5), (whole,)),
        Example(lambda x: torch.tril(x), ((2, 4, 5),), linear="jointly"),
        Example(lambda x: x.triu(1), ((2, 4, 5),), linear="jointly"),
        Example(lambda x: x.masked_fill(KEEP, 0.0), ((3, 5),), linear="jointly"),
        Example(lambda x: x.masked_fill(KEEP, 2.0), ((3, 5),)),
    ]


def put(index):
    """A function that puts its second argument into its first."""

    def function(x, y):
        x = x.clone()
        x[index] = y
        return x

    return function


def setting():
    whole = (2, 5, 4)
    return [
        Example(put((slice(None), 0)), (whole, (2, 4))),
        Example(put((slice(None), slice(1, 3))), (whole, (2, 2, 4))),
        Example(put((..., slice(2, None))), (whole, (1,)), kinds=("plain", "function")),
        Example(put(1), (whole, (5, 4)), linear="jointly"),
        Example(lambda x: put((slice(None), -1))(x, 0.5), (whole,)),
    ]


def reductions():
    whole, long = (2, 3, 5), (2, 3, 60)
    near = {"diverse": True, "slack": 0.06, "back_slack": 0.06, "kinds": ("plain", "classes")}
    of_rectified = {"diverse": True, "slack": 0.2, "back_slack": 0.2, "kinds": ("function",)}
    return [
        Example(lambda x: x.mean(1), (whole,), linear="jointly"),
        Example(lambda x: x.mean((0, 2), keepdim=True), (whole,), linear="jointly"),
        Example(lambda x: x.mean(), (whole,), linear="jointly"),
        Example(lambda x: torch.sum(x, dim=-1), (whole,), linear="jointly"),
        Example(lambda x: x.sum(), (whole,), linear="jointly"),
        Example(lambda x: torch.nansum(x, 1), (whole,), linear="jointly"),
        Example(lambda x: torch.nanmean(x, 1), (whole,), linear="jointly"),
        Example(lambda x: x - x.mean(1, keepdim=True), (whole,), linear="jointly"),
        Example(lambda x: x - x.mean(-1, keepdim=True), (whole,), linear="jointly"),
        Example(lambda x: x.var(-1), (long,), **near),
        Example(lambda x: torch.var(x, -1, correction=0, keepdim=True), (long,), **near),
        Example(lambda x: x.std(-1), (long,), **near),
        Example(lambda x: x.norm(dim=-1), (long,), **near),
        Example(lambda x: torch.linalg.vector_norm(x, dim=-1), (long,), **near),
        Example(lambda x: F.normalize(x, dim=-1), (long,), **near),
        Example(lambda x: F.normalize(x, dim=-1), (long,), **of_rectified),
    ]


EXAMPLES = {
    "elementwise": elementwise(),
    "arithmetic": arithmetic(),
    "choices": choices(),
    "linear": linear(),
    "layout": layout(),
    "indexing": indexing() + setting(),
    "reductions": reductions(),
}

"""Lesions: residual networks with blocks deleted, swapped, or passed by (Veit et al. 2016)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab.convolutional import ConvBranch, wrong
from isograd.lab.images import Images
from isograd.lab.networks import Branch

Block = Branch | ConvBranch


def blocks_of(net: nn.Sequential) -> list[Block]:
    """The blocks of a network, first to last."""
    return [m for m in net if isinstance(m, Branch | ConvBranch)]


def carry(block: Block, x: Tensor) -> Tensor:
    """What passes beside a block's branch."""
    return block.carry(x) if isinstance(block, ConvBranch) else x


def alike(a: Block, b: Block) -> bool:
    """Whether two blocks can change places: the same shapes in and out."""
    shapes = [[tuple(p.shape) for p in one.parameters()] for one in (a, b)]
    strides = [one.carry.stride if isinstance(one, ConvBranch) else 1 for one in (a, b)]
    return shapes[0] == shapes[1] and strides[0] == strides[1]


@torch.no_grad()
def error(
    net: nn.Sequential,
    data: Images,
    without: set[int],
    *,
    order: list[int] | None = None,
    renew: bool = False,
) -> float:
    """Test error of a network without some of its blocks, or with its blocks in another order.

    Args:
        net: the trained network; left as it is.
        data: what it is tested on, 2,000 samples of it.
        without: blocks to leave out; what they carry passes.
        order: all blocks, in the order they are to run.
        renew: whether batch norms get their statistics anew.
    """
    blocks = blocks_of(net)
    kept: list[nn.Module] = [blocks[i] for i in order or range(len(blocks))]
    for index in without:
        block = blocks[index]
        kept[index] = block.carry if isinstance(block, ConvBranch) else nn.Identity()
    layers = list(net)
    first = layers.index(blocks[0])
    changed = nn.Sequential(*layers[:first], *kept, *layers[first + len(blocks) :])
    if renew:
        changed = copy.deepcopy(changed)
        for module in changed.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # the plain mean of what follows
        changed.train()
        for part in data.inputs[:2000].split(200):
            changed(part)
    return wrong(changed, data.test_inputs[:2000], data.test_labels[:2000])


def along_paths(
    net: nn.Sequential, data: Images, lengths: list[int], samples: int, stream: torch.Generator
) -> list[float]:
    """Norm of the gradient that comes back on one path, in the mean, by the path's length.

    Args:
        net: the trained network; left as it is.
        data: the gradient is that of the loss of 64 samples.
        lengths: blocks whose branch a path takes; it passes the others by their carry.
        samples: random paths of each length.
        stream: chooses them.
    """
    net = copy.deepcopy(net).double().eval()  # float32 ends at paths of thirty blocks
    layers, blocks = list(net), blocks_of(net)
    first = layers.index(blocks[0])
    x = data.inputs[:64].double()
    with torch.no_grad():
        for module in layers[:first]:
            x = module(x)
    inner: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in blocks:
        entry = x.detach().requires_grad_()
        branch, beside = block.f(entry), carry(block, entry)
        inner.append((entry, branch, beside))
        x = (branch + beside).detach()
    x.requires_grad_()
    out = x
    for module in layers[first + len(blocks) :]:
        out = module(out)
    (end,) = torch.autograd.grad(F.cross_entropy(out, data.labels[:64]), x)
    means = []
    for length in lengths:
        norms = []
        for _ in range(samples):
            chosen = set(torch.randperm(len(blocks), generator=stream)[:length].tolist())
            gradient = end
            for index in reversed(range(len(blocks))):
                entry, branch, beside = inner[index]
                if index not in chosen and beside is entry:
                    continue  # passed on as it is
                taken = branch if index in chosen else beside
                (gradient,) = torch.autograd.grad(taken, entry, gradient, retain_graph=True)
            norms.append(float(gradient.norm()))
        means.append(sum(norms) / len(norms))
    return means

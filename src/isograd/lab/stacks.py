"""Losses and gradients of plain stacks trained together, without a graph of the whole.

Between small networks' matrix products, vmap and autograd take as long as the products. In a plain
stack, linear layers with elementwise functions between them, the chain rule is three lines:
dL/dW = h^T g, dL/db = sum g, dL/dh = g W^T, for the gradient g in front of the layer's output.
"""

from collections.abc import Callable, Iterable
from typing import TypeGuard

import torch
from torch import Tensor, nn

from isograd.lab.networks import Sine

ELEMENTWISE = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softsign,
    Sine,
)
"""Modules without parameters that do the same to every entry, whatever the shape."""


def is_plain(model: nn.Module) -> TypeGuard[nn.Sequential]:
    """A Sequential of nn.Linear with bias and ELEMENTWISE; nothing shared, frozen or hooked.

    An nn.Flatten may come first.
    """
    if type(model) is not nn.Sequential or not len(model):
        return False
    first, *rest = model
    layers = rest if type(first) is nn.Flatten and first.start_dim == 1 else [first, *rest]
    linear = [module for module in layers if type(module) is nn.Linear]
    others = [module for module in layers if type(module) is not nn.Linear]
    parameters = list(model.parameters())
    return (
        all(type(m) in ELEMENTWISE and not getattr(m, "inplace", False) for m in others)
        and len(parameters) == 2 * len(linear) > 0
        and all(p.requires_grad for p in parameters)
        and not any(
            value
            for module in model.modules()
            for name, value in vars(module).items()
            if name.endswith("_hooks")
        )
    )


def backward(
    model: Iterable[nn.Module],
    leaves: Iterable[Tensor],
    inputs: Tensor,
    losses_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """Writes the gradient of every network's loss into `leaves`; the losses, [n].

    Args:
        model: layers of a network that `is_plain`.
        leaves: weights [n, in, out] and biases [n, out] of its linear layers, in turn.
        inputs: of all networks, [batch, ...].
        losses_of: outputs [n, batch, classes] -> losses [n], each of its own network's outputs.
    """
    values = list(leaves)
    pairs = zip(values[::2], values[1::2], strict=True)
    # Gradients are written where the last ones were: fresh memory costs more than the products.
    for leaf in values:
        if leaf.grad is None:
            leaf.grad = torch.empty_like(leaf)
    passed: list[tuple[Tensor, ...]] = []
    h = inputs.flatten(1).expand(len(values[0]), -1, -1)
    with torch.no_grad():
        for module in model:
            if type(module) is nn.Linear:
                weight, bias = next(pairs)
                passed.append((h, weight, bias))
                h = torch.bmm(h, weight).add_(bias.unsqueeze(1))
            elif type(module) is nn.ReLU and passed and len(passed[-1]) == 3:
                passed.append((h.relu_(),))  # its output tells its slope
            elif type(module) is not nn.Flatten:
                before = h.detach().requires_grad_()
                with torch.enable_grad():
                    after = module(before)
                passed.append((before, after))
                h = after.detach()
    with torch.enable_grad():
        outputs = h.detach().requires_grad_()
        losses = losses_of(outputs)
    (g,) = torch.autograd.grad(losses.sum(), outputs)
    with torch.no_grad():
        while passed:
            before, *own = passed.pop()  # what is let go of now is where the next gradient comes
            if not own:
                g = torch.ops.aten.threshold_backward(g, before, 0)
            elif len(own) == 1:
                (g,) = torch.autograd.grad(own[0], before, g)
            else:
                weight, bias = own
                torch.bmm(before.mT, g, out=weight.grad)
                torch.sum(g, 1, out=bias.grad)
                g = torch.bmm(g, weight.mT) if passed else g
    return losses.detach()

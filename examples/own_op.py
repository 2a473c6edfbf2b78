"""A rule for an operation of one's own: what `isograd predict` makes of a kernel of yours.

python examples/own_op.py

Once the package that holds it is installed with

    [project.entry-points."isograd.prediction.ops"]
    squared-relu = "yourpackage.own_op:SquaredReLU"

in its pyproject.toml, every prediction goes by it. Without a rule such an operation is run on
random samples, as the Record then says (`prediction.sampled`), with a wider band.
"""

from typing import Any

import torch
from torch import Tensor, nn

from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import of_one


@torch.library.custom_op("own::squared_relu", mutates_args=())
def squared_relu(x: Tensor) -> Tensor:
    """Stands for a kernel in C++ or Triton."""
    return x.clamp(min=0.0).square()


def keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    """What the kernel's backward needs."""
    del output
    ctx.save_for_backward(*inputs)


def back(ctx: Any, gradient: Tensor) -> Tensor:
    """The kernel's backward."""
    return 2 * ctx.saved_tensors[0].clamp(min=0.0) * gradient


squared_relu.register_autograd(back, setup_context=keep)


class SquaredReLU(Op):
    """max(0, x)^2, entry by entry."""

    code = "squared-relu"
    functions = ("own::squared_relu",)
    lines = functions
    source = "So et al. 2021, arXiv 2109.08668"

    def apply(self, call: Any, *args: Any, **kwargs: Any) -> Outcome:
        """Called as the kernel is."""
        x = args[0] if args else kwargs["x"]
        return of_one(call, call.field(x), lambda v: v.clamp(min=0.0).square())


class Net(nn.Module):
    """A perceptron that uses the kernel."""

    def __init__(self, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Layers and kernels in turn."""
        for layer in self.layers:
            x = squared_relu(layer(x))
        return x


if __name__ == "__main__":
    import isograd

    print(isograd.predict(Net, "float32[32,256]").series["forward.rms"])

"""Plain stacks of linear layers."""

from functools import partial

from torch import nn

from patients.architectures.family import Family, gaussian

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}
DRAWS = {("relu", True): 8192, ("gelu", True): 1024}
"""Where single draws differ by a fifth and more, by activation and whether it is He's."""


def mlp(
    activation: type[nn.Module], *, he: bool = False, layers: int = 30, width: int = 400
) -> nn.Sequential:
    """`layers` hidden layers; torch's default initialization, or He's normal one."""
    stack: list[nn.Module] = []
    for _ in range(layers):
        stack += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*stack, nn.Linear(width, 10))
    if he:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
    return model


FAMILIES = {
    f"mlp30-{name}-{'he' if he else 'default'}": Family(
        partial(mlp, activation, he=he),
        gaussian(64, 400),
        small={"layers": 3, "width": 20},
        small_inputs=gaussian(7, 20),
        seeds=DRAWS.get((name, he), 256),
        note="30 x 400"
        + ("; unstable length map, not predictable" if (name, he) == ("gelu", True) else ""),
    )
    for name, activation in ACTIVATIONS.items()
    for he in (False, True)
}

"""init-forget-bias: LSTMs that start by remembering."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import example
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitForgetBias(Remedy):
    """Start the forget gates of LSTMs open.

    Does: sets the forget gate's part of the hidden biases to `value` and of the input biases to
        zero: torch adds the two, and draws both around zero, so that half of the state is
        forgotten at every step. `by="length"` sets them to ln(T - 1) for sequences of T steps, of
        which the state then forgets 1 / T at each, and the input gate's to minus half of that:
        T values, each of which enters with T ** -0.5, add up to the variance of one, where the
        sum of whole ones leaves the range of tanh behind.

    Needs: an LSTM (nn.LSTM or nn.LSTMCell) with biases whose forget gate starts below half of
        `value`, which leaves more than `nothing` of the state after the whole sequence; by the
        length, an nn.LSTM whose sequence is long for `value`.

    Source: Gers, Schmidhuber and Cummins 2000, Learning to forget; Jozefowicz, Zaremba and
        Sutskever 2015, An empirical exploration of recurrent network architectures; Tallec and
        Ollivier 2018, Can recurrent neural networks warp time?, section 2.
    """

    code: ClassVar[str] = "init-forget-bias"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("recurrent-jacobian",)

    value: float = 1.0
    """The gate then starts at 0.73; 2 gives 0.88, for memories of some ten steps."""
    by: Literal["value", "length"] = "value"
    """One value, or a memory as long as the sequence."""
    nothing: float = 1e-6
    """Part of the state that is no memory: float32 rounds. With 1 it is reached after 44 steps."""

    def plan(self, case: Case) -> Plan | str:
        """Finds LSTMs whose forget gates are not open."""
        value = self._value(case)
        if isinstance(value, str):
            return value
        biases: list[str] = []
        found = 0
        for path, module in case.model.named_modules():
            if not isinstance(module, (nn.LSTM, nn.LSTMCell)) or not module.bias:
                continue
            found += 1
            for own in [n for n, _ in module.named_parameters(recurse=False) if "bias_hh" in n]:
                other = own.replace("bias_hh", "bias_ih")
                gate = _forget(module.get_parameter(own)) + _forget(module.get_parameter(other))
                if float(gate.mean()) < value / 2:
                    biases.append(f"{path}.{own}".lstrip("."))
        if not found:
            return "it has no LSTM with biases"
        if not biases:
            return f"the forget gates of its {found} LSTMs start open"
        lines = [
            "biases = model.get_parameter(name).detach().chunk(4)  # input, forget, cell, output",
            'given = model.get_parameter(name.replace("bias_hh", "bias_ih")).detach().chunk(4)',
            f"nn.init.constant_(biases[1], {number(value)})",
            "nn.init.zeros_(given[1])",
        ]
        if self.by == "length":
            lines += [
                f"nn.init.constant_(biases[0], {number(-value / 2)})",
                "nn.init.zeros_(given[0])",
            ]
        body = "\n".join(lines)
        kept = float(torch.sigmoid(torch.tensor(value)))
        return Plan(
            self.code,
            f"The state keeps {kept:.3g} of itself per step where it kept 0.5.",
            program(loop("name", biases, body)),
        )

    def _value(self, case: Case) -> float | str:
        """What to set, or why the length of the sequence asks for nothing else."""
        sites = [s for s in case.record.sites if s.kind == "recurrent" and len(s.shape) > 2]
        size = case.record.fact("batch.size")
        steps = max((s.shape[1] if s.shape[0] == size else s.shape[0] for s in sites), default=0)
        kept = steps * math.log1p(math.exp(-self.value))  # of the state, after all steps
        if self.by == "value" and kept <= -math.log(self.nothing):
            return self.value
        if self.by == "value":
            return f"of {steps} steps {number(self.value)} would leave {math.exp(-kept):.1g}"
        if steps - 1 <= math.exp(2 * self.value):
            return f"its sequences have {steps} steps, for which {number(self.value)} is enough"
        return math.log(steps - 1)

    def variants(self) -> tuple[Remedy, ...]:
        """One value, and a memory as long as the sequence."""
        return (self, replace(self, by="length"))

    @staticmethod
    def sick() -> Case:
        """Torch's default."""
        return example(lambda: _Last(nn.LSTM(6, 11, batch_first=True)), _sequences)

    @staticmethod
    def well() -> Case:
        """An LSTM whose forget gates are open."""

        def model() -> nn.Module:
            made = _Last(nn.LSTM(6, 11, batch_first=True))
            nn.init.ones_(_forget(made.layer.get_parameter("bias_hh_l0")))
            nn.init.zeros_(_forget(made.layer.get_parameter("bias_ih_l0")))
            return made

        return example(model, _sequences)


def _forget(bias: Tensor) -> Tensor:
    """The second of four: input, forget, cell, output."""
    return bias.detach().chunk(4)[1]


class _Last(nn.Module):
    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


def _sequences() -> tuple[Tensor, Tensor]:
    return torch.randn(9, 13, 6), torch.randint(5, (9,))

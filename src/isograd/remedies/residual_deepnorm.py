"""residual-deepnorm: an initialization that lets post-norm transformers be deep."""

from dataclasses import dataclass, replace
from typing import ClassVar

from isograd.remedies._branches import asks, branches, post_norm, unset
from isograd.remedies._code import listing, loop, number, program
from isograd.remedies._examples import encoder, example, sequences
from isograd.remedies._optimizers import Apart, factory_of, settings_of
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualDeepnorm(Remedy):
    """Initialize a post-norm network by DeepNorm.

    Does: draws the weights of every branch by Xavier's law, those of values, output projections and
        feed-forward layers with gain beta = (4N)^(-1/4), N the number of branches (twice the
        layers), and divides the branch's last layer by alpha = N^(1/4) besides: a norm behind the
        sum does not see a common factor, so that LN(x + f/alpha) is the paper's LN(alpha x + f).
        Steps of an adaptive optimizer do not become smaller with what they change: there the last
        layers get their learning rate divided by alpha, too. Only values and rates change.

    Needs: at least `fewest` residual additions that a norm alone reads (post-norm).

    Source: Wang et al. 2022, DeepNet: scaling transformers to 1,000 layers, sections 3 and 4
        (encoder or decoder alone).
    """

    code: ClassVar[str] = "residual-deepnorm"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("norm-placement",)

    fewest: int = 12
    """Branches, two per layer: shallower post-norm networks train as they are."""

    @property
    def invasive(self) -> int:
        """As an initialization: only values change."""
        return FAMILIES.index("init")

    def plan(self, case: Case) -> Plan | str:
        """Finds post-norm branches, and which of their weights are values."""
        found = branches(case)
        post = [b for b in found if b.post_norm]
        if len(post) < self.fewest or not post_norm(found):
            return (
                f"{len(post)} of its {len(found)} residual additions have a norm behind them; "
                f"it is for post-norm networks from {self.fewest} on"
            )
        if reason := unset(case):
            return reason
        count = len(post)
        beta, alpha = (4 * count) ** -0.25, count**0.25
        lines = []
        for gain in (1.0, beta):
            names = [x.name for b in post for x in b.layers if asks(x) == (gain == 1.0)]
            body = f"nn.init.xavier_normal_(model.get_parameter(name), gain={number(gain)})"
            if names:
                lines.append(loop("name", names, body))
        stacked = [x.name for b in post for x in b.layers if x.blocks == 3]
        if stacked:
            lines.append(loop("name", stacked, _VALUES.format(beta=number(beta))))
        lasts = list(dict.fromkeys(n for b in post for n in b.last))
        body = f"model.get_parameter(name).detach().div_({number(alpha)})"
        lines += [f"# alpha = {count}^(1/4)", loop("name", lasts, body)]
        plan = Plan(
            self.code,
            f"The update of the outputs stays bounded over {count} post-norm sublayers.",
            program(*lines),
            notes=("The weights of the branches are drawn anew.",),
        )
        make, told = factory_of(case), settings_of(case)
        if isinstance(make, str) or told is None or not case.record.fact("optimizer.adaptive"):
            return plan
        if told[2] > 1:
            return replace(plan, notes=(*plan.notes, _RATES.format(alpha=number(alpha))))
        places = {name: i for i, (name, _) in enumerate(case.model.named_parameters())}
        return replace(
            plan,
            training=_APART.format(names=listing(lasts), alpha=number(alpha)),
            optimizer=Apart(make, tuple(sorted(places[n] for n in lasts)), 1 / alpha),
        )

    @staticmethod
    def sick() -> Case:
        """Eight post-norm layers."""
        return example(lambda: encoder(8), sequences)

    @staticmethod
    def well() -> Case:
        """Two."""
        return example(lambda: encoder(2), sequences)


_APART = """\
# steps of Adam do not shrink with what they change: alpha divides them, too
first = optimizer.param_groups[0]
last = [model.get_parameter(name) for name in {names}]
held = {{id(p) for p in last}}
first["params"] = [p for p in first["params"] if id(p) not in held]
optimizer.add_param_group({{**first, "params": last, "lr": first["lr"] / {alpha}}})"""

_RATES = "The learning rate of the last layers of the branches has to be divided by {alpha}, too."

_VALUES = """\
# one above the other: torch's attention has all three in one matrix
query, key, value = model.get_parameter(name).detach().chunk(3)
nn.init.xavier_normal_(query)
nn.init.xavier_normal_(key)
nn.init.xavier_normal_(value, gain={beta})"""

"""residual-prenorm: norms inside the branches of torch's transformer layers."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from isograd.remedies._branches import branches, post_norm
from isograd.remedies._code import loop, number, program, quoted, where
from isograd.remedies._examples import encoder, example, sequences
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy

_Layer = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_Whole = (nn.TransformerEncoder, nn.TransformerDecoder)


@dataclass(frozen=True)
class ResidualPrenorm(Remedy):
    """Move the norms of a transformer into its branches.

    Does: sets `norm_first=True` in torch's transformer layers, so that the skip connections reach
        the input unscaled, and gives nn.TransformerEncoder and -Decoder the last norm that a
        pre-norm network needs before its head, where there is none.

    Needs: post-norm layers of torch.nn, or of a class with a `norm_first` attribute, at least
        `fewest`. Other models (such as BERT) have the order written into their forward.

    Source: Xiong et al. 2020, On layer normalization in the transformer architecture; Nguyen and
        Salazar 2019, Transformers without tears.
    """

    code: ClassVar[str] = "residual-prenorm"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("norm-placement",)

    fewest: int = 6
    """Layers: shallower post-norm networks train as they are."""

    @property
    def invasive(self) -> int:
        """As an initialization: one flag per layer, and every weight stays."""
        return FAMILIES.index("init")

    def plan(self, case: Case) -> Plan | str:
        """Finds torch's post-norm layers."""
        modules = dict(case.model.named_modules())
        layers = [n for n, m in modules.items() if getattr(m, "norm_first", None) is False]
        if not layers:
            found = branches(case)
            if post_norm(found):
                return (
                    f"its {len(found)} post-norm additions are written into a forward of its own: "
                    "move the norms there"
                )
            return f"its {len(found)} residual additions have no norms behind them"
        if len(layers) < self.fewest:
            return f"{len(layers)} post-norm layers train as they are (from {self.fewest} on)"
        body = "model.get_submodule(name).norm_first = True"
        lines, bare = [loop("name", layers, body)], []
        for name, module in modules.items():
            if isinstance(module, _Whole) and module.norm is None:
                width = getattr(module.layers[0], "norm1").normalized_shape[0]  # noqa: B009
                new = f"nn.LayerNorm({number(width)}{where(case.model, ', ')})"
                owner = f"model.get_submodule({quoted(name)})" if name else "model"
                lines.append(f"{owner}.norm = {new}")
                bare.append(f"{name}.norm".lstrip("."))
        notes: tuple[str, ...] = ()
        if not any(isinstance(m, _Whole) for m in modules.values()):
            notes = ("A pre-norm network wants one more LayerNorm before its head.",)
        return Plan(
            self.code,
            f"The gradient reaches the input of {len(layers)} layers unscaled by their norms.",
            program(*lines),
            keys=f"New are the keys of {', '.join(bare)}." if bare else "",
            notes=notes,
        )

    @staticmethod
    def sick() -> Case:
        """Eight post-norm layers."""
        return example(lambda: encoder(8), sequences)

    @staticmethod
    def well() -> Case:
        """Two."""
        return example(lambda: encoder(2), sequences)

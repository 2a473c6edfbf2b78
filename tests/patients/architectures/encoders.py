"""torch's own transformer encoder, pre- and post-norm, with fresh and with copied layers."""

from functools import partial

from torch import nn

from patients.architectures.family import Family, gaussian


def encoder(
    *, norm_first: bool, copied: bool = False, layers: int = 12, width: int = 256, heads: int = 8
) -> nn.TransformerEncoder:
    """`copied`: as torch makes it, every layer a deep copy of the first, values included."""

    def layer() -> nn.TransformerEncoderLayer:
        return nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, batch_first=True, norm_first=norm_first
        )

    model = nn.TransformerEncoder(layer(), layers, enable_nested_tensor=False)
    if not copied:
        model.layers = nn.ModuleList(layer() for _ in range(layers))
    return model


FAMILIES = {
    f"encoder12-{'pre' if norm_first else 'post'}norm-{'copied' if copied else 'fresh'}": Family(
        partial(encoder, norm_first=norm_first, copied=copied),
        gaussian(8, 64, 256),
        {"layers": 2, "width": 24, "heads": 3},
        gaussian(2, 5, 24),
        seeds=64 if copied else 32,
        note="12 layers, width 256, 8 heads, 64 positions, dropout 0.1",
    )
    for norm_first in (True, False)
    for copied in (False, True)
}

"""Refusing a batch that no measurement makes sense of."""

import torch

from isograd.errors import DataError
from isograd.sites.batches import Batch, is_signal, tensors


def check_finite(batch: Batch) -> None:
    """Refuses a batch whose inputs or targets hold NaN or infinite values.

    Raises:
        DataError: with the place and number of the values.
    """
    given = [(f"input {place}", tensor) for place, tensor in enumerate(batch.inputs())]
    given += [("the targets", tensor) for tensor in tensors(batch.targets)]
    for what, tensor in given:
        if not is_signal(tensor) or bool(torch.isfinite(tensor.detach().sum())):
            continue
        bad = ~torch.isfinite(tensor.detach())
        count = int(bad.sum())
        if count:
            first = tuple(int(i) for i in bad.nonzero()[0])
            verb = "hold" if what == "the targets" else "holds"
            raise DataError(
                f"batch: {what} {verb} {count} NaN or infinite values of {tensor.numel()}"
                f" (the first at {first}); remove or impute them"
            )

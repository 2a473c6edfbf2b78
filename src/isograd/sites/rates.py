"""Learning rates that nobody would call usual."""

from isograd.records import Record

BOLD, BOLD_ADAPTIVE = 2.0, 0.02
"""Learning rates, of SGD the sum of all steps that momentum makes of one gradient, beyond which
what learns at first may break later: usual are up to 1 (0.1 with momentum 0.9), and 0.01 for
Adam."""
POST_NORM = 0.1
"""Part of Adam's that a stack of post-norm sublayers bears without a warm-up: with six layers 0.01
learns for 16 steps and then forgets, with 16 layers 0.003 does; both learn at 0.001 and below."""


def bold_rate(record: Record, *, post_norm: bool = False) -> float | None:
    """The learning rate of SGD with what its momentum adds up, or of Adam, if it is unusually high.

    None where it is not known, and for optimizers whose rates mean something else.

    Args:
        record: of the network and its optimizer.
        post_norm: whether the network is a stack of post-norm sublayers.
    """
    rate, momentum = (record.fact(f"optimizer.{key}") or 0.0 for key in ("lr", "momentum"))
    name = record.fact("optimizer.name")
    if record.fact("optimizer.betas") is not None or name == "RMSprop":
        return rate if rate > BOLD_ADAPTIVE * (POST_NORM if post_norm else 1.0) else None
    if name != "SGD" or momentum >= 1:
        return None
    total = rate / (1 - momentum)
    return total if total > BOLD else None


def usual_rate(record: Record, *, post_norm: bool = False) -> float:
    """What such a rate is where nobody would look twice: a quarter of the bound."""
    if record.fact("optimizer.name") == "SGD":
        return BOLD / 4
    return BOLD_ADAPTIVE * (POST_NORM if post_norm else 1.0) / 4

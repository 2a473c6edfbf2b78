"""Examples of losses: what the contract of the operations is run on."""

import torch
from contract import Example
from torch.nn import functional as F

CLASSES = torch.tensor([0, 4, 4, 2])
SKIPPED = torch.tensor([0, -100, 4, 2])
GRID = torch.tensor([[0, 4, 4, 1], [4, 4, 3, -100]])
WEIGHT = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0])
SHARES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0], [0.2, 0.5, 0.3]])
GOALS = torch.tensor([[0.3, -2.0, 1.5, 0.1, 0.0], [1.0, -0.4, 0.2, 2.2, -1.3], [0.6, 0, 0, -1, 4]])
BITS = (GOALS > 0.1).float()


def of_classes(function, *targets, shapes=((4, 5),), **arguments):
    """A loss over classes; Gaussian logits of one class, as at a network's end."""
    return [
        Example(
            lambda x, y=y: function(x, y, **arguments), shapes, slack=0.1, back_slack=0.05,
            kinds=("plain",),
        )
        for y in targets
    ]  # fmt: skip


def of_entries(function, target, **arguments):
    """A loss entry by entry, of both a Gaussian output and a function of one."""
    slack = {"slack": 0.1, "back_slack": 0.03}
    return Example(
        lambda x: function(x, target, **arguments), ((3, 5),), kinds=("plain", "function"), **slack
    )


def probability(function, target, **arguments):
    """A loss of a sigmoid."""
    return Example(
        lambda x: function(torch.sigmoid(x), target.to(x.dtype), **arguments), ((3, 5),),
        kinds=("plain",), slack=0.1, back_slack=0.03,
    )  # fmt: skip


def losses():
    """Losses of known targets, and of targets that are outputs themselves."""
    return [
        *of_classes(F.cross_entropy, CLASSES, SKIPPED),
        *of_classes(F.cross_entropy, CLASSES, reduction="sum", label_smoothing=0.2),
        *of_classes(F.cross_entropy, CLASSES, weight=WEIGHT),
        *of_classes(F.cross_entropy, CLASSES, reduction="none"),
        *of_classes(F.cross_entropy, GRID, shapes=((2, 5, 4),)),
        *of_classes(F.cross_entropy, SHARES, shapes=((4, 3),)),
        *of_classes(F.nll_loss, CLASSES),
        Example(F.mse_loss, ((3, 5), (3, 5)), slack=0.1, kinds=("plain", "classes")),
        Example(lambda x: F.mse_loss(x, GOALS, reduction="sum"), ((3, 5),), slack=0.1),
        of_entries(F.mse_loss, GOALS, reduction="none"),
        of_entries(F.l1_loss, GOALS),
        of_entries(F.smooth_l1_loss, GOALS, beta=0.5),
        of_entries(F.huber_loss, GOALS, reduction="sum", delta=2.0),
        of_entries(F.binary_cross_entropy_with_logits, BITS),
        of_entries(F.binary_cross_entropy_with_logits, BITS, weight=WEIGHT),
        of_entries(F.binary_cross_entropy_with_logits, BITS, pos_weight=torch.tensor(3.0)),
        of_entries(F.soft_margin_loss, 2 * BITS - 1, reduction="none"),
        probability(F.binary_cross_entropy, BITS),
        Example(
            lambda x: F.kl_div(x, SHARES.to(x.dtype), reduction="batchmean"), ((4, 3),), slack=0.05,
            kinds=("plain",),
        ),
    ]  # fmt: skip

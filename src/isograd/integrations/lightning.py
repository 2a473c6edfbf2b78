"""Lightning: `Trainer(callbacks=[IsogradCallback()])` watches the training."""

import sys
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isograd.integrations._session import Session
from isograd.watching import Watch

if TYPE_CHECKING or "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:  # the same library by its other name
    from lightning.pytorch import Callback, LightningModule, Trainer


class IsogradCallback(Callback):
    """Watches what `trainer.fit` trains, from its first step to its last one.

    Takes the arguments of `isograd.watch`, without model and optimizer. `on_finding="stop"` sets
    `trainer.should_stop`, in all processes after the same step.
    """

    def __init__(self, **options: Any) -> None:
        self._session = Session("IsogradCallback", options)

    @property
    def watch(self) -> Watch | None:
        """The latest training that was watched: `watch.alarms`, `watch.explain_nan()` and so on."""
        return self._session.watch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins."""
        wrapper = trainer.strategy.model
        root: nn.Module = wrapper if isinstance(wrapper, DistributedDataParallel) else pl_module
        only = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self._session.start(root, only)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stops the trainer, where it was asked to."""
        if self._session.stopping:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Ends."""
        self._session.close()

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        """Ends."""
        self._session.close(f"ended by {type(exception).__name__}")

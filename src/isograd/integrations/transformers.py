"""Transformers: `Trainer(callbacks=[IsogradCallback()])` watches the training."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isograd.integrations._modules import wrapper_of
from isograd.integrations._session import Session
from isograd.watching import Watch


class IsogradCallback(TrainerCallback):
    """Watches what `trainer.train` trains, from its first step to its last one.

    Takes the arguments of `isograd.watch`, without model and optimizer. `on_finding="stop"` sets
    `control.should_training_stop`, in all processes after the same step. A Trainer does not tell
    its callbacks of an exception: the watching then ends with the process, at the next `train`, or
    by `close`.
    """

    def __init__(self, **options: Any) -> None:
        self._session = Session("IsogradCallback", options)

    @property
    def watch(self) -> Watch | None:
        """The latest training that was watched: `watch.alarms`, `watch.explain_nan()` and so on."""
        return self._session.watch

    def close(self, outcome: str = "ended by an exception") -> None:
        """Ends the watching of a training that has failed; else there is nothing to do."""
        self._session.close(outcome)

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        """Begins."""
        self._session.start(wrapper_of(kwargs["model"]), kwargs.get("optimizer"))

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Stops the trainer, where it was asked to."""
        if self._session.stopping:
            control.should_training_stop = True

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Ends."""
        self._session.close()

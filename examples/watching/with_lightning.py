"""A Lightning Trainer, watched by a callback.

python examples/watching/with_lightning.py
"""

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from isograd.integrations.lightning import IsogradCallback


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    inputs = torch.randn(640, 20)
    data = DataLoader(TensorDataset(inputs, inputs[:, :4].argmax(1)), batch_size=32)
    callback = IsogradCallback(run="runs/lightning.isograd", on_finding="stop")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Classifier(), data)
    print(f"{callback.watch.step} steps, alarms: {len(callback.watch.alarms)}")

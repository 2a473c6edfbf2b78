"""Accelerate's objects in a plain loop: bfloat16, gradients of two batches added up.

python examples/watching/with_accelerate.py
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isograd

torch.manual_seed(0)
accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
inputs = torch.randn(640, 20)
data = DataLoader(TensorDataset(inputs, inputs[:, :4].argmax(1)), batch_size=32)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model, optimizer, data = accelerator.prepare(model, optimizer, data)

with isograd.watch(model, optimizer, run="runs/accelerate.isograd") as watch:
    for batch, targets in data:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(batch), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

print(f"{watch.step} steps of {watch.record.facts['batch.size']} samples")

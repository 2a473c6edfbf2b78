"""A compiled model, watched from before its first step.

python examples/watching/compiled.py
"""

import torch
from torch import nn

import isograd

torch.manual_seed(0)
layers = (nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
# Any backend will do; this one needs no compiler on the machine.
model = torch.compile(nn.Sequential(*layers), backend="aot_eager", fullgraph=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

with isograd.watch(model, optimizer, run="runs/compiled.isograd", every=10) as watch:
    for _ in range(40):
        inputs = torch.randn(32, 20)
        loss = nn.functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(f"{len(watch.reading.history) + 1} looks at {len(watch.record.sites)} sites")

"""A plain loop, watched: nothing in it changes.

python examples/watching/loop.py
"""

import torch
from torch import nn

import isograd

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

with isograd.watch(model, optimizer, run="runs/loop.isograd", on_finding="stop") as watch:
    for step in range(200):
        if step == 100:  # what a wrong line in a schedule does
            optimizer.param_groups[0]["lr"] = 1e4
        inputs = torch.randn(32, 20)
        loss = nn.functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(f"{watch.step} steps, overhead {watch.overhead:.1%}")
for alarm in watch.alarms:
    print(f"step {alarm.first_step}: {alarm.finding.code} {alarm.finding.cause}")
print(watch.explain_nan())

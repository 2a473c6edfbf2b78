"""A Transformers Trainer, watched by a callback.

python examples/watching/with_transformers.py
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from isograd.integrations.transformers import IsogradCallback

if __name__ == "__main__":
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 32, "vocab_size": 50}
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    texts = [{"input_ids": row, "labels": row} for row in torch.randint(50, (80, 16))]
    callback = IsogradCallback(run="runs/transformers.isograd", on_finding="stop")
    arguments = TrainingArguments(
        output_dir="runs/transformers",
        per_device_train_batch_size=8,
        max_steps=20,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    Trainer(model, arguments, train_dataset=texts, callbacks=[callback]).train()
    print(f"{callback.watch.step} steps, alarms: {len(callback.watch.alarms)}")

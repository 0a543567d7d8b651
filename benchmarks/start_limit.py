"""A bare script: import, load, adapt, one step. Prints a line when the step is over.

With `--lean`, without the optional libraries that a compiled run leaves out, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if "--lean" in sys.argv:
    from tunec.runtime.libraries import leave_out

    leave_out(unless=())

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Train one step on the rows of an alpaca file."""
    path, rows = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(path)
    texts = [
        tokenizer.apply_chat_template(
            [
                {"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()},
                {"role": "assistant", "content": row["output"]},
            ],
            tokenize=False,
        )
        for row in rows
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=256)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    model = get_peft_model(model, config).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    print(f"step 1 loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()

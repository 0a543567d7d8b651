"""TRL's own way from a file to tokens and completion mask. Prints the seconds, imports and the model not counted."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Convert to prompt and completion, the form that TRL masks without marks in the template, and tokenize."""
    rows, model, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    tokenizer = AutoTokenizer.from_pretrained(model)
    config = AutoConfig.from_pretrained(
        model, num_hidden_layers=1, hidden_size=16, intermediate_size=16
    )
    config.num_attention_heads = config.num_key_value_heads = 1
    config.head_dim = 16
    small = AutoModelForCausalLM.from_config(config)
    arguments = SFTConfig(
        output_dir=str(rows.parent / "trl"),
        max_length=2048,
        dataset_num_proc=workers,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    started = time.perf_counter()
    given = load_dataset("json", data_files=str(rows), split="train")
    talks = given.map(_talk, num_proc=workers, remove_columns=given.column_names)
    trainer = SFTTrainer(small, args=arguments, train_dataset=talks, processing_class=tokenizer)
    seconds = time.perf_counter() - started
    assert len(trainer.train_dataset) == len(json.loads(rows.read_text(encoding="utf-8")))
    print(seconds)


def _talk(row: dict[str, Any]) -> dict[str, Any]:
    question = "\n".join(text for text in (row["instruction"], row["input"]) if text)
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }


if __name__ == "__main__":
    main()

"""LLaMA-Factory's own way from a file to tokens and labels. Prints the seconds, imports not counted."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


def main() -> None:
    """Convert and tokenize as its SFT stage does."""
    rows, model, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    (rows.parent / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": rows.name}}))
    arguments = {
        "model_name_or_path": model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "dataset": "rows",
        "dataset_dir": str(rows.parent),
        "template": "smollm2",
        "cutoff_len": 2048,
        "preprocessing_num_workers": workers,
        "overwrite_cache": True,
        "output_dir": str(rows.parent / "lf"),
        "use_cpu": True,
    }
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    started = time.perf_counter()
    found = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)
    seconds = time.perf_counter() - started
    assert len(found["train_dataset"]) == len(json.loads(rows.read_text(encoding="utf-8")))
    print(seconds)


if __name__ == "__main__":
    main()

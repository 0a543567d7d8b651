"""Run by `template_parity.py` with LLaMA-Factory's Python: its own encoder on the reference conversations.

Reads `{tokenizer, talks: {template: [{messages, system, tools}]}}` and writes `{template: [[ids, labels], ...]}`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ["DISABLE_VERSION_CHECK"] = "1"


def main(given: Path, output: Path) -> None:
    """Encode everything that is given."""
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    logging.disable(logging.WARNING)
    data = json.loads(given.read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for name, talks in data["talks"].items():
        if name not in TEMPLATES:
            continue
        args = DataArguments(template=name, cutoff_len=1_000_000)
        tokenizer = AutoTokenizer.from_pretrained(data["tokenizer"])
        template = get_template_and_fix_tokenizer(tokenizer, args)
        # Texts alone are compared; the plugins of other media ask for a processor even then.
        template.mm_plugin = get_mm_plugin("base")
        encoder = SupervisedDatasetProcessor(template, tokenizer, None, args)
        found[name] = [_encoded(encoder, talk) for talk in talks]
    output.write_text(json.dumps(found), encoding="utf-8")


def _encoded(encoder: Any, talk: dict[str, Any]) -> Any:
    *prompt, response = talk["messages"]
    try:
        return encoder._encode_data_example(
            prompt, [response], talk["system"], talk["tools"], [], [], []
        )
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

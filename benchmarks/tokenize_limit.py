"""The limit: the tokenizers library on text that is rendered already, and nothing else. Prints the seconds."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer

from tunec.runtime import data
from tunec.runtime.data.chat import render


def main() -> None:
    """Render first, then measure the encoding alone."""
    rows, model = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = data.Tokenizer(path=model).load_light()
    talks = data.read([data.Alpaca(path=rows, name="rows")])
    texts = [rendered[0] for rendered in render(tokenizer, talks, loss_on="assistant")]
    assert len(texts) == len(json.loads(rows.read_text(encoding="utf-8")))
    backend = Tokenizer.from_file(str(model / "tokenizer.json"))
    started = time.perf_counter()
    for start in range(0, len(texts), 1000):
        backend.encode_batch(texts[start : start + 1000], add_special_tokens=False)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()

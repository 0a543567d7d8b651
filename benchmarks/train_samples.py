"""Build the samples of `train_speed.py`: real conversations, each of exactly the same number of tokens.

Consecutive conversations are joined, turn after turn, until they fill a sample; what is over is cut off by
`max_length`, as tunec cuts it. So no batch holds padding, and all contestants compute on the same tokens.
"""

# mypy finds tunec only where MYPYPATH lays it out, as the tests do.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunec.runtime import data, models
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.errors import UserError

MIN_SHARE = 0.2
"""Samples with a smaller share of tokens that carry loss (a very long question) are passed over."""

MAX_TRIES = 20
"""Give up after this many times the wanted samples."""


def main() -> None:
    """Write the samples as text and as tokens."""
    options = _parser().parse_args()
    tokenizer = models.load_tokenizer(options.model)
    found = _samples(_turns(_read(options.data)), tokenizer, options.length)
    tried = itertools.islice(found, MAX_TRIES * options.count)
    good = (pair for pair in tried if pair[1].num_trainable >= MIN_SHARE * options.length)
    kept = list(itertools.islice(good, options.count))
    if len(kept) < options.count:
        sys.exit("error: the questions in this data are too long to make samples with answers")
    _write(options.out, kept)
    share = sum(sample.num_trainable for _, sample in kept) / (options.count * options.length)
    print(f"{options.count} samples of {options.length} tokens, {100 * share:.0f} % carry loss")


def _read(paths: Sequence[Path]) -> list[Conversation]:
    """Return the conversations of files in the messages or the alpaca format."""
    return list(itertools.chain.from_iterable(data.read([_source(path)]) for path in paths))


def _source(path: Path) -> Any:
    kind = data.Messages if '"messages"' in path.read_text(encoding="utf-8") else data.Alpaca
    return kind(path=path, name=path.stem)


def _turns(conversations: Sequence[Conversation]) -> Iterator[tuple[Message, Message]]:
    """Yield (question, answer) pairs for ever; a second pass is shifted, so that samples differ."""
    pairs = [
        (user, assistant)
        for conversation in conversations
        for user, assistant in itertools.pairwise(conversation.messages)
        if (user.role, assistant.role) == ("user", "assistant")
    ]
    for start in itertools.count():
        yield from pairs[start % len(pairs) :]


def _samples(
    turns: Iterator[tuple[Message, Message]], tokenizer: Any, length: int
) -> Iterator[tuple[Conversation, Sample]]:
    messages: list[Message] = []
    for pair in turns:
        messages.extend(pair)
        conversation = Conversation(tuple(messages), "benchmark", "benchmark")
        sample = _tokenize(conversation, tokenizer, length)
        if len(sample.input_ids) == length:
            yield conversation, sample
            messages = []


def _tokenize(conversation: Conversation, tokenizer: Any, length: int) -> Sample:
    try:
        return data.tokenize(
            [conversation],
            tokenizer=tokenizer,
            loss_on="assistant",
            max_length=length,
            too_long="truncate",
        )[0]
    except UserError:
        # Not one token carries loss: the question alone fills the sample.
        return Sample([IGNORED] * length, [IGNORED] * length)


def _write(folder: Path, kept: Sequence[tuple[Conversation, Sample]]) -> None:
    rows = [
        {"messages": [{"role": m.role, "content": m.content} for m in conversation.messages]}
        for conversation, _ in kept
    ]
    tokens = [{"input_ids": sample.input_ids, "labels": sample.labels} for _, sample in kept]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "conversations.jsonl").write_text(text, encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder with the tokenizer")
    add("--data", type=Path, nargs="+", required=True, help=".json or .jsonl files")
    add("--length", type=int, required=True, help="tokens of each sample")
    add("--count", type=int, required=True, help="number of samples")
    add("--out", type=Path, required=True, help="folder to write to")
    return parser


if __name__ == "__main__":
    main()

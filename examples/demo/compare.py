"""Print the answers of two `tunec chat` transcripts side by side."""

from __future__ import annotations

import shutil
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path


def answers(path: Path) -> list[tuple[str, str]]:
    """Return the (question, answer) pairs of a transcript: a line `> question`, then the answer."""
    blocks = ("\n" + path.read_text(encoding="utf-8")).split("\n> ")[1:]
    pairs = [block.partition("\n") for block in blocks]
    return [(question, " ".join(answer.split())) for question, _, answer in pairs]


def main() -> None:
    """Print a table as wide as the terminal."""
    width = max(30, (min(shutil.get_terminal_size((100, 24)).columns, 120) - 3) // 2)
    before, after = (answers(Path(name)) for name in sys.argv[1:3])
    print(f"{'before':{width}} | after")
    for (question, old), (_, new) in zip(before, after, strict=True):
        print(f"{'-' * width}-+-{'-' * width}")
        print(question)
        left, right = (textwrap.wrap(text, width) or [""] for text in (old, new))
        for one, two in zip_longest(left, right, fillvalue=""):
            print(f"{one:{width}} | {two}")


if __name__ == "__main__":
    main()

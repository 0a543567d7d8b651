"""How near generated texts are to those expected: BLEU and ROUGE, from 0 to 100, in scripts with and without spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

TEXT_MEASURES = ("bleu", "rouge1", "rouge2", "rougeL")


def measure(generated: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return `TEXT_MEASURES` of texts and, for each, the one that was expected.

    BLEU-4 (Papineni et al. 2002) is that of the whole corpus as sacrebleu computes it (Post 2018, arXiv:1804.08771),
    tokens by `13a`. ROUGE (Lin 2004) is the mean F1 of the texts: single words, pairs, and the longest common
    subsequence, in lower case. In both, each character of scripts without spaces (Chinese, Japanese, Thai) is a word.
    """
    from sacrebleu.metrics.bleu import BLEU

    pairs = [
        (words(found), words(wanted)) for found, wanted in zip(generated, expected, strict=True)
    ]
    bleu = BLEU(tokenize="13a").corpus_score(
        [spaced(text) for text in generated], [[spaced(text) for text in expected]]
    )
    scores = {
        "rouge1": [ngram_f1(*pair, 1) for pair in pairs],
        "rouge2": [ngram_f1(*pair, 2) for pair in pairs],
        "rougeL": [subsequence_f1(*pair) for pair in pairs],
    }
    means = {name: 100 * sum(values) / len(values) for name, values in scores.items()}
    return {"bleu": float(bleu.score), **means}


@cache
def _patterns() -> tuple[Any, Any]:
    import regex  # type: ignore[import-untyped]

    # No script of these puts spaces between words.
    alone = regex.compile(r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])")
    return alone, regex.compile(r"[\p{L}\p{M}\p{N}]+")


def spaced(text: str) -> str:
    """Return a text with spaces around the characters of scripts that have none."""
    found: str = _patterns()[0].sub(r" \1 ", text)
    return found


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    found: list[str] = _patterns()[1].findall(spaced(text.lower()))
    return found


def ngram_f1(found: Sequence[str], wanted: Sequence[str], size: int) -> float:
    """Return the F1 of the runs of `size` words, each counted as often as it is in both."""
    ours, theirs = _runs(found, size), _runs(wanted, size)
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def _runs(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def subsequence_f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence."""
    return _f1(longest_common(found, wanted), len(found), len(wanted))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table as one number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << at
    all_ones = (1 << len(first)) - 1
    row = all_ones
    for word in second:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & all_ones
    return len(first) - row.bit_count()


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0

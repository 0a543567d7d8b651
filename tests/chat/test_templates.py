"""Every named template: its text, what of it is learned, and the prompts a server makes with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from chat.encoder import EOS, Encoder, Message
from chat.rendering import built, marked, section, served
from chat.slots import slots
from tunec.compiler.chat import build, describe, find, library
from tunec.compiler.spec.tokenizer import NamedTemplate

NAMES = list(library())
REASONING = [name for name in NAMES if find(name).is_reasoning]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a `place`, 天气",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "A town"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["place"],
            },
        },
    },
    {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}},
]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def says(text: str, **more: Any) -> Message:
    return {"role": "assistant", "content": text, **more}


def calls(*pairs: tuple[str, dict[str, Any]], text: str = "") -> Message:
    listed = [
        {"type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in pairs
    ]
    return says(text, tool_calls=listed)


def tool(text: str) -> Message:
    return {"role": "tool", "content": text}


def think(name: str, thought: str, answer: str) -> str:
    """Return an answer with a thought in the template's own words."""
    first, last = find(name).thought or ("<think>\n", "\n</think>\n\n")
    return f"{first}{thought}{last}{answer}"


CODE = "```python\nprint(f'{{a}} {%x%} {#c#}')\n\tif a < b & c:\n```\n"
TALKS: dict[str, list[Message]] = {
    "single": [user("Hi"), says("Hello.")],
    "turns": [user("Hi"), says("Hello."), user("你好 🦜"), says("好。\n"), user("x"), says("y")],
    "system": [system("Be 'short' \\ {{now}}."), user("Hi"), says("Yes"), user("No?"), says("No")],
    "empty system": [system(""), user("Hi"), says("Hello.")],
    "code": [user(CODE), says(CODE)],
    "empty answer": [user("Hi"), says("")],
}
CALLED = [
    user("Weather?"),
    calls(("weather", {"place": 'Ur "1"', "days": [1, 2], "deep": {"b": None, "a": [True, 1.5]}})),
    tool('{"sky": "grey"}'),
    says("Grey."),
]
SEVERAL = [
    system("Be kind."),
    user("Both?"),
    calls(("weather", {"place": "天"}), ("now", {}), text="Let me look."),
    tool("sun"),
    tool("noon"),
    says("Sun at noon."),
    user("Thanks"),
    says("Welcome."),
]


def check(options: NamedTemplate, talk: list[Message], tools: list[Any] | None = None) -> None:
    """The template and the second reading agree on text and learned spans, with marks and without."""
    expected = Encoder(slots(options.name), options).encode(talk, tools or [])
    assert marked(options, talk, tools) == expected
    assert served(options, talk, tools=tools) == expected[0]


@pytest.mark.parametrize("name", NAMES)
def test_text_and_spans(name: str) -> None:
    """A template writes its slots one after another, calls in its format, and marks the answers and their ends."""
    for talk in TALKS.values():
        check(section(name), talk)
    check(section(name), CALLED, TOOLS)
    if find(name).tool_format != "glm4":
        check(section(name), SEVERAL, TOOLS)
    _, spans = marked(section(name), TALKS["single"])
    text = served(section(name), TALKS["single"])[: spans[-1][1]]
    ends = text.endswith((EOS, *find(name).stop)) or re.search(r"<\|[a-zA-Z_]+\|>$", text)
    assert bool(ends) == (name != "empty")


@pytest.mark.parametrize("name", ["chatml", "mistral", "qwen3", "glm4", "phi4_mini", "gemma"])
def test_every_format_in_other_templates(name: str) -> None:
    """`tool_format` overrides the format; a call then begins and ends as an answer does."""
    formats = sorted({template.tool_format for template in library().values()})
    assert len(formats) == 13
    for format in formats:
        check(section(name, tool_format=format), CALLED, TOOLS)
        if format != "glm4":
            check(section(name, tool_format=format), SEVERAL, TOOLS)


@pytest.mark.parametrize("thinking", ["own", "off", "mixed"])
@pytest.mark.parametrize("name", REASONING)
def test_thoughts(name: str, thinking: Any) -> None:
    """Thoughts are kept, dropped, removed and added as the mode says, in earlier turns and in the last."""
    talk = [
        system("Think."),
        user("1"),
        says(think(name, "hm\nso", "one")),
        user("2"),
        says("two"),
        user("3"),
        says("three", reasoning_content="\n well \n"),
        user("4"),
        says(think(name, "", "\n\nfour")),
    ]
    for keep in (False, True):
        for length in (3, 5, 7, 9):
            options = section(name, thinking=thinking, keep_thoughts=keep)
            assert marked(options, talk[:length]) == Encoder(slots(name), options).encode(
                talk[:length], []
            )


@pytest.mark.parametrize("thinking", ["on", "off", "mixed"])
@pytest.mark.parametrize("name", REASONING)
def test_thoughts_before_calls(name: str, thinking: Any) -> None:
    """A thought before a call is kept while its user still waits for the answer."""
    thoughtful = {**CALLED[1], "content": think(name, "look it up", "")}
    talk = [user("0"), says(think(name, "a", "b")), CALLED[0], thoughtful, *CALLED[2:]]
    check(section(name, thinking=thinking), talk, TOOLS)
    check(section(name, thinking=thinking), [*talk, user("Thanks"), says("Sure")], TOOLS)


texts = st.text(max_size=12) | st.sampled_from(
    [CODE, "{% generation %}", "</think>", "'\\", "\r\n"]
)


@given(
    name=st.sampled_from(NAMES),
    said=st.lists(texts, min_size=2, max_size=7),
    prompt=texts | st.none(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text(name: str, said: list[str], prompt: str | None) -> None:
    """What people write is data: it comes out as it is, in messages and in the spec's system prompt."""
    talk = [(says if place % 2 else user)(text) for place, text in enumerate(said)]
    check(section(name, system=prompt), talk)


@pytest.mark.parametrize("name", NAMES)
def test_prompts(name: str) -> None:
    """The prompt of every answer is the text before it, so a server asks what was trained."""
    options = section(name)
    for talk in (*TALKS.values(), CALLED):
        text = served(options, talk)
        for place, message in enumerate(talk):
            if message["role"] == "assistant":
                prompt = served(options, talk[:place], add_generation_prompt=True)
                assert text.startswith(prompt)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("thinking", ["on", "off", "mixed"])
@pytest.mark.parametrize("name", REASONING)
def test_prompts_of_thinkers(name: str, thinking: Any, keep: bool) -> None:
    """Prompt and learned text make the whole: at every answer that is learned, the first learned character follows it.

    `enable_thinking=false` asks for an answer without a thought; in `off` there is no other.
    """
    options = section(name, thinking=thinking, keep_thoughts=keep)
    talk = [
        user("1"),
        says("one"),
        user("2"),
        says(think(name, "hm", "two")),
        user("3"),
        says("three"),
    ]
    for end in (2, 4, 6):
        text, spans = marked(options, talk[:end])
        for place in range(1, end, 2):
            thoughtful = place == 3
            if thoughtful and place < end - 1 and thinking != "off" and not keep:
                continue  # its thought is dropped: it is history, and not learned
            bare = served(options, talk[:place], add_generation_prompt=True)
            short = served(options, talk[:place], add_generation_prompt=True, enable_thinking=False)
            asked = short if thinking == "mixed" and not thoughtful else bare
            assert text.startswith(asked)
            assert any(start == len(asked) for start, _ in spans)
            assert thoughtful or text.startswith(short)
            assert (short == bare) == (thinking == "off")


def test_dropped_thoughts_are_not_learned() -> None:
    """An earlier answer whose thought is dropped carries no loss: it is not what the model said."""
    talk = [
        user("1"),
        says("<think>\na\n</think>\n\nb"),
        user("2"),
        says("<think>\nc\n</think>\n\nd"),
    ]
    text, spans = marked(section("qwen3"), talk)
    assert [text[start:end] for start, end in spans] == ["<think>\nc\n</think>\n\nd<|im_end|>"]
    text, spans = marked(section("qwen3", keep_thoughts=True), talk)
    assert next(text[start:end] for start, end in spans) == "<think>\na\n</think>\n\nb<|im_end|>"


def test_an_answer_ends() -> None:
    """The last answer of every template ends with a mark that is learned; only one has none."""
    assert [name for name in NAMES if not describe(section(name)).answer_ends] == ["empty"]


def test_one_call_a_turn() -> None:
    """The format glm4 refuses two calls."""
    with pytest.raises(Exception, match="one call a turn"):
        marked(section("glm4"), SEVERAL, TOOLS)


def test_earlier_answers_without_an_end() -> None:
    """In base-like templates only the end of the last answer is learned."""
    endless = {name for name in NAMES if not describe(section(name)).every_answer_ends}
    assert endless == {
        "bailing", "breeze", "empty", "falcon", "fewshot", "gpt_oss", "hy_dense_1_8b", "hy_dense_7b", "index", "solar",
    }  # fmt: skip


def test_stop_word_of_the_next_turn() -> None:
    """GLM ends an answer with the mark of the next turn: it is learned there, and the text stays the same."""
    text, spans = marked(section("glm4"), [user("1"), says("a"), user("2"), says("b")])
    assert text == "[gMASK]<sop><|user|>\n1<|assistant|>\na<|user|>\n2<|assistant|>\nb<EOS>"
    assert [text[start:end] for start, end in spans] == ["\na<|user|>", "\nb<EOS>"]


def test_white_space_after_the_end_is_not_learned() -> None:
    """A model that has stopped writes no line end."""
    text, spans = marked(section("chatml"), TALKS["single"])
    assert [text[start:end] for start, end in spans] == ["Hello.<|im_end|>"]


def test_efficient_eos_follows_only_the_last_answer() -> None:
    """`efficient_eos` puts the end of the text after the last answer, and can be switched."""
    talk = [user("1"), says("a"), user("2"), says("b")]
    assert served(section("falcon"), talk).count(EOS) == 1
    assert served(section("falcon", efficient_eos=False), talk).count(EOS) == 0
    assert served(section("qwen", efficient_eos=True), talk).endswith("b<|im_end|>\n" + EOS)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([user("a"), {"role": "critic", "content": "b"}], "the role `critic` is unknown"),
        ([user("a"), system("b")], "only the first message"),
        ([user("a"), says(["b"])], "takes text only"),  # type: ignore[arg-type]
    ],
)
def test_refused_conversations(talk: list[Message], message: str) -> None:
    """What a template cannot write is refused with the number of the message."""
    with pytest.raises(Exception, match=f"message 2: .*{message}"):
        marked(section("llama3"), talk)


def test_refused_arguments() -> None:
    """Formats that write one argument at a time need an object."""
    broken = [user("a"), {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}]
    with pytest.raises(Exception, match="must be an object"):
        marked(section("qwen3_5"), broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (section("qwen", thinking="on"), "`qwen` has no thoughts"),
        (section("llama3", keep_thoughts=True), "`llama3` has no thoughts"),
        (NamedTemplate(type="named", name="vicuna", replace_eos=True), "no stop word"),
    ],
)
def test_refused_options(options: NamedTemplate, message: str) -> None:
    """Options that contradict the template are refused."""
    with pytest.raises(ValueError, match=message):
        describe(options)


def test_description() -> None:
    """What the rest of tunec asks can be had without rendering."""
    found = describe(section("llama3"))
    assert (found.eos_token, found.special_tokens) == ("<|eot_id|>", ("<|eom_id|>",))
    kept = describe(NamedTemplate(type="named", name="llama3", replace_eos=False))
    assert (kept.eos_token, kept.special_tokens) == (None, ("<|eot_id|>", "<|eom_id|>"))
    assert describe(section("qwen3")).is_reasoning
    assert describe(section("qwen2_vl")).image_token == "<|image_pad|>"
    assert describe(section("qwen")).has_system
    assert not describe(section("qwen", system="")).has_system
    with pytest.raises(KeyError):
        describe(section("quen"))


def test_text_is_small_and_the_same_each_time() -> None:
    """What the options switch off is absent, and the text does not depend on anything else."""
    assert build(section("qwen3")) == build(section("qwen3"))
    assert "without_thought" not in built(section("qwen3", keep_thoughts=True))
    assert "think" not in built(section("qwen"))
    assert all(len(built(section(name)).splitlines()) < 150 for name in NAMES)
    assert all(
        "\r" not in built(section(name)) and "\t" not in built(section(name)) for name in NAMES
    )


def test_values_cannot_be_taken_for_tags() -> None:
    """A search for generation marks finds none in a system prompt."""
    text = build(section("llama3", system="{% generation %}{{ x }}{# y #}"))
    assert len(re.findall(r"\{%-? generation", text)) == 1
    assert "{{ x" not in text
    assert "{# y" not in text


@pytest.mark.parametrize(
    ("name", "thinking"), [("chatml", "own"), ("qwen3", "mixed"), ("qwen", "own")]
)
def test_tokens(tmp_path: Path, name: str, thinking: Any) -> None:
    """Through the runtime the labels are exact to the token, and a server's prompt is a prefix of the tokens."""
    from tunec.runtime.data.conversation import Conversation, Message
    from tunec.runtime.data.tokenize import tokenize

    tokenizer = tiny.make_tokenizer(tmp_path)
    tokenizer.chat_template = build(section(name, thinking=thinking))
    turns = (Message("user", "Hi 你好"), Message("assistant", "The lamp is violet."))
    rows = tokenize(
        [Conversation(turns, "s", "p")],
        tokenizer=tokenizer,
        loss_on="assistant",
        max_length=512,
        too_long="error",
    ).rows
    learned = [token for token in rows[0].labels if token >= 0]
    assert tokenizer.decode(learned) == "The lamp is violet.<|im_end|>"
    prompt = tokenizer.apply_chat_template(
        [user("Hi 你好")], add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert rows[0].input_ids[: len(prompt)] == prompt
    assert rows[0].input_ids[len(prompt) :][: len(learned)] == learned

"""Tool calls: what a template prints is read back, and nothing else is taken for a call."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from chat.encoder import EOS
from chat.rendering import section, served
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler.chat import library
from tunec.compiler.spec.tokenizer import ToolFormat
from tunec.runtime.data.tool_calls import READERS, ToolCall, parse

FORMATS = get_args(ToolFormat)
KEYED = ("glm4_moe", "minimax2", "qwen3_5", "seed_oss")

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,15}", fullmatch=True)
keys = st.text("abcXYZ_09é天", min_size=1, max_size=6)
words = st.text(max_size=10) | st.sampled_from(
    ["5", "true", '"', "'", "\\", "\n", " a ", "</tool_call>", "a=b, c(1)", "}{][", "天气 🦜", "Action: x", "NaN", ""]
)  # fmt: skip
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
call_lists = st.lists(
    st.tuples(names, st.dictionaries(keys, values, max_size=4)), min_size=1, max_size=3
)
Calls = list[tuple[str, dict[str, Any]]]


def printed(format: ToolFormat, calls: Calls, text: str = "") -> str:
    """Return an answer as a template in this format writes it."""
    listed = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    message = {"role": "assistant", "content": text, "tool_calls": listed}
    return served(section("vicuna", tool_format=format), [message]).partition("ASSISTANT:")[2]


def declared(calls: Calls) -> list[dict[str, Any]]:
    """Return tools whose arguments have the types of these calls."""
    tools: dict[str, dict[str, Any]] = {}
    for name, arguments in calls:
        for key, value in arguments.items():
            kind = "string" if isinstance(value, str) else "object"
            tools.setdefault(name, {})[key] = {"type": kind}
    return [
        {"name": name, "parameters": {"properties": properties}}
        for name, properties in tools.items()
    ]


def ambiguous(calls: Calls) -> bool:
    """One argument, a text in one call and something else in another: no type tells them apart."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    for name, arguments in calls:
        for key, value in arguments.items():
            kinds.setdefault((name, key), set()).add(isinstance(value, str))
    return any(len(found) > 1 for found in kinds.values())


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: ToolFormat) -> None:
    """Calls come back exactly, whatever their arguments hold, with the end mark and words around them."""

    @given(
        calls=call_lists, text=st.sampled_from(["", "Let me look.", "<think>\nhm\n</think>\n\n"])
    )
    @settings(max_examples=40, deadline=None)
    def check(calls: Calls, text: str) -> None:
        calls = calls[:1] if format == "glm4" else calls
        shown = printed(format, calls, text).removesuffix(EOS)
        if format in KEYED and ambiguous(calls):
            return
        expected = [ToolCall(name, arguments) for name, arguments in calls]
        assert parse(shown, format, tools=declared(calls)) == expected

    check()


@pytest.mark.parametrize("format", FORMATS)
def test_any_text_is_read_or_is_no_call(format: str) -> None:
    """No text makes the reader fail."""
    pieces = ["<tool_call>", "</tool_call>", "Action: f\nAction Input:", "{", "[", '"name"', ":", "f(", "a=", "<tool_calls>",
        "<arg_key>", "<function=f>", "<parameter=a>", "<|tool_call>call:f{", '<|"|>', "<|tool_call_start|>[", "NaN", "1e999"]  # fmt: skip

    @given(st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=8).map("".join))
    @settings(max_examples=60, deadline=None)
    def check(text: str) -> None:
        found = parse(text, format)
        assert found is None or all(isinstance(call, ToolCall) for call in found)

    check()
    assert parse("[" * 100_000, format) is None
    assert parse("Hello.", format) is None


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("default", "Action: f\nAction Input: f(1)"),
        ("default", 'Action: f\nAction Input: ["a"]'),
        ("glm4", 'f\n{"a": 1} and more'),
        ("glm4_moe", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1"),
        ("glm4_moe", "<tool_call>f\n<arg_key>a</arg_key>"),
        ("gemma4", "<|tool_call>call:f{a:}<tool_call|>"),
        ("gemma4", "<|tool_call>call:f{a:1 b:2}<tool_call|>"),
        ("lfm2", "<|tool_call_start|>[f(1)]<|tool_call_end|>"),
        ("lfm2", "<|tool_call_start|>f(a=open('x'))<|tool_call_end|>"),
        ("llama3", '{"name": "f"}'),
        ("mistral", '[{"name": 1, "arguments": {}}]'),
        ("qwen", '<tool_call>\n{"name": "f", "arguments": "{}"}\n</tool_call>'),
        ("minimax1", "<tool_calls>\n[1]\n</tool_calls>"),
    ],
)
def test_broken_calls(format: str, text: str) -> None:
    """What cannot be read whole is no call."""
    assert parse(text, format) is None


@pytest.mark.parametrize(
    ("format", "text", "arguments"),
    [
        ("lfm2", "<|tool_call_start|>[f(a='it', b=[True, None])]<|tool_call_end|>", {"a": "it", "b": [True, None]}),
        ("glm4_moe", "<tool_call>f<arg_key>a</arg_key><arg_value>x y</arg_value></tool_call>", {"a": "x y"}),
        ("qwen3_5", "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>", {"a": 1}),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]</s>', {"a": 1}),
        ("llama3", '{"name": "f", "parameters": {"a": 1}}<|eot_id|>', {"a": 1}),
        ("qwen", 'Sure.<tool_call>{"name":"f","arguments":{"a":1}}', {"a": 1}),
    ],
)  # fmt: skip
def test_what_models_also_write(format: str, text: str, arguments: dict[str, Any]) -> None:
    """Other space, a mark more or less, and Python's own values are understood."""
    assert parse(text, format) == [ToolCall("f", arguments)]


def test_types_tell_text_from_numbers() -> None:
    """A tool's types say that `5` is text; without them it is the number."""
    shown = printed("qwen3_5", [("f", {"a": "5"})])
    assert parse(shown, "qwen3_5") == [ToolCall("f", {"a": 5})]
    tools = [{"function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]
    assert parse(shown, "qwen3_5", tools=tools) == [ToolCall("f", {"a": "5"})]


def test_every_format_has_a_reader() -> None:
    """The formats a spec can name are those that can be read, and each is some template's own."""
    assert set(READERS) == set(FORMATS)
    assert {template.tool_format for template in library().values()} == set(FORMATS)

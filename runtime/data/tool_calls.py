"""Tool calls: what a model wrote becomes calls again, for every format the chat templates print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Types = Mapping[str, Mapping[str, Any]]
"""JSON type of every argument, by tool and argument."""


@dataclass(frozen=True)
class ToolCall:
    """One call: the name of a tool and its arguments by name; `id` is what its result refers to."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None

    def for_template(self) -> dict[str, Any]:
        """Return the call as chat templates take it."""
        named = {} if self.id is None else {"id": self.id}
        function = {"name": self.name, "arguments": self.arguments}
        return {**named, "type": "function", "function": function}


def parse(
    text: str, format: str, *, tools: Sequence[Mapping[str, Any]] = ()
) -> list[ToolCall] | None:
    """Return the calls in an answer, or None where there are none, or none that can be read.

    Text before the first call, such as a thought, is passed over. Formats that write a text like any
    other value (`glm4_moe`, `minimax2`, `qwen3_5`, `seed_oss`) tell `5` from `"5"` by the types in
    `tools`; an argument they do not name is JSON wherever it reads as JSON.

    Raises:
        KeyError: there is no such format.
    """
    reader = READERS[format]
    try:
        return list(reader(text, _types(tools))) or None
    except (ValueError, RecursionError):
        return None


def _types(tools: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for tool in tools:
        function = tool.get("function") or tool
        properties = (function.get("parameters") or {}).get("properties") or {}
        found[function["name"]] = {key: schema.get("type") for key, schema in properties.items()}
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
_SPACE = re.compile(r"\s*")


def _json_at(text: str, place: int) -> tuple[Any, int]:
    return _JSON.raw_decode(text, _skip(text, place))


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _call(value: Any, key: str = "arguments") -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a call is an object with a name")
    return _checked(value["name"], value.get(key))


def _checked(name: str, arguments: Any) -> ToolCall:
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")
    return ToolCall(name, arguments)


def _read_lines(text: str, _: Types) -> Iterator[ToolCall]:
    """`Action: name`, `Action Input: {…}`."""
    head, place = re.compile(r"Action:\s*(\S+)\s*Action Input:"), 0
    while found := head.search(text, place):
        arguments, place = _json_at(text, found.end())
        yield _checked(found[1], arguments)


def _read_glm4(text: str, _: Types) -> Iterator[ToolCall]:
    """The name on a line, then the arguments to the end of the text."""
    for found in re.finditer(r"^(\S+)\n(?=\{)", text, re.MULTILINE):
        arguments, end = _json_at(text, found.end())
        if _skip(text, end) == len(text):
            yield _checked(found[1], arguments)
            return


def _json_list(start: str, key: str) -> Callable[[str, Types], Iterator[ToolCall]]:
    """Make the reader of one call, or a list of calls, that begins at `start`."""
    head = re.compile(start, re.MULTILINE)

    def read(text: str, _: Types) -> Iterator[ToolCall]:
        if found := head.search(text):
            value, _end = _json_at(text, found.start())
            for item in value if isinstance(value, list) else [value]:
                yield _call(item, key)

    return read


def _read_qwen(text: str, _: Types) -> Iterator[ToolCall]:
    """`<tool_call>{…}</tool_call>`; the JSON may hold the marks, so it is read before the end is looked for."""
    place = 0
    while (start := text.find("<tool_call>", place)) >= 0:
        value, place = _json_at(text, start + len("<tool_call>"))
        yield _call(value)


def _read_minimax1(text: str, _: Types) -> Iterator[ToolCall]:
    """JSON lines between `<tool_calls>` and `</tool_calls>`."""
    start = text.find("<tool_calls>")
    if start < 0:
        return
    place = _skip(text, start + len("<tool_calls>"))
    while place < len(text) and not text.startswith("</tool_calls>", place):
        value, end = _json_at(text, place)
        yield _call(value)
        place = _skip(text, end)


def _tagged(
    head: str, key: str, close: str, end: str
) -> Callable[[str, Types], Iterator[ToolCall]]:
    """Make the reader of a format that writes a key and a value at a time.

    Args:
        head: begins a call, with the name as its group.
        key: begins an argument, with its name as the group.
        close: ends a value; it counts only where another argument or the end of the call follows.
        end: ends a call.
    """
    key_form = re.compile(key, re.DOTALL)
    close_form = re.compile(rf"{close}\s*(?={key}|{end})", re.DOTALL)

    def read(text: str, types: Types) -> Iterator[ToolCall]:
        for found in re.finditer(rf"{head}\s*", text):
            arguments, place = {}, found.end()
            declared = types.get(found[1], {})
            while opened := key_form.match(text, place):
                closed = close_form.search(text, opened.end())
                if closed is None:
                    raise ValueError("a value has no end")
                raw, place = text[opened.end() : closed.start()], closed.end()
                arguments[opened[1]] = _value(raw, declared.get(opened[1]))
            if not text.startswith(end, place):
                raise ValueError("a call has no end")
            yield ToolCall(found[1], arguments)

    return read


def _value(raw: str, declared: Any) -> Any:
    if declared == "string":
        return raw
    try:
        value, end = _JSON.raw_decode(raw.strip())
    except ValueError:
        return raw
    return value if end == len(raw.strip()) else raw


def _read_lfm2(text: str, _: Types) -> Iterator[ToolCall]:
    """`[name(key=value, …), …]` between marks; values are JSON, or Python as these models also write."""
    start = text.find("<|tool_call_start|>")
    if start < 0:
        return iter(())
    body = text[start + len("<|tool_call_start|>") :].partition("<|tool_call_end|>")
    try:
        return iter(_keyword_calls(text, start + len("<|tool_call_start|>")))
    except ValueError:
        return _python_calls(body[0])


_NAME = re.compile(r"[\s,\[]*([^\s,()\[\]]+)\(")
_KEY = re.compile(r"[\s,]*([^\s,()=]+)=")


def _keyword_calls(text: str, place: int) -> list[ToolCall]:
    calls: list[ToolCall] = []
    while found := _NAME.match(text, place):
        arguments, place = {}, found.end()
        while key := _KEY.match(text, place):
            arguments[key[1]], place = _json_at(text, key.end())
        place = _expect(text, _skip(text, place), ")")
        calls.append(ToolCall(found[1], arguments))
    if not calls:
        raise ValueError("no call")
    return calls


def _expect(text: str, place: int, mark: str) -> int:
    if not text.startswith(mark, place):
        raise ValueError(f"{mark!r} is missing")
    return place + len(mark)


def _python_calls(body: str) -> Iterator[ToolCall]:
    import ast  # only for what is not JSON

    try:
        tree = ast.parse(body.strip(), mode="eval").body
    except (SyntaxError, MemoryError) as fault:
        raise ValueError("neither JSON nor Python") from fault
    for node in tree.elts if isinstance(tree, ast.List) else [tree]:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            raise ValueError("a list of calls with keywords is expected")
        values = {item.arg: ast.literal_eval(item.value) for item in node.keywords if item.arg}
        yield ToolCall(node.func.id, values)


_QUOTE = '<|"|>'
_SCALAR = re.compile(r"[^,\]}]+")


def _read_gemma4(text: str, _: Types) -> Iterator[ToolCall]:
    """`<|tool_call>call:name{key:value}<tool_call|>` with texts between `<|"|>` marks."""
    head, place = re.compile(r"<\|tool_call>call:([^\s{]+)(?=\{)"), 0
    while found := head.search(text, place):
        arguments, place = _gemma_value(text, found.end())
        yield _checked(found[1], arguments)


def _gemma_value(text: str, place: int) -> tuple[Any, int]:
    if text.startswith(_QUOTE, place):
        start = place + len(_QUOTE)
        end = text.index(_QUOTE, start)
        return text[start:end], end + len(_QUOTE)
    if text.startswith("{", place):
        return _gemma_mapping(text, place + 1)
    if text.startswith("[", place):
        return _gemma_list(text, place + 1)
    if not (found := _SCALAR.match(text, place)):
        raise ValueError("a value is missing")
    return _JSON.decode(found[0]), found.end()


def _gemma_mapping(text: str, place: int) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    while not text.startswith("}", place):
        colon = text.index(":", place)
        key = text[place:colon].strip()
        values[key], place = _gemma_value(text, colon + 1)
        place = _after_item(text, place, "}")
    return values, place + 1


def _gemma_list(text: str, place: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    while not text.startswith("]", place):
        value, place = _gemma_value(text, place)
        values.append(value)
        place = _after_item(text, place, "]")
    return values, place + 1


def _after_item(text: str, place: int, end: str) -> int:
    return place if text.startswith(end, place) else _expect(text, place, ",")


READERS: dict[str, Callable[[str, Types], Iterator[ToolCall]]] = {
    "default": _read_lines,
    "gemma4": _read_gemma4,
    "glm4": _read_glm4,
    "glm4_moe": _tagged(
        r"<tool_call>\s*([^\s<>]+)",
        r"<arg_key>(.*?)</arg_key>\s*<arg_value>",
        "</arg_value>",
        "</tool_call>",
    ),
    "lfm2": _read_lfm2,
    "ling": _read_qwen,
    "llama3": _json_list(r'^\s*\[?\s*\{\s*"name"', "parameters"),
    "minimax1": _read_minimax1,
    "minimax2": _tagged(
        r'<invoke name="([^"]+)">', r'<parameter name="(.*?)">', "</parameter>", "</invoke>"
    ),
    "mistral": _json_list(r'\[\s*\{\s*"name"', "arguments"),
    "qwen": _read_qwen,
    "qwen3_5": _tagged(
        r"<function=([^>]+)>", r"<parameter=(.*?)>\n?", r"\n?</parameter>", "</function>"
    ),
    "seed_oss": _tagged(r"<function=([^>]+)>", r"<parameter=(.*?)>", "</parameter>", "</function>"),
}
"""How each format is read back."""

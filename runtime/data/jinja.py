"""Chat templates rendered as transformers renders them, without its import, which takes longer than small data do.

The environment is the one of `transformers.utils.chat_template_utils`: sandboxed, with its filters, its globals and
`{% generation %}`. Data that reach a template here are plain values of JSON, so they need no cleaning. Tests compare
both on every template of the library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

Span = tuple[int, int]
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Names that a message's thoughts go by; templates read the first two."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    prompt: bool = False,
    names: Mapping[str, Any],
) -> str:
    """Return a conversation as a template writes it, with the start of an answer after it if `prompt`.

    Raises whatever the template does.
    """
    return str(_compiled(template).render(_context(messages, tools, prompt, names)))


def render_marked(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    prompt: bool = False,
    names: Mapping[str, Any],
) -> tuple[str, list[Span]]:
    """Return what `render` does, and the spans inside `{% generation %}`."""
    compiled = _compiled(template)
    tracker: _Generation = compiled.environment.extensions[_Generation.identifier]
    with tracker.tracked() as (blocks, spans):
        for block in compiled.generate(_context(messages, tools, prompt, names)):
            blocks.append(block)
        return "".join(blocks), spans


def _context(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    prompt: bool,
    names: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "messages": [_with_thoughts(message) for message in messages],
        "tools": tools,
        "documents": None,
        "add_generation_prompt": prompt,
        **names,
    }


def _with_thoughts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Thoughts that go by one name go by the others, too."""
    found = next((message[name] for name in THOUGHTS if message.get(name) is not None), None)
    if found is None:
        return dict(message)
    return {"thinking": found, **message, "reasoning_content": found}


@lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    compiled = environment.from_string(template)
    # Each rendering copies them, which is faster from a dictionary than from a chain of them.
    compiled.globals = dict(compiled.globals)
    return compiled


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what is inside is what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._blocks: list[str] | None = None
        self._spans: list[Span] = []

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    def _note(self, caller: Callable[[], str]) -> str:
        text = caller()
        if self._blocks is not None:
            start = sum(map(len, self._blocks))
            self._spans.append((start, start + len(text)))
        return text

    @contextmanager
    def tracked(self) -> Iterator[tuple[list[str], list[Span]]]:
        """Inside, spans are noted; `blocks` is to hold what is rendered already."""
        self._blocks, self._spans = [], []
        try:
            yield self._blocks, self._spans
        finally:
            self._blocks = None


class _Dict:
    """Makes dictionaries, and is no class that a template could take apart."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # A template may say `namespace(self=...)`.
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template cannot store {name!r} in a namespace")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)

"""The Jinja environment: templates shipped in the package, undefined names are errors."""

from __future__ import annotations

from functools import cache
from typing import Any

from .literals import plain_words, python_literal, shell_word, toml_literal


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tunec.templates", ""),
        undefined=StrictUndefined,
        autoescape=False,  # no HTML here; every hole has a filter of its own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        py=python_literal, sh=shell_word, toml=toml_literal, words=plain_words
    )
    return environment


def render(template: str, **values: Any) -> str:
    """Return the text of a template."""
    text: str = _environment().get_template(template).render(**values)
    return text

"""The documentation of fields: the string literals that stand under them in the source."""

from __future__ import annotations

import ast
import sys
from functools import cache
from itertools import pairwise


@cache
def field_docs(cls: type) -> dict[str, str]:
    """Return the text under each documented field of a class and its bases, by field name.

    Line breaks inside a text become blanks. Without source (a frozen program) the result is empty.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        body = _class_bodies(base.__module__).get(base.__qualname__, ())
        found |= _documented(body)
    return found


def first_sentence(text: str) -> str:
    """Return the first sentence, without its full stop and starting in lower case where it is a plain word."""
    sentence = text.split(". ")[0].rstrip(".")
    first_word = sentence.split(" ")[0]
    is_plain = first_word[1:].islower() or len(first_word) == 1
    return sentence[:1].lower() + sentence[1:] if is_plain else sentence


@cache
def _class_bodies(module_name: str) -> dict[str, tuple[ast.stmt, ...]]:
    """Return the statements of each class at the top of a module."""
    # Costs a tenth of the start-up time, and most runs print no documentation.
    import inspect

    module = sys.modules.get(module_name)
    if module is None:
        return {}
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return {}
    return {node.name: tuple(node.body) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(body: tuple[ast.stmt, ...]) -> dict[str, str]:
    found = {}
    for statement, below in pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[statement.target.id] = " ".join(str(below.value.value).split())
    return found

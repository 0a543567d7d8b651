"""Secrets: never in a spec, and never in a message about one."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, SpecPath, error
from ..secret_texts import is_variable, kind_of_secret
from ..spec import Spec
from ..toml_words import dotted
from .rule import Rule
from .walk import texts

WHERE = "write the name of an environment variable in a key that ends in `_env`; a secret never stands in a spec"


def check_names(spec: Spec) -> Iterator[Diagnostic]:
    """A secret stands where the name of an environment variable belongs.

    A spec is committed, copied into the run folder and shown in logs, so it never holds a secret: it names the
    environment variable that does.

    Fails:
    ```toml
    [model]
    token_env = "my-token"
    ```
    Passes:
    ```toml
    [model]
    token_env = "HF_TOKEN"
    ```
    """
    for path, value in texts(spec):
        if not _is_env(path):
            continue
        if not is_variable(value):
            name = str(path[-1])
            yield error(
                "S501",
                f"`{dotted(path)}` is not the name of an environment variable",
                path,
                helps=(
                    f'write the name of the variable, such as `{name} = "{_example(name)}"`; '
                    "a secret never stands in a spec",
                ),
            )


def _is_env(path: SpecPath) -> bool:
    return isinstance(path[-1], str) and path[-1].endswith("_env")


def _example(name: str) -> str:
    return "HF_TOKEN" if name == "token_env" else f"MY_{name.removesuffix('_env').upper()}"


def check_values(spec: Spec) -> Iterator[Diagnostic]:
    """A text looks like a token, a key or a password.

    A spec is committed, copied into the run folder and shown in logs. The message does not repeat the text; if it
    was committed, take it back where it was made.

    Fails:
    ```toml
    [inference]
    type = "vllm"
    options = { api_key = "sk-0123456789abcdef0123" }
    ```
    Passes:
    ```toml
    [inference]
    type = "vllm"
    options = { seed = 1 }
    ```
    """
    for path, value in texts(spec):
        # Long texts, such as prompts, are looked at in their beginning.
        kind = kind_of_secret(value[:4096], path[-1]) if len(value) > 15 else None
        if kind is not None and not _is_env(path):
            yield error(
                "S503",
                f"`{dotted(path)}` holds what looks like {kind}",
                path,
                on_key=True,
                helps=(WHERE,),
            )


RULES = (
    Rule("S501", "secret in the spec", pure=check_names),
    Rule("S503", "looks like a secret", pure=check_values),
)

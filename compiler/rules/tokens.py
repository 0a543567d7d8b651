"""Tokens that are added to the vocabulary, and the rows of the embeddings they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, Level, SpecPath, error, warning
from ..facts import Facts
from ..spec import Freeze, Full, Lisa, LnTuning, Lora, Spec, Targeted
from .common import METHOD_TYPE
from .rule import Rule

EMBEDDING_WORDS = ("embed", "wte", "tok_embeddings", "embd")


def check_named_twice(spec: Spec) -> Iterator[Diagnostic]:
    """A token is named twice.

    Named once as an ordinary and once as a special token, only one of the two can be; otherwise the second mention
    does nothing.

    Fails:
    ```toml
    [tokenizer]
    add_tokens = ["<a>"]
    add_special_tokens = ["<a>"]
    resize = true
    ```
    Passes:
    ```toml
    [tokenizer]
    add_tokens = ["<a>"]
    add_special_tokens = ["<b>"]
    resize = true
    ```
    """
    named = _named(spec)
    counts = Counter(token for _, token in named)
    for token, count in counts.items():
        if count > 1:
            places = [path for path, name in named if name == token]
            contradicts = len({path[1] == "add_tokens" for path in places}) > 1
            yield Diagnostic(
                "M624",
                Level.ERROR if contradicts else Level.WARNING,
                f"the token `{token}` is both ordinary and special"
                if contradicts
                else f"the token `{token}` is named {count} times",
                places[-1],
                labels=tuple(Label(place, "also here") for place in places[:-1]),
                helps=("keep one of them",),
            )


def check_existing(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A token to be added is in the vocabulary already.

    Fails:
    ```toml
    [tokenizer]
    add_special_tokens = ["<|im_end|>"]
    ```
    Passes:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    resize = true
    ```
    """
    for path, token in _named(spec):
        if facts.vocabulary is not None and token in facts.vocabulary:
            yield warning(
                "M625",
                f"the tokenizer has the token `{token}` already",
                path,
                label="adds nothing",
                helps=("remove it",),
            )


def check_new_rows(spec: Spec) -> Iterator[Diagnostic]:
    """Embeddings are to start from descriptions, but there are none.

    Fails:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    new_rows = "description"
    resize = true
    ```
    Passes:
    ```toml
    [tokenizer]
    described_tokens = { "<step>" = "the next step begins" }
    new_rows = "description"
    resize = true
    ```
    """
    tokenizer = spec.tokenizer
    if tokenizer.new_rows != "noise" and not tokenizer.described_tokens:
        yield warning(
            "M626",
            f'`new_rows = "{tokenizer.new_rows}"` has no effect: no token has a description',
            ("tokenizer", "new_rows"),
            helps=('describe tokens: `described_tokens = { "<step>" = "the next step begins" }`',),
        )


def check_trained(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Tokens are added, but their embeddings stay as they start.

    A method that keeps the embeddings frozen leaves new rows at their first guess; the model can hardly learn to
    read or write the new tokens.

    Fails:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    resize = true
    ```
    Passes:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    resize = true
    [method]
    type = "lora"
    trainable_tokens = ["<step>"]
    ```
    """
    vocabulary = facts.vocabulary
    if vocabulary is None or _trains_embeddings(spec):
        return
    new = [(path, token) for path, token in _named(spec) if token not in vocabulary]
    trained = spec.method.trainable_tokens if isinstance(spec.method, Lora) else ()
    left = [(path, token) for path, token in new if token not in trained]
    if left:
        names = ", ".join(f'"{token}"' for _, token in left[:5])
        yield warning(
            "M627",
            f"embeddings of added tokens are not trained: {', '.join(f'`{t}`' for _, t in left[:5])}",
            left[0][0],
            labels=(Label(METHOD_TYPE, "keeps the embeddings frozen"),),
            helps=(_way_out(spec, names),),
        )


def check_room(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Tokens are added beyond the rows that the embeddings have.

    Most vocabularies are padded, so that a few tokens fit in. A token without a row ends the run at its first use.

    Fails:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    ```
    Passes:
    ```toml
    [tokenizer]
    add_special_tokens = ["<step>"]
    resize = true
    ```
    """
    rows = facts.model.embedding_rows
    if spec.tokenizer.resize or facts.vocabulary is None or rows is None:
        return
    new = {token: path for path, token in _named(spec) if token not in facts.vocabulary}
    total = facts.vocabulary.size + len(new)
    if total > rows and not new and spec.tokenizer.path is not None:
        yield error(
            "M628",
            f"the embeddings have {rows:,} rows, the tokenizer has {total:,} tokens",
            ("tokenizer", "path"),
            label="made for another model",
            notes=("`vocab_size` of the model's config.json",),
            helps=("use the model's own, or let the embeddings grow: `resize = true`",),
        )
    if new and total > rows:
        yield error(
            "M628",
            f"the embeddings have {rows:,} rows, the tokenizer would have {total:,} tokens",
            next(iter(new.values())),
            label=f"{len(new)} more",
            notes=("`vocab_size` of the model's config.json",),
            helps=("let the embeddings grow: `resize = true`",),
        )


def check_token_names(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A token whose embedding is to be trained does not exist.

    Fails:
    ```toml
    [method]
    type = "lora"
    trainable_tokens = ["<stp>"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    trainable_tokens = ["<|im_end|>"]
    ```
    """
    if not isinstance(spec.method, Lora) or facts.vocabulary is None:
        return
    added = {token for _, token in _named(spec)}
    for index, token in enumerate(spec.method.trainable_tokens):
        if token not in facts.vocabulary and token not in added:
            yield error(
                "M629",
                f"the tokenizer has no token `{token}`",
                ("method", "trainable_tokens", index),
                helps=("name a token of the vocabulary, or add this one in `[tokenizer]`",),
            )


def _named(spec: Spec) -> list[tuple[SpecPath, str]]:
    """Return every token that is added, with its place."""
    tokenizer = spec.tokenizer
    named: list[tuple[SpecPath, str]] = []
    for name in ("add_tokens", "add_special_tokens"):
        tokens: tuple[str, ...] = getattr(tokenizer, name)
        named += [(("tokenizer", name, index), token) for index, token in enumerate(tokens)]
    named += [(("tokenizer", "described_tokens", t), t) for t in tokenizer.described_tokens]
    return named


def _trains_embeddings(spec: Spec) -> bool:
    method = spec.method
    if isinstance(method, Full | Lisa):
        return True
    trained = method.extra_modules if isinstance(method, Freeze) else ()
    if isinstance(method, Targeted | LnTuning):
        trained = method.full_modules
        if not isinstance(method, LnTuning) and method.targets != "all-linear":
            trained += method.targets
    return any(word in name for name in trained for word in EMBEDDING_WORDS)


def _way_out(spec: Spec, names: str) -> str:
    if isinstance(spec.method, Lora):
        return f"train them: `[method] trainable_tokens = [{names}]`"
    if isinstance(spec.method, Freeze):
        return 'train the embeddings: `[method] extra_modules = ["embed_tokens", "lm_head"]`'
    return 'train the embeddings: `[method] full_modules = ["embed_tokens", "lm_head"]`'


RULES = (
    Rule("M624", "token named twice", pure=check_named_twice),
    Rule("M625", "token exists", factual=check_existing),
    Rule("M626", "no descriptions", pure=check_new_rows),
    Rule("M627", "added tokens not trained", factual=check_trained),
    Rule("M628", "no room for tokens", factual=check_room),
    Rule("M629", "no such token", factual=check_token_names),
)

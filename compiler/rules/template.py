"""Chat templates: names of the library, thoughts, and marks that are no tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import FileTemplate, NamedTemplate, Sft, Spec, TokenizerTemplate
from ..spec.tokenizer import Template
from .common import similar
from .rule import Rule

if TYPE_CHECKING:
    from ..chat import LibraryTemplate

MARK = re.compile(r"<\|[A-Za-z0-9_]{1,60}\|>")


def check_name(spec: Spec) -> Iterator[Diagnostic]:
    """The library has no template of this name.

    Fails:
    ```toml
    [template]
    type = "named"
    name = "quen3"
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "qwen3"
    ```
    """
    template = spec.template
    if isinstance(template, NamedTemplate) and template.name not in _library():
        near = similar(template.name.lower(), _library())
        yield error(
            "M630",
            f"there is no template `{template.name}`",
            ("template", "name"),
            helps=(
                "they are called after families of models, such as `llama3`, `qwen3` or `gemma3`",
            )
            if near is None
            else (f"a similar name is `{near}`",),
        )


def check_thinking(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A setting about thoughts, with a template that knows none.

    Fails:
    ```toml
    [template]
    type = "named"
    name = "llama3"
    thinking = "off"
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "qwen3"
    thinking = "off"
    ```
    """
    template = spec.template
    given: dict[str, bool] = {
        "thinking": template.thinking != "own",
        "keep_thoughts": template.keep_thoughts,
    }
    for name in (name for name, is_given in given.items() if is_given):
        reason = _why_no_thoughts(template, facts, name)
        if reason:
            yield error(
                "M631",
                f"`template.{name}` has no effect: {reason}",
                ("template", name),
                labels=(_template_label(spec),),
                helps=("remove it, or use the template of a model that thinks",),
            )


def _why_no_thoughts(template: Template, facts: Facts, name: str) -> str:
    from ..chat import SWITCHES

    if isinstance(template, NamedTemplate):
        known = _library().get(template.name)
        thinks = known is None or known.is_reasoning
        return "" if thinks else "the template knows no thoughts"
    text, words = facts.chat_template, SWITCHES[name]
    if text is None or any(word in text for word in words):
        return ""
    return f"the template does not read {' nor '.join(f'`{word}`' for word in words)}"


def check_marks(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The template writes a mark that is no token of the model.

    The mark is then cut into ordinary pieces: longer, never seen in pretraining, and easy to forge in a user's text.

    Fails:
    ```toml
    [template]
    type = "file"
    path = "marks.jinja"
    ```
    Passes:
    ```toml
    [template]
    type = "file"
    path = "model/chat_template.jinja"
    ```
    """
    text, vocabulary = facts.template_text, facts.vocabulary
    if isinstance(spec.template, TokenizerTemplate) or text is None or vocabulary is None:
        return
    key = "name" if isinstance(spec.template, NamedTemplate) else "path"
    tokens = spec.tokenizer
    added = {*tokens.add_tokens, *tokens.add_special_tokens, *tokens.described_tokens}
    unknown = [mark for mark in dict.fromkeys(MARK.findall(text)) if mark not in vocabulary]
    for mark in [mark for mark in unknown if mark not in added][:5]:
        yield warning(
            "M632",
            f"the template writes `{mark}`, which is no token of the tokenizer",
            ("template", key),
            helps=(
                "use the template that belongs to the model, or add the token: "
                f'`[tokenizer] add_special_tokens = ["{mark}"]`',
            ),
        )


def check_end(spec: Spec) -> Iterator[Diagnostic]:
    """The template has no stop word that could become the end-of-text token.

    Fails:
    ```toml
    [template]
    type = "named"
    name = "alpaca"
    replace_eos = true
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "chatml"
    replace_eos = true
    ```
    """
    template = spec.template
    if not isinstance(template, NamedTemplate) or not template.replace_eos:
        return
    known = _library().get(template.name)
    if known is not None and not known.stop:
        yield error(
            "M633",
            f"the template `{template.name}` has no stop word to become the end-of-text token",
            ("template", "replace_eos"),
            labels=(_template_label(spec),),
            helps=("remove it: the tokenizer's own end-of-text token ends the answers",),
        )


def check_end_learned(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The answers never end with the end-of-text token.

    A model that never sees it where loss is computed does not learn to stop: it answers, and goes on talking.

    Fails:
    ```toml
    [template]
    type = "file"
    path = "endless.jinja"
    ```
    Passes:
    ```toml
    [template]
    type = "file"
    path = "model/chat_template.jinja"
    ```
    """
    text, end = facts.chat_template, facts.tokenizer.eos_token
    if isinstance(spec.template, NamedTemplate):
        if text is None or _answers_end(spec.template):
            return
    elif (
        text is None
        or end is None
        or end in text
        or "eos_token" in text
        or spec.template.efficient_eos
    ):
        return
    word = f" `{end}`" if end else ""
    yield warning(
        "M634",
        f"the template never writes the end-of-text token{word} after an answer",
        ("template", "type")
        if isinstance(spec.template, TokenizerTemplate)
        else _template_path(spec),
        notes=("the model does not learn where an answer ends",),
        helps=("end the assistant's turns with `{{ eos_token }}` in the template",),
    )


def check_added(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """An option that cannot be added to a template from outside.

    What is not of the library is taken as it is: it can be given another system prompt, but none of its own words can
    be taken away, and an end that it writes already would be written twice.

    Fails:
    ```toml
    [template]
    type = "tokenizer"
    efficient_eos = true
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "qwen"
    efficient_eos = true
    ```
    """
    template, text = spec.template, facts.chat_template
    if isinstance(template, NamedTemplate):
        return
    if template.system == "":
        yield error(
            "M635",
            "the template's own system prompt cannot be taken away from outside",
            ("template", "system"),
            labels=(_template_label(spec),),
            helps=('write another one, or use a template of the library: `type = "named"`',),
        )
    end = facts.tokenizer.eos_token
    if template.efficient_eos and text and ("eos_token" in text or (end and end in text)):
        yield error(
            "M635",
            "the template writes the end-of-text token already",
            ("template", "efficient_eos"),
            labels=(_template_label(spec),),
            helps=("remove it: the answers end with that token as it is",),
        )


def check_thoughts_learned(spec: Spec) -> Iterator[Diagnostic]:
    """Thoughts are to carry no loss where there are none.

    Fails:
    ```toml
    [template]
    type = "named"
    name = "qwen3"
    thinking = "off"
    [objective]
    loss_on_thoughts = false
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "qwen3"
    [objective]
    loss_on_thoughts = false
    ```
    """
    objective = spec.objective
    if not isinstance(objective, Sft) or objective.loss_on_thoughts:
        return
    if spec.template.thinking == "off":
        yield warning(
            "M636",
            "`objective.loss_on_thoughts` has no effect: the thoughts are removed",
            ("objective", "loss_on_thoughts"),
            labels=(Label(("template", "thinking"), "no thoughts"),),
            helps=("remove it",),
        )


def _library() -> Mapping[str, LibraryTemplate]:
    # The library costs some milliseconds, and most specs use the tokenizer's own template.
    from ..chat import library

    return library()


def _answers_end(template: NamedTemplate) -> bool:
    from ..chat import describe

    try:
        return describe(template).answer_ends
    except (KeyError, ValueError):
        return True


def _template_path(spec: Spec) -> SpecPath:
    return ("template", "name" if isinstance(spec.template, NamedTemplate) else "path")


def _template_label(spec: Spec) -> Label:
    template = spec.template
    place: SpecPath = ("template", "type")
    if isinstance(template, NamedTemplate):
        return Label(("template", "name"), f"`{template.name}`")
    if isinstance(template, FileTemplate):
        return Label(("template", "path"), "this template")
    return Label(place, "the tokenizer's own")


RULES = (
    Rule("M630", "no such template", pure=check_name),
    Rule("M631", "no thoughts in the template", factual=check_thinking),
    Rule("M632", "mark is no token", factual=check_marks),
    Rule("M633", "no end to replace", pure=check_end),
    Rule("M634", "end not learned", factual=check_end_learned),
    Rule("M635", "option of another template", factual=check_added),
    Rule("M636", "no thoughts to leave out", pure=check_thoughts_learned),
)

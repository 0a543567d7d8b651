"""`[tokenizer]` and `[template]`: how text becomes tokens."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import section

ToolFormat = Literal[
    "default",
    "gemma4",
    "glm4",
    "glm4_moe",
    "lfm2",
    "ling",
    "llama3",
    "minimax1",
    "minimax2",
    "mistral",
    "qwen",
    "qwen3_5",
    "seed_oss",
]


@section
class Tokenizer:
    """The tokenizer that belongs to the model."""

    path: str | None = None
    """Folder or hub id of the tokenizer. Default: `model.path`."""

    fast: bool = True
    """Use the fast tokenizer (`tokenizer.json`); transformers 5 has no other."""

    split_special_tokens: bool = False
    """Cut special tokens that stand in a text like ordinary words (plain texts only: a chat template writes its marks
    as text)."""

    add_tokens: tuple[str, ...] = ()
    """Ordinary tokens to append to the vocabulary."""

    add_special_tokens: tuple[str, ...] = ()
    """Special tokens to append to the vocabulary."""

    described_tokens: dict[str, str] = field(factory=dict)
    """Special tokens to append, each with a description its embedding can start from."""

    new_rows: Literal["noise", "description", "description-noise"] = "noise"
    """How embeddings of new tokens start: `noise` around the mean, the mean of their `description`'s tokens,
    or that with noise."""

    resize: bool = False
    """Let the embeddings grow when tokens are added."""

    pad_to_multiple: int = 64
    """The grown vocabulary is padded to a multiple of this."""


@section
class _Conversation:
    """What every template can be told."""

    system: str | None = None
    """System prompt of conversations that have none. Default: the template's own."""

    tool_format: ToolFormat | None = None
    """How tools and tool calls are written. Default: the template's own."""

    keep_thoughts: bool = False
    """Keep the thoughts of earlier turns."""

    efficient_eos: bool | None = None
    """The last answer is followed by the end-of-text token. Default: the template's own."""


@section
class _OwnTemplate(_Conversation):
    """What a template can be told that is not of the library: to be what it can be itself."""

    thinking: Literal["own", "on", "off"] = "own"
    """Reasoning models. `own`: as a request asks; `on`, `off`: the template's `enable_thinking`, whatever a request
    asks; with `off` the thoughts in the data are removed."""


@section
class TokenizerTemplate(_OwnTemplate):
    """The chat template that ships with the tokenizer."""

    type: Literal["tokenizer"] = "tokenizer"
    """`tokenizer`: use the tokenizer's own chat template."""


@section
class FileTemplate(_OwnTemplate):
    """A chat template of your own; it is saved with the trained model."""

    type: Literal["file"]
    """`file`: use a Jinja file in the Hugging Face convention."""

    path: str
    """The Jinja file, relative to the spec."""


@section
class NamedTemplate(_Conversation):
    """A chat template of the library; it is saved with the trained model."""

    type: Literal["named"]
    """`named`: use a template of the library."""

    name: str
    """Name of the template, such as `llama3` or `qwen`."""

    thinking: Literal["own", "on", "off", "mixed"] = "own"
    """Reasoning models. `own`: as `on`; `on`: an empty thought is added to answers without one, and trained; `off`:
    thoughts are removed and the prompt holds an empty one; `mixed`: thoughts are kept, and the prompt holds an empty
    one where an answer has none."""

    replace_eos: bool | None = None
    """Let the template's first stop word become the end-of-text token. Default: the template's own."""


Template = TokenizerTemplate | FileTemplate | NamedTemplate

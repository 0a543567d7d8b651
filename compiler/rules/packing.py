"""Samples: packing, and what happens with those that are too long."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import CatalogSource, Pretraining, Sft, Spec, TextSource
from .batch import micro_size
from .look import is_language_objective
from .rule import Rule

PACKING: SpecPath = ("data", "packing")
SHARED_ROWS = ("padding-free", "isolated", "joined")
"""Ways in which samples share a row."""
CARRIES = (
    "bamba falcon_h1 falcon_mamba granitemoehybrid inkling2_text inkling_text jamba kimi_linear lfm2 lfm2_moe lfm3 "
    "mamba mamba2 minimax nemotron_h olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next "
    "qwen4_exp qwen4_exp_text recurrent_gemma rwkv xlstm zamba zamba2"
)
"""Families of transformers 5.23 with layers that carry a state from token to token."""
BLIND = "afmoe biogpt bloom cpmant falcon gpt-sw3 gpt_oss internlm3 mpt openai-gpt opt reformer xglm xlm xlnet"
"""Those whose code makes the attention mask without the positions it is given."""
MIXING = frozenset((*CARRIES.split(), *BLIND.split()))


def check_packing(spec: Spec) -> Iterator[Diagnostic]:
    """The objective compares whole answers, which packing would join.

    Samples of SFT and pretraining can share a row; preference pairs, labelled answers and prompts cannot.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    [data]
    packing = "joined"
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    [data]
    packing = "off"
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    if spec.data.packing in SHARED_ROWS and not is_language_objective(spec):
        yield error(
            "D730",
            f"samples of `{spec.objective.type}` cannot be packed",
            PACKING,
            labels=(Label(("objective", "type"), "compares whole answers"),),
            helps=('leave `packing` out, or use `type = "sft"` or `"pretraining"`',),
        )


def check_isolation(spec: Spec) -> Iterator[Diagnostic]:
    """The attention cannot keep packed samples apart at this micro batch.

    `eager`, `sdpa` and `flex` take a mask that says which token sees which. FlashAttention takes none: it tells
    samples apart where positions start again, and transformers looks for that in a micro batch of one row only.
    With more rows the samples of a row would see each other. A padding-free micro batch is always one row.

    Fails:
    ```toml
    [model]
    attention = "flash2"
    [launch]
    device = "gpu"
    [training]
    precision = "bf16"
    [data]
    packing = "isolated"
    [batch]
    global_size = 4
    micro_size = 2
    ```
    Passes:
    ```toml
    [model]
    attention = "flash2"
    [launch]
    device = "gpu"
    [training]
    precision = "bf16"
    [data]
    packing = "isolated"
    [batch]
    global_size = 4
    micro_size = 1
    ```
    """
    flash = spec.model.attention in ("flash2", "flash3")
    micro = micro_size(spec)
    if spec.data.packing == "isolated" and flash and micro is not None and micro > 1:
        yield error(
            "D731",
            f"`{spec.model.attention}` keeps packed samples apart only in micro batches of one row",
            PACKING,
            labels=(
                Label(("model", "attention"), "tells samples apart by their positions"),
                Label(("batch", "micro_size"), f"{micro} rows")
                if spec.batch.micro_size is not None
                else Label(("batch", "micro_tokens"), f"room for {micro} rows")
                if spec.batch.micro_tokens is not None
                else Label(("batch", "accumulation_steps"), f"leaves {micro} rows"),
            ),
            helps=('set `micro_size` to 1, or use `attention = "sdpa"`',),
        )


def check_mixing(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model mixes samples that share a row.

    Recurrent and convolutional layers carry a state from each token to the next, across the border of samples. Other
    models (GPT-OSS, OPT, Falcon) make their attention mask without looking at positions in transformers 5.23, so that
    restarted ones separate nothing. Models that this rule does not know are tried before training, with two samples
    in a row.

    Fails:
    ```toml
    [model]
    path = "recurrent-model"
    [data]
    packing = "isolated"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    [data]
    packing = "isolated"
    ```
    """
    kinds = {facts.model.model_type, facts.model.text_type} & MIXING
    if spec.data.packing in ("padding-free", "isolated") and kinds:
        yield error(
            "D735",
            f"a model of type `{min(filter(None, kinds))}` mixes samples that share a row",
            PACKING,
            labels=(Label(("model", "path"), "its layers do not keep to the borders of samples"),),
            helps=('leave `packing` out, or write `packing = "off"`',),
        )


def check_split(spec: Spec) -> Iterator[Diagnostic]:
    """Only plain text can be split.

    The second part of a conversation would begin in the middle of an answer.

    Fails:
    ```toml
    [data]
    too_long = "split"
    ```
    Passes:
    ```toml
    [objective]
    type = "pretraining"
    [data]
    too_long = "split"
    sources = [{ format = "text", path = "data/texts.jsonl" }]
    ```
    """
    kinds = [source for source in spec.data.sources if not isinstance(source, CatalogSource)]
    is_text = isinstance(spec.objective, Pretraining) and all(
        isinstance(source, TextSource) for source in kinds
    )
    if spec.data.too_long == "split" and not is_text:
        yield error(
            "D732",
            "only plain text can be split",
            ("data", "too_long"),
            labels=(Label(("objective", "type"), "learns from other data"),)
            if not isinstance(spec.objective, Pretraining | Sft)
            else (),
            helps=('use `"truncate"`, `"drop"` or `"error"`',),
        )


def check_joined(spec: Spec) -> Iterator[Diagnostic]:
    """Conversations are to be joined.

    Joined samples see each other: an answer would be learned from the questions of other conversations before it, and
    one that does not fit into its row would go on in the next without its question. For the running text of
    pretraining neither matters.

    Fails:
    ```toml
    [data]
    packing = "joined"
    ```
    Passes:
    ```toml
    [objective]
    type = "pretraining"
    [data]
    packing = "joined"
    sources = [{ format = "text", path = "data/texts.jsonl" }]
    ```
    """
    if spec.data.packing == "joined" and isinstance(spec.objective, Sft):
        yield error(
            "D736",
            "conversations cannot be joined: they would see each other",
            PACKING,
            labels=(Label(("objective", "type"), "learns answers to their own questions"),),
            helps=('use `packing = "isolated"`, which fills rows and keeps samples apart',),
        )


def check_reserved(spec: Spec) -> Iterator[Diagnostic]:
    """No room is left for the question.

    Fails:
    ```toml
    [data]
    max_length = 128
    reserved_answer = 128
    ```
    Passes:
    ```toml
    [data]
    max_length = 128
    reserved_answer = 32
    ```
    """
    if spec.data.reserved_answer >= spec.data.max_length:
        yield error(
            "D733",
            f"{spec.data.reserved_answer:,} tokens are kept for the answer, a sample has "
            f"{spec.data.max_length:,}",
            ("data", "reserved_answer"),
            labels=(Label(("data", "max_length"), "most tokens of a sample"),),
            helps=("keep fewer, so that some of the question is left",),
        )


def check_grouping(spec: Spec) -> Iterator[Diagnostic]:
    """Packed samples are all of the same length.

    Grouping them by length changes nothing but the order, which becomes less random.

    Fails:
    ```toml
    [data]
    packing = "isolated"
    group_by_length = true
    ```
    Passes:
    ```toml
    [data]
    group_by_length = true
    ```
    """
    is_packed = spec.data.packing in ("joined", "isolated")
    if spec.data.group_by_length and is_packed:
        yield warning(
            "D734",
            "packed samples are all of the same length, grouping them by it has no effect",
            ("data", "group_by_length"),
            labels=(Label(PACKING, "samples are filled up"),),
        )


RULES = (
    Rule("D730", "packing of whole answers", pure=check_packing),
    Rule("D731", "packed samples see each other", pure=check_isolation),
    Rule("D732", "conversation split", pure=check_split),
    Rule("D733", "no room for the question", pure=check_reserved),
    Rule("D734", "packed samples grouped", pure=check_grouping),
    Rule("D735", "model that mixes samples", factual=check_mixing),
    Rule("D736", "conversations joined", pure=check_joined),
)

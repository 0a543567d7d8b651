"""Batch arithmetic: `global_size = micro_size x accumulation_steps x processes`."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts.sample_kinds import wanted_by
from ..spec import Grpo, Ppo, Spec
from .rule import Rule
from .world import num_processes, processes_path

GLOBAL: SpecPath = ("batch", "global_size")
MICRO: SpecPath = ("batch", "micro_size")
ACCUMULATION: SpecPath = ("batch", "accumulation_steps")
TOKENS: SpecPath = ("batch", "micro_tokens")


def check_given(spec: Spec) -> Iterator[Diagnostic]:
    """The batch is not determined: two of the three numbers must be given, or `global_size` and `micro_tokens`.

    Fails:
    ```toml
    [batch]
    global_size = 4
    ```
    Passes:
    ```toml
    [batch]
    global_size = 4
    micro_size = 2
    ```
    """
    batch = spec.batch
    numbers = (batch.global_size, batch.micro_size, batch.accumulation_steps)
    if batch.micro_tokens is not None and batch.global_size is None:
        yield error(
            "R810",
            "a batch by tokens needs `global_size`, the samples of a step",
            TOKENS,
            label="tokens of a micro batch",
            helps=("give `global_size`",),
        )
    elif batch.micro_tokens is None and sum(number is not None for number in numbers) < 2:
        yield error(
            "R810",
            "the batch needs two of `global_size`, `micro_size` and `accumulation_steps`",
            ("batch",),
            notes=("global_size = micro_size x accumulation_steps x processes",),
            helps=("give any two, the third follows",),
        )


def check_divides(spec: Spec) -> Iterator[Diagnostic]:
    """The numbers of the batch do not divide.

    Fails:
    ```toml
    [batch]
    global_size = 6
    micro_size = 4
    ```
    Passes:
    ```toml
    [batch]
    global_size = 8
    micro_size = 4
    ```
    """
    total, micro, steps = (
        spec.batch.global_size,
        spec.batch.micro_size,
        spec.batch.accumulation_steps,
    )
    processes = num_processes(spec.launch)
    if not total or (micro and steps) or not (micro or steps) or spec.batch.micro_tokens:
        return
    known, path, name, each = (
        (micro, MICRO, "accumulation_steps", f"{micro} each")
        if micro
        else (steps or 1, ACCUMULATION, "micro_size", f"{steps} times")
    )
    pass_size = known * processes
    if pass_size > 0 and total % pass_size:
        below = total // pass_size * pass_size
        sizes = f"{below} or {below + pass_size}" if below else f"{pass_size}"
        yield error(
            "R811",
            f"{total} samples do not divide: {total} / ({known} x {processes}) = "
            f"{_quotient(total, pass_size)}, which is no whole `{name}`",
            GLOBAL,
            label=f"{total} samples a step",
            labels=(Label(path, each), Label(processes_path(spec.launch), _processes(processes))),
            helps=(f"use a `global_size` of {sizes}",),
        )


def check_agrees(spec: Spec) -> Iterator[Diagnostic]:
    """All three numbers of the batch are given and contradict each other.

    Fails:
    ```toml
    [batch]
    global_size = 8
    micro_size = 2
    accumulation_steps = 2
    ```
    Passes:
    ```toml
    [batch]
    global_size = 4
    micro_size = 2
    accumulation_steps = 2
    ```
    """
    total, micro, steps = (
        spec.batch.global_size,
        spec.batch.micro_size,
        spec.batch.accumulation_steps,
    )
    processes = num_processes(spec.launch)
    if total and micro and steps and total != micro * steps * processes:
        yield error(
            "R812",
            f"{micro} x {steps} x {processes} = {micro * steps * processes}, not {total}",
            GLOBAL,
            label=f"{total} samples a step",
            labels=(
                Label(MICRO, f"{micro} each"),
                Label(ACCUMULATION, f"{steps} times"),
                Label(processes_path(spec.launch), _processes(processes)),
            ),
            helps=("leave one of them out, it follows from the others",),
        )


def check_by_tokens(spec: Spec) -> Iterator[Diagnostic]:
    """Micro batches are formed by tokens and by samples at once.

    With `micro_tokens` the number of samples of a micro batch, and of micro batches of a step, follows from the lengths.

    Fails:
    ```toml
    [batch]
    global_size = 8
    micro_size = 2
    micro_tokens = 4096
    ```
    Passes:
    ```toml
    [batch]
    global_size = 8
    micro_tokens = 4096
    ```
    """
    if spec.batch.micro_tokens is None:
        return
    for name in ("micro_size", "accumulation_steps"):
        if getattr(spec.batch, name) is not None:
            yield error(
                "R814",
                f"`{name}` and `micro_tokens` exclude each other",
                ("batch", name),
                label="follows from the lengths",
                labels=(Label(TOKENS, "forms micro batches by tokens"),),
                helps=("leave one of them out",),
            )


def check_longest_fits(spec: Spec) -> Iterator[Diagnostic]:
    """The longest sample does not fit into a micro batch.

    A pair takes the room of two sequences, a generated answer stands behind its prompt.

    Fails:
    ```toml
    [data]
    max_length = 64
    [batch]
    global_size = 8
    micro_tokens = 32
    ```
    Passes:
    ```toml
    [data]
    max_length = 32
    [batch]
    global_size = 8
    micro_tokens = 32
    ```
    """
    tokens, data = spec.batch.micro_tokens, spec.data
    if tokens is None or data.pad_multiple < 1:
        return
    length = longest_row(spec)
    longest = -(-length // data.pad_multiple) * data.pad_multiple
    longest *= num_together(spec)
    if tokens < longest:
        words = "a sample of" if num_together(spec) == 1 else "a pair of two times"
        if length > data.max_length:
            words = "a prompt with its answer of"
        padded = f", {longest:,} padded" if longest % length else ""
        yield error(
            "R815",
            f"{words} {length:,} tokens{padded} does not fit into a micro batch of {tokens:,}",
            TOKENS,
            labels=(Label(("data", "max_length"), "tokens of the longest sample"),),
            helps=(f"use a `micro_tokens` of {longest:,} or more, or lower `data.max_length`",),
        )


def global_size(spec: Spec) -> int | None:
    """Return the samples of a step, or None where the batch does not say."""
    batch = spec.batch
    if batch.global_size is not None:
        return batch.global_size
    if batch.micro_size is None or batch.accumulation_steps is None:
        return None
    return batch.micro_size * batch.accumulation_steps * num_processes(spec.launch)


def micro_size(spec: Spec) -> int | None:
    """Return the samples of one forward pass, the longest ones by tokens; None where the batch does not tell."""
    batch = spec.batch
    if batch.micro_tokens is not None:
        return max(1, batch.micro_tokens // max(1, longest_row(spec) * num_together(spec)))
    if batch.micro_size is not None:
        return batch.micro_size
    if not batch.global_size or not batch.accumulation_steps:
        return None
    return batch.global_size // max(1, batch.accumulation_steps * num_processes(spec.launch))


def longest_row(spec: Spec) -> int:
    """Return the most tokens of a sequence in training: those of a prompt and the answer that is generated to it."""
    answer = spec.generation.max_new_tokens if isinstance(spec.objective, Ppo | Grpo) else 0
    return spec.data.max_length + answer


def num_together(spec: Spec) -> int:
    """Return the sequences of a sample that stand in one forward pass: two of a pair."""
    return 2 if wanted_by(spec.objective) == "pairs" else 1


def _quotient(number: int, divisor: int) -> str:
    # Numbers beyond those of floats are out of range as well, and told as that.
    is_usual = abs(number) < 2**64 and divisor < 2**64
    return f"{number / divisor:.4g}" if is_usual else "too many"


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


RULES = (
    Rule("R810", "batch not determined", pure=check_given),
    Rule("R811", "batch does not divide", pure=check_divides),
    Rule("R812", "batch contradicts itself", pure=check_agrees),
    Rule("R814", "by tokens and by samples", pure=check_by_tokens),
    Rule("R815", "micro batch too small", pure=check_longest_fits),
)

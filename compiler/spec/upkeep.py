"""`[checkpoints]`, `[evaluation]` and `[benchmark]`: what is kept and measured while a run goes."""

from __future__ import annotations

from typing import Literal

from .kinds import section


@section
class Checkpoints:
    """Complete training state, to resume from."""

    every_steps: int = 100
    """Save each time this many steps are done; 0 saves only when the run is stopped or ends."""

    each_epoch: bool = False
    """Save at the end of each epoch as well."""

    keep: int = 2
    """Complete checkpoints kept; older ones are deleted. 0 keeps all."""

    keep_best: bool = False
    """Keep the best checkpoint by `evaluation.metric` as well."""

    weights_only: bool = False
    """Leave optimizer and data position out: smaller, but a run cannot be resumed exactly from it."""

    each_node: bool = False
    """Write on each node, for storage that nodes do not share."""


@section
class Evaluation:
    """Loss on the evaluation rows; also measured at the end."""

    every_steps: int | None = None
    """Evaluate each time this many steps are done. Default: at the end only."""

    each_epoch: bool = False
    """Evaluate at the end of each epoch as well."""

    at_start: bool = False
    """Evaluate before the first step as well."""

    delay_steps: int = 0
    """Steps before the first evaluation."""

    micro_size: int | None = None
    """Samples of one forward pass. Default: as in training."""

    precision: Literal["same", "fp32", "bf16", "fp16"] = "same"
    """Number format of the weights while evaluating; `same`: that of training."""

    each_source: bool | None = None
    """Report each evaluation source by itself, beside all of them together. Default: when there are several
    `data.eval_sources`."""

    accuracy: bool = False
    """Measure the share of tokens predicted right."""

    generate: bool = False
    """Generate answers, compare them with those in the data (BLEU, ROUGE), and write them to `predictions/`. Needs the
    extra `metrics`."""

    max_new_tokens: int | None = None
    """Most tokens of a generated answer. Default: `data.max_length`."""

    num_beams: int | None = None
    """Beams of that generation. Default: `generation.num_beams`."""

    metric: str | None = None
    """Number that decides which checkpoint is best, by its name without `eval_`, such as `accuracy`; `source/loss` is
    that of one source. Default: the evaluation loss."""

    higher_is_better: bool | None = None
    """Direction of that number. Default: lower for losses, higher for all else."""

    load_best: bool = False
    """End with the best weights instead of the last: those of the best checkpoint with an evaluation of its step."""

    patience: int | None = None
    """End the run after this many evaluations in a row without improvement."""


@section
class Benchmark:
    """Multiple-choice benchmarks such as MMLU."""

    task: str
    """Name of the task and its split, such as `mmlu_test`."""

    data_dir: str = "evaluation"
    """Folder with the tasks, relative to the spec."""

    batch_size: int = 4
    """Questions of one forward pass."""

    seed: int = 42
    """Seed of the examples."""

    language: Literal["en", "zh"] = "en"
    """Language of the prompt."""

    shots: int = 5
    """Examples before each question."""

    output_dir: str | None = None
    """Folder of the results, which must not exist. Default: inside the run folder."""

    download: Literal["reuse", "reuse-cache", "force"] = "reuse"
    """Whether the tasks' data are fetched again."""

"""Answers generated in an evaluation, benchmarks, and what checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import RewardModel, Sft, Spec
from .look import is_language_objective
from .rule import Rule

GENERATE: SpecPath = ("evaluation", "generate")


def check_generate(spec: Spec) -> Iterator[Diagnostic]:
    """Answers are generated where that cannot work.

    Only SFT has one right answer a row to compare with. The logits that token accuracy needs do not exist while
    text is generated, and under ZeRO-3 each token would gather the whole model again.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    generate = true
    accuracy = true
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    generate = true
    ```
    """
    if not spec.evaluation.generate:
        return
    if not isinstance(spec.objective, Sft):
        yield _generates(
            f"`{spec.objective.type}` has no answers to compare generated ones with",
            ("objective", "type"),
            "the objective",
            "leave `generate` out",
        )
    if spec.evaluation.accuracy:
        yield _generates(
            "token accuracy is not measured on generated answers",
            ("evaluation", "accuracy"),
            "asks for it",
            "keep one of the two",
        )
    if spec.deepspeed.zero_stage == 3:
        yield _generates(
            "answers cannot be generated under ZeRO stage 3",
            ("deepspeed", "zero_stage"),
            "parameters are spread here",
            "use stage 2, or compare answers after the run",
        )


def _generates(message: str, path: SpecPath, label: str, help: str) -> Diagnostic:
    return error("E107", message, GENERATE, labels=(Label(path, label),), helps=(help,))


def check_accuracy(spec: Spec) -> Iterator[Diagnostic]:
    """Token accuracy belongs to pretraining and SFT.

    Preference objectives and reward models report their own accuracy, that of pairs, without being asked.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    [data]
    eval_rows = 2
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [evaluation]
    accuracy = true
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    accuracy = true
    ```
    """
    if spec.evaluation.accuracy and not is_language_objective(spec):
        yield warning(
            "E108",
            f"`{spec.objective.type}` has no token accuracy",
            ("evaluation", "accuracy"),
            labels=(Label(("objective", "type"), "the objective"),),
            notes=("objectives on pairs report the accuracy of pairs without being asked",),
        )


def check_answer_settings(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of generated answers is given, but none are generated.

    Fails:
    ```toml
    [evaluation]
    num_beams = 4
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    generate = true
    num_beams = 4
    ```
    """
    if spec.evaluation.generate:
        return
    for name in ("max_new_tokens", "num_beams"):
        if getattr(spec.evaluation, name) is not None:
            yield warning(
                "E109",
                f"`{name}` has no effect: the evaluation generates no answers",
                ("evaluation", name),
                helps=("write `generate = true`, or leave it out",),
            )


def check_each_source(spec: Spec) -> Iterator[Diagnostic]:
    """Each evaluation source is to be reported by itself, and there are not several.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    each_source = true
    ```
    Passes:
    ```toml
    [data]
    eval_sources = [
        { format = "messages", path = "data/more.jsonl" },
        { format = "messages", path = "data/many/a.jsonl" },
    ]
    [evaluation]
    each_source = true
    ```
    """
    count = len(spec.data.eval_sources) or (len(spec.data.sources) if spec.data.eval_rows else 0)
    if spec.evaluation.each_source and count == 1:
        yield warning(
            "E110",
            "`each_source` has no effect: there is one evaluation source",
            ("evaluation", "each_source"),
        )


def check_evaluation_precision(spec: Spec) -> Iterator[Diagnostic]:
    """The evaluation asks for half precision on a CPU.

    Fails:
    ```toml
    [evaluation]
    precision = "fp16"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [evaluation]
    precision = "fp32"
    [launch]
    device = "cpu"
    ```
    """
    if spec.evaluation.precision == "fp16" and spec.launch.device == "cpu":
        yield error(
            "E111",
            "fp16 does not run on a CPU",
            ("evaluation", "precision"),
            labels=(Label(("launch", "device"), "computed here"),),
            helps=('write `precision = "same"`',),
        )


def check_benchmark(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The folder for the results of the benchmark exists.

    Results of another run would be mixed with the new ones, or overwritten.

    Fails:
    ```toml
    [benchmark]
    task = "mmlu_test"
    output_dir = "other"
    ```
    Passes:
    ```toml
    [benchmark]
    task = "mmlu_test"
    output_dir = "results/first"
    ```
    """
    named = spec.benchmark.output_dir if spec.benchmark is not None else None
    if named is not None and facts.paths.get(named) not in ("missing", None):
        yield error(
            "E112",
            f"the folder for the results, `{named}`, exists",
            ("benchmark", "output_dir"),
            helps=("name a new folder",),
        )


def check_benchmark_model(spec: Spec) -> Iterator[Diagnostic]:
    """A reward model gives scores, and the benchmark asks for words.

    Fails:
    ```toml
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [benchmark]
    task = "mmlu_test"
    ```
    Passes:
    ```toml
    [benchmark]
    task = "mmlu_test"
    ```
    """
    if spec.benchmark is not None and isinstance(spec.objective, RewardModel):
        yield error(
            "E113",
            "a reward model gives scores, and cannot answer a benchmark",
            ("benchmark", "task"),
            labels=(Label(("objective", "type"), "a reward model"),),
        )


def check_resumable(spec: Spec) -> Iterator[Diagnostic]:
    """A run is to be resumed, but its checkpoints hold weights only.

    Without the optimizer's state and the place in the data, the run goes on with another course than the one that
    was stopped.

    Fails:
    ```toml
    [run]
    on_existing = "resume"
    [checkpoints]
    weights_only = true
    ```
    Passes:
    ```toml
    [run]
    on_existing = "resume"
    [checkpoints]
    weights_only = false
    ```
    """
    if spec.checkpoints.weights_only and spec.run.on_existing == "resume":
        yield warning(
            "E114",
            "the run is to be resumed, but its checkpoints hold weights only",
            ("checkpoints", "weights_only"),
            labels=(Label(("run", "on_existing"), "resumes from them"),),
            helps=("leave `weights_only` out",),
        )


RULES = (
    Rule("E107", "answers that cannot be generated", pure=check_generate),
    Rule("E108", "no token accuracy", pure=check_accuracy),
    Rule("E109", "setting of generated answers", pure=check_answer_settings),
    Rule("E110", "one evaluation source", pure=check_each_source),
    Rule("E111", "evaluation in fp16 on a CPU", pure=check_evaluation_precision),
    Rule("E112", "results exist", factual=check_benchmark),
    Rule("E113", "benchmark of a reward model", pure=check_benchmark_model),
    Rule("E114", "resumed from weights", pure=check_resumable),
)

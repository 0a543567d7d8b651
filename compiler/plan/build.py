"""Making the plan."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ..diagnostics import SpecPath
from ..facts import Facts
from ..rules.batch import micro_size
from ..rules.data import num_held_out, total_rows
from ..rules.look import data_facts
from ..rules.memory import count_parameters, estimate
from ..rules.world import num_processes
from ..spec import CatalogSource, Grpo, Ppo, Pretraining, Spec
from ..structure import written_values
from .adapter import plan_adapter
from .deepspeed import deepspeed_config
from .honoured import written_sources
from .layout import has_packed_rows, packing, too_long
from .model import Batch, Derived, Duration, Plan
from .rollout import rollout_of

NOT_IN_NUMBERS = (
    *("workers", "batch_rows", "prepared_dir", "rebuild", "shared_storage"),
    *("loader_workers", "loader_prefetch", "loader_persistent", "pin_memory"),
)
"""Settings of `[data]` that change how fast batches are made, and none of their numbers."""
BYTES_PER_TOKEN = 4
"""Rough length of a token of English text with its JSON around it; only for the forecast."""


def make_plan(spec: Spec, facts: Facts, *, spec_name: str) -> Plan:
    """Decide everything the spec leaves open. `spec` has no errors."""
    derived: list[Derived] = []
    batch = _batch(spec, derived)
    duration = _duration(spec, facts, batch, derived)
    adapter = plan_adapter(spec, facts, derived)
    parameters = count_parameters(spec, facts)
    _defaults(spec, derived)
    return Plan(
        spec=spec,
        spec_name=spec_name,
        spec_sha256=_digest(written_values(spec)),
        facts=facts,
        batch=batch,
        duration=duration,
        adapter=adapter,
        parameters=parameters,
        memory=estimate(spec, facts, batch.micro, parameters),
        deepspeed=deepspeed_config(spec, batch),
        derived=tuple(derived),
        fingerprint=_fingerprint(spec, facts, batch, duration),
        unknown=_unknown(spec, facts, duration),
    )


def _batch(spec: Spec, derived: list[Derived]) -> Batch:
    total, micro, steps = (
        spec.batch.global_size,
        spec.batch.micro_size,
        spec.batch.accumulation_steps,
    )
    processes = num_processes(spec.launch)
    if spec.batch.micro_tokens is not None and total is not None:
        longest = micro_size(spec) or 1
        eval_size = spec.evaluation.micro_size
        return Batch(total, longest, None, processes, eval_size, spec.batch.micro_tokens)
    if micro is not None and steps is not None:
        total = micro * steps * processes
        reason = f"{micro} x {steps} x {processes}"
        _add(derived, spec.batch.global_size, ("batch", "global_size"), total, reason)
    elif micro is not None and total is not None:
        steps = total // (micro * processes)
        reason = f"{total} / ({micro} x {processes})"
        _add(derived, None, ("batch", "accumulation_steps"), steps, reason)
    elif steps is not None and total is not None:
        micro = total // (steps * processes)
        reason = f"{total} / ({steps} x {processes})"
        _add(derived, None, ("batch", "micro_size"), micro, reason)
    if total is None or micro is None or steps is None:
        raise ValueError("the batch is not determined: rule R810 was not asked")
    eval_micro = spec.evaluation.micro_size or micro
    _add(
        derived,
        spec.evaluation.micro_size,
        ("evaluation", "micro_size"),
        eval_micro,
        "batch.micro_size",
    )
    return Batch(total, micro, steps, processes, eval_micro)


def _duration(spec: Spec, facts: Facts, batch: Batch, derived: list[Derived]) -> Duration:
    training = spec.training
    read = _rows_read(spec, facts)
    num_eval = _num_eval(spec, facts, read)
    rows = None if read is None or num_eval is None else read - _held_out(spec, num_eval)
    epochs = training.epochs if training.epochs is not None else 1.0
    if training.epochs is None and training.steps is None:
        _add(derived, None, ("training", "epochs"), 1.0, "neither epochs nor steps is given")
    steps = training.steps
    if steps is None and rows is not None and not has_packed_rows(spec):
        steps, reason = _steps_of(spec, batch, epochs, rows)
        _add(derived, None, ("training", "steps"), steps, reason)
    return Duration(
        num_rows=rows,
        num_eval=num_eval,
        num_steps=steps,
        num_epochs=epochs,
        warmup_steps=_warmup(spec, steps, derived),
        warmup_ratio=training.warmup_ratio or 0.0,
        num_tokens=_tokens(facts),
    )


def _steps_of(spec: Spec, batch: Batch, epochs: float, rows: int) -> tuple[int, str]:
    """Return the steps of so many epochs, and their arithmetic; of prompts an epoch answers each once."""
    rollout = rollout_of(spec, batch.total)
    if rollout is None:
        steps = math.ceil(_exact(epochs) * rows / batch.total)
        return steps, f"{epochs:g} epochs x {rows} rows / {batch.total}, rounded up"
    number = math.ceil(_exact(epochs) * rows / rollout.prompts)
    reason = f"{epochs:g} epochs x {rows} prompts / {rollout.prompts}, rounded up, x {rollout.steps} steps on each rollout"
    return number * rollout.steps, reason


def _rows_read(spec: Spec, facts: Facts) -> int | None:
    """Return the training rows, held out ones included, where the files tell: not if rows are dropped or drawn."""
    drawn = any(source.sample is not None for source in written_sources(spec, facts)[0])
    known = too_long(spec) not in ("drop", "split") and spec.data.mix == "concat" and not drawn
    known = known and not spec.data.streaming
    return total_rows(facts) if known else None


def _warmup(spec: Spec, steps: int | None, derived: list[Derived]) -> int | None:
    given, ratio = spec.training.warmup_steps, spec.training.warmup_ratio
    if given is not None or not ratio:
        return given or 0
    if steps is None:
        return None
    warmup = math.ceil(_exact(ratio) * steps)
    _add(
        derived,
        None,
        ("training", "warmup_steps"),
        warmup,
        f"{ratio:g} x {steps} steps, rounded up",
    )
    return warmup


def _exact(value: float) -> Fraction:
    """Return the number as it is written: the float 0.07 times 100 is a little more than 7, and rounds up to 8."""
    return Fraction(repr(value))


def _num_eval(spec: Spec, facts: Facts, read: int | None) -> int | None:
    """Rows to evaluate on, from sources of their own or held out."""
    if spec.data.eval_sources:
        counts = [fact.num_rows for fact in facts.eval_data]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None
    rows = spec.data.eval_rows
    if isinstance(rows, int):
        return rows
    return None if read is None else num_held_out(rows, read)


def _held_out(spec: Spec, num_eval: int) -> int:
    return 0 if spec.data.eval_sources else num_eval


def _tokens(facts: Facts) -> int | None:
    sizes = [fact.text_bytes for fact in facts.data if fact.num_rows is not None]
    known = [size for size in sizes if size is not None]
    return sum(known) // BYTES_PER_TOKEN if len(known) == len(facts.data) else None


def _defaults(spec: Spec, derived: list[Derived]) -> None:
    if isinstance(spec.objective, Pretraining):
        _add(derived, spec.data.too_long, ("data", "too_long"), too_long(spec), "texts")
        given = None if spec.data.packing == "auto" else spec.data.packing
        _add(derived, given, ("data", "packing"), packing(spec), "texts")
    _add(derived, spec.tokenizer.path, ("tokenizer", "path"), spec.model.path, "model.path")
    merged = f"{spec.run.output_dir.rstrip('/')}/merged"
    _add(
        derived, spec.export.output_dir, ("export", "output_dir"), merged, "beside the run's files"
    )


def _add(derived: list[Derived], given: Any, path: SpecPath, value: Any, reason: str) -> None:
    if given is None:
        derived.append(Derived(path, value, reason))


def _fingerprint(spec: Spec, facts: Facts, batch: Batch, duration: Duration) -> str:
    """Digest what decides the numbers of the training: not where it is written, shown or exported."""
    data = written_values(spec)
    for section in ("run", "checkpoints", "logging", "export", "launch"):
        data.pop(section, None)
    _drop_how_answers_come(spec, data)
    for key in ("token_env", "cache_dir"):
        data["model"].pop(key, None)
    for key in NOT_IN_NUMBERS:
        data["data"].pop(key, None)
    basis = {
        "spec": data,
        "batch": [batch.total, batch.micro, batch.accumulation, batch.processes],
        "steps": duration.num_steps,
        "data": [fact.sha256 or fact.num_bytes for fact in (*facts.data, *facts.eval_data)],
        "template": facts.chat_template,
    }
    return _digest(basis)


def _drop_how_answers_come(spec: Spec, data: dict[str, Any]) -> None:
    """Leave out where servers are; how answers are drawn counts only where training draws some."""
    if not isinstance(spec.objective, Ppo | Grpo):
        data.pop("generation", None)
        return
    objective = data["objective"]
    servers = (objective.get("reward"), *objective.get("rewards", ()), objective.get("generator"))
    for server in servers:
        for key in ("url", "timeout_s", "retries", "token_env", "connections"):
            if isinstance(server, dict):
                server.pop(key, None)


def _digest(data: Any) -> str:
    """Digest plain data: the order of keys and the layout of the file do not count."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _unknown(spec: Spec, facts: Facts, duration: Duration) -> tuple[str, ...]:
    words = []
    if not facts.model.known and facts.model.state == "folder":
        words.append("the shapes of the weights: the model's size and memory are unknown")
    elif not facts.model.known:
        words.append("the model is not on this machine: its modules, size and memory are unknown")
    words += _unchecked(spec, facts)
    if spec.data.streaming:
        words.append("how many epochs the steps are: rows are read as they are needed")
    if duration.num_steps is None:
        words.append(f"the number of steps: it follows from the rows {_left(spec)}")
    return tuple(words)


def _unchecked(spec: Spec, facts: Facts) -> Iterator[str]:
    """Yield what is not known about the rows of each source."""
    for _, source, fact in data_facts(spec, facts):
        name = "" if isinstance(source, CatalogSource) else source.path
        if fact.state == "elsewhere" and name:
            yield f"the rows of `{name}`: they are not on this machine"
        elif fact.unread:
            yield f"the rows of `{name}`: {fact.unread}"
        elif fact.unchecked and fact.num_checked:
            yield f"the rows of `{name}` behind the first {fact.num_checked:,}, which are good"
        elif fact.unchecked:
            yield f"the rows of `{name}`: the first is too large to be looked at here"


def _left(spec: Spec) -> str:
    if has_packed_rows(spec):
        return "that the samples are packed into"
    return "left after preparation"

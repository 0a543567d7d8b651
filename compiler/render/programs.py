"""The programs: which calls with which arguments. The templates only lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

from ..facts.sample_kinds import wanted_by
from ..facts.versions import optional_libraries
from ..plan import Batch, Plan
from ..plan.honoured import written_sources
from ..plan.layout import has_packed_rows, packing, too_long
from ..spec import Data, FileTemplate, Grpo, Ppo, Sft, Spec
from ..version import VERSION
from .calls import Arg, Call, Places, inline, nested
from .environment import render
from .evaluation_calls import evaluation_args, upkeep_args
from .literals import python_literal
from .loftq_calls import loftq_call
from .method_calls import method_call
from .model_calls import (
    base_call,
    load_call,
    loader,
    scores,
    template_args,
    token_args,
    tokenizer_args,
)
from .objective_calls import objective_call
from .optimizer_calls import average_args, lisa_args, optimizer_call
from .preference_calls import mismatch_calls
from .reference_calls import reference_model
from .schedule_calls import schedule_text
from .sources import source_call
from .structure_calls import after_adapting, after_loading, before_loading, rounding_args


def render_programs(plan: Plan) -> dict[str, str]:
    """Return `prepare.py`, `preview.py`, `train.py`, `export.py`, and `chat.py` for a model that writes."""
    places, head = Places(plan), _head(plan)
    return {
        "prepare.py": _render_prepare(plan, places, head),
        "preview.py": render_preview(plan),
        "train.py": render("programs/train.py.jinja", **head, **_train(plan, places)),
        **_render_chat(plan, places, head),
        "export.py": render("programs/export.py.jinja", **head, **_export(plan, places)),
    }


def _render_chat(plan: Plan, places: Places, head: dict[str, object]) -> dict[str, str]:
    """Return `chat.py`; a reward model writes nothing."""
    if scores(plan.spec):
        return {}
    return {"chat.py": render("programs/chat.py.jinja", **head, **_chat(plan, places))}


def render_preview(plan: Plan) -> str:
    """Return `preview.py`, which does not ask how the data are trained on."""
    return render("programs/preview.py.jinja", **_head(plan), **_preview(plan, Places(plan)))


def _head(plan: Plan) -> dict[str, object]:
    return {
        "version": VERSION,
        "spec_name": plan.spec_name,
        "name": plan.spec.run.name,
        "uses_path": any(os.path.isabs(path) for path in _paths(plan)),
    }


def _render_prepare(plan: Plan, places: Places, head: dict[str, object]) -> str:
    if plan.spec.data.streaming:
        return render("programs/stream.py.jinja", **head, **_feed(plan, places))
    return render("programs/prepare.py.jinja", **head, **_prepare(plan, places))


def render_fetch(source: str, *, local: bool, dtype: str, revision: str | None) -> str:
    """Return `fetch.py`, which writes the model at `source` to a folder given when it runs."""
    text = f"Path({python_literal(source)})" if local else python_literal(source)
    args = [Arg("", text), Arg("dtype", python_literal(dtype))]
    if revision is not None:
        args.append(Arg("revision", python_literal(revision)))
    return render("programs/fetch.py.jinja", version=VERSION, args=args, local=local)


def render_expand(source: str, *, local: bool, num_blocks: int, revision: str | None) -> str:
    """Return `expand.py`, which writes the model at `source` with new blocks to a folder given when it runs."""
    text = f"Path({python_literal(source)})" if local else python_literal(source)
    args = [Arg("", text), Arg("num_blocks", python_literal(num_blocks))]
    if revision is not None:
        args.append(Arg("revision", python_literal(revision)))
    return render("programs/expand.py.jinja", version=VERSION, args=args, local=local)


def _paths(plan: Plan) -> Iterator[str]:
    spec = plan.spec
    yield spec.model.path
    yield from spec.adapters.paths
    optional = (spec.model.cache_dir, spec.data.prepared_dir, spec.export.output_dir)
    yield from (path for path in (spec.tokenizer.path, *optional) if path)
    for sources in written_sources(plan.spec, plan.facts):
        yield from (source.path for source in sources)
    if isinstance(spec.template, FileTemplate):
        yield spec.template.path


def _train(plan: Plan, places: Places) -> dict[str, object]:
    spec = plan.spec
    return {
        "objective": inline(objective_call(plan, places), 16),
        "fingerprint": plan.fingerprint,
        "seed": spec.training.seed,
        "packages": optional_libraries(spec, plan.facts.model, training=True),
        "device": spec.launch.device,
        "timeout_s": spec.deepspeed.timeout_s if spec.deepspeed.timeout_s != 1800 else None,
        "tokenizer": tokenizer_args(plan, places, 12),
        "base": base_call(plan, places, 16),
        "load": load_call(plan),
        "adapt": method_call(plan, places),
        "before_loading": before_loading(plan),
        "after_loading": after_loading(plan),
        "after_adapting": [*loftq_call(plan, places), *after_adapting(plan)],
        "reference": reference_model(plan, places),
        "streaming": spec.data.streaming,
        "online": isinstance(spec.objective, Ppo | Grpo),
        "pack": _pack(plan),
        "mismatch": mismatch_calls(plan),
        "fit": _fit_args(plan),
        "optimizer": optimizer_call(plan),
    }


def _pack(plan: Plan) -> Call | None:
    # The rows of a stream are packed where they are made.
    if not has_packed_rows(plan.spec) or plan.spec.data.streaming:
        return None
    name = "data.join" if packing(plan.spec) == "joined" else "data.pack"
    length = python_literal(plan.spec.data.max_length)
    return Call(name, (Arg("", "train"), Arg("max_length", length)))


def _prepare(plan: Plan, places: Places) -> dict[str, object]:
    data = plan.spec.data
    args = [Arg("seed", python_literal(_data_seed(plan)))]
    if data.eval_rows and not data.eval_sources:
        args.append(Arg("eval_rows", python_literal(data.eval_rows)))
    if data.mix != "concat":
        args.append(Arg("mix", python_literal(data.mix)))
    if data.bad_rows == "skip":
        args.append(Arg("bad_rows", python_literal(data.bad_rows)))
        args.append(Arg("max_bad_share", python_literal(float(data.max_bad_share))))
    args.append(Arg("output", "RUN_DIR"))
    if data.prepared_dir is not None:
        args.append(Arg("prepared_dir", places.text(data.prepared_dir)))
    if data.workers is not None:
        args.append(Arg("workers", python_literal(data.workers)))
    if data.batch_rows != 256:
        args.append(Arg("batch_rows", python_literal(data.batch_rows)))
    if not data.shared_storage:
        args.append(Arg("shared_storage", "False"))
    if data.rebuild:
        args.append(Arg("rebuild", "True"))
    return {"function": "data.prepare", **_data(plan, places), "args": args}


def _data(plan: Plan, places: Places) -> dict[str, object]:
    place, *rest = tokenizer_args(plan, places, 16)
    sources, eval_sources = written_sources(plan.spec, plan.facts)
    return {
        "sources": [source_call(source, places) for source in sources],
        "eval_sources": [source_call(source, places) for source in eval_sources],
        "tokenizer": [Arg("path", place.text), *rest],
        "options": _options_args(plan),
    }


def _feed(plan: Plan, places: Places) -> dict[str, object]:
    data, duration = plan.spec.data, plan.duration
    args = _stream_args(plan)
    if data.bad_rows == "skip":
        args.append(Arg("max_bad_share", python_literal(float(data.max_bad_share))))
    if data.shuffle:
        args.append(Arg("shuffle_buffer", python_literal(data.shuffle_buffer)))
    if has_packed_rows(plan.spec):
        args.append(Arg("packing", python_literal(packing(plan.spec))))
    args.append(Arg("num_steps", python_literal(duration.num_steps)))
    args.append(Arg("global_size", python_literal(plan.batch.total)))
    args.append(Arg("output", "RUN_DIR"))
    if data.workers is not None:
        args.append(Arg("workers", python_literal(data.workers)))
    if data.rebuild:
        args.append(Arg("rebuild", "True"))
    return {"function": "data.feed", **_data(plan, places), "args": args}


def _stream_args(plan: Plan) -> list[Arg]:
    """Return what says which rows of a stream come first."""
    data = plan.spec.data
    args = [Arg("seed", python_literal(_data_seed(plan)))]
    if data.eval_rows and not data.eval_sources:
        args.append(Arg("eval_rows", python_literal(data.eval_rows)))
    if data.mix != "concat":
        args.append(Arg("mix", python_literal(data.mix)))
    if data.bad_rows == "skip":
        args.append(Arg("bad_rows", python_literal(data.bad_rows)))
    return args


def _data_seed(plan: Plan) -> int:
    return plan.spec.training.seed if plan.spec.data.seed is None else plan.spec.data.seed


def _preview(plan: Plan, places: Places) -> dict[str, object]:
    shown = [
        Arg("name", python_literal(plan.spec.run.name)),
        Arg("max_length", python_literal(plan.spec.data.max_length)),
    ]
    if plan.spec.data.streaming:
        first = [*_stream_args(plan), Arg("output", "RUN_DIR")]
        call = {"function": "data.head", **_data(plan, places), "args": first}
        return {**call, "preparing": "of the first rows", "shown": shown}
    prepare = _prepare(plan, places)
    # What fits is shown as it is, whatever the next training does with it.
    unless = "" if plan.spec.data.prepared_dir else "rebuild"
    args = [arg for arg in cast("list[Arg]", prepare["args"]) if arg.name != unless]
    return {
        **prepare,
        "args": [*args, Arg("tell", "False")],
        "preparing": "as prepare.py does",
        "shown": shown,
    }


def _options_args(plan: Plan) -> list[Arg]:
    spec = plan.spec
    kind = wanted_by(spec.objective)
    args = []
    if kind != "answers":
        args.append(Arg("kind", python_literal(kind)))
    if isinstance(spec.objective, Sft):
        args.append(Arg("loss_on", python_literal(spec.objective.loss_on)))
        if not spec.objective.loss_on_thoughts:
            args.append(Arg("unlearned_thoughts", _thought_marks(plan), "marks around a thought"))
    args.append(Arg("max_length", python_literal(spec.data.max_length)))
    args.append(Arg("too_long", python_literal(too_long(spec))))
    if spec.data.reserved_answer != 1:
        args.append(Arg("reserved_answer", python_literal(spec.data.reserved_answer)))
    return args


def _thought_marks(plan: Plan) -> str:
    from ..chat import thought_marks

    return f"({', '.join(map(python_literal, thought_marks(plan.spec.template)))})"


def _fit_args(plan: Plan) -> dict[str, list[Arg]]:
    spec, batch = plan.spec, plan.batch
    reasons = {".".join(map(str, item.path)): item.reason for item in plan.derived}
    after: list[Arg] = [
        *_warmup_args(plan, reasons),
        Arg("max_grad_norm", python_literal(float(spec.training.max_grad_norm))),
        *_order_args(spec.data),
        *_layout_args(spec),
    ]
    after += _loading_args(spec.data)
    after += evaluation_args(plan)
    after += [
        *upkeep_args(spec),
        *_cache_args(spec),
        Arg("plot", python_literal(spec.logging.plot)),
        *([Arg("list_parameters", "True")] if spec.logging.parameters else []),
        Arg("fingerprint", "FINGERPRINT"),
        Arg("name", python_literal(spec.run.name)),
    ]
    return {
        "before": [
            *_length_args(plan, reasons),
            *_batch_args(batch, reasons),
        ],
        "after": [
            *lisa_args(plan),
            *average_args(plan),
            Arg("schedule", schedule_text(spec.training)),
            *after,
        ],
    }


def _cache_args(spec: Spec) -> Iterator[Arg]:
    # A CPU has no cache of that kind.
    if spec.training.empty_cache_steps is not None and spec.launch.device == "gpu":
        yield Arg("empty_cache_every", python_literal(spec.training.empty_cache_steps))


def _batch_args(batch: Batch, reasons: dict[str, str]) -> Iterator[Arg]:
    if batch.tokens is not None:
        yield Arg("global_batch_size", python_literal(batch.total))
        yield Arg("micro_tokens", python_literal(batch.tokens), "as many samples as fit")
    else:
        names = (("micro_batch_size", "micro_size"), ("accumulation_steps", "accumulation_steps"))
        for (name, key), value in zip(names, (batch.micro, batch.accumulation), strict=True):
            yield Arg(name, python_literal(value), reasons.get(f"batch.{key}", ""))
    if batch.eval_micro is not None:
        yield Arg("eval_micro_batch_size", python_literal(batch.eval_micro))


def _order_args(data: Data) -> Iterator[Arg]:
    # The order of a stream is made where it is read.
    if not data.streaming:
        yield Arg("shuffle", python_literal(data.shuffle))


def _loading_args(data: Data) -> Iterator[Arg]:
    if data.seed is not None and not data.streaming:
        yield Arg("data_seed", python_literal(data.seed))
    if data.loader_workers:
        yield Arg("loader_workers", python_literal(data.loader_workers))
    if data.loader_prefetch is not None:
        yield Arg("loader_prefetch", python_literal(data.loader_prefetch))
    if data.loader_persistent:
        yield Arg("loader_persistent", "True")
    if data.pin_memory is not None:
        yield Arg("pin_memory", python_literal(data.pin_memory))


def _layout_args(spec: Spec) -> Iterator[Arg]:
    data = spec.data
    if data.group_by_length:
        yield Arg("group_by_length", "True")
    if packing(spec) == "padding-free":
        yield Arg("padding_free", "True", "the samples of a micro batch in one row, kept apart")
    if data.pad_multiple != 1:
        yield Arg("pad_multiple", python_literal(data.pad_multiple))


def _length_args(plan: Plan, reasons: dict[str, str]) -> list[Arg]:
    duration = plan.duration
    args = []
    if duration.num_rows is not None:
        args.append(Arg("num_rows", python_literal(duration.num_rows)))
    if duration.num_steps is not None:
        reason = reasons.get("training.steps", "")
        args.append(Arg("num_steps", python_literal(duration.num_steps), reason))
    else:
        args.append(Arg("num_epochs", python_literal(float(duration.num_epochs))))
    return args


def _warmup_args(plan: Plan, reasons: dict[str, str]) -> list[Arg]:
    duration = plan.duration
    if duration.warmup_steps is None:
        return [Arg("warmup_ratio", python_literal(float(duration.warmup_ratio)))]
    if duration.warmup_steps == 0:
        return []
    reason = reasons.get("training.warmup_steps", "")
    return [Arg("warmup_steps", python_literal(duration.warmup_steps), reason)]


def _merged(plan: Plan, places: Places) -> str:
    given = plan.spec.export.output_dir
    return 'RUN_DIR / "merged"' if given is None else places.text(given)


def _chat(plan: Plan, places: Places) -> dict[str, object]:
    spec, generation = plan.spec, plan.spec.generation
    args = [
        Arg("base", nested(base_call(plan, places, 12), 12)),
        Arg("method", python_literal(spec.method.type)),
        Arg("trained", 'RUN_DIR / "final"'),
        Arg("merged", _merged(plan, places)),
        Arg("checkpoints", 'RUN_DIR / "checkpoints"'),
        Arg("device", python_literal(spec.launch.device)),
        Arg("max_new_tokens", python_literal(generation.max_new_tokens)),
        Arg("temperature", python_literal(float(generation.temperature))),
        Arg("top_p", python_literal(float(generation.top_p))),
        Arg("repetition_penalty", python_literal(float(generation.repetition_penalty))),
    ]
    if generation.top_k is not None:
        args.append(Arg("top_k", python_literal(generation.top_k)))
    for name in ("sample", "skip_special_tokens", "kv_cache"):
        if not getattr(generation, name):
            args.append(Arg(name, "False"))
    if generation.system is not None:
        args.append(Arg("system", python_literal(generation.system)))
    if spec.tokenizer.path is not None:
        args.append(Arg("tokenizer_path", tokenizer_args(plan, places, 8)[0].text))
    args += template_args(plan, places)
    args += token_args(plan, 8)
    return {"args": [*args, *_packages_args(plan)]}


def _export(plan: Plan, places: Places) -> dict[str, object]:
    spec = plan.spec
    rounding = list(rounding_args(plan))
    # What was trained for a quantized model is written as one; `final/` is the plain one already.
    function = "export.export_quantized" if rounding else "export.export"
    args = [
        Arg("base", nested(base_call(plan, places, 12), 12)),
        *([] if rounding else [Arg("method", python_literal(spec.method.type))]),
        Arg("trained", 'RUN_DIR / "final"'),
        Arg("output", _merged(plan, places)),
        *rounding,
        Arg("dtype", python_literal(spec.export.dtype)),
        Arg("max_shard_gib", python_literal(float(spec.export.max_shard_gib))),
        *([Arg("load", loader(spec))] if scores(spec) else []),
        *_packages_args(plan),
    ]
    return {"function": function, "args": args}


def _packages_args(plan: Plan) -> Iterator[Arg]:
    found = optional_libraries(plan.spec, plan.facts.model, training=False)
    if found:
        yield Arg("packages", python_literal(found))

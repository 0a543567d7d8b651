"""`fit`: train, evaluate, save, report."""

from __future__ import annotations

import importlib.metadata
import math
import resource
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from ..data.layouts import Collator
from ..data.samples import Samples
from ..errors import ExitCode, UserError
from ..rank import write_result
from ..session import Session
from ..storage import (
    disk_errors,
    gib,
    replace_directory,
    staging_directory,
    verify_directory,
    write_json,
)
from .metrics import read

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


def fit(
    session: Session,
    *,
    model: Any,
    tokenizer: Any,
    objective: Any,
    train: Samples,
    evaluation: Samples | None = None,
    num_rows: int | None = None,
    num_steps: int | None = None,
    num_epochs: float | None = None,
    micro_batch_size: int,
    accumulation_steps: int,
    eval_micro_batch_size: int,
    optimizer: AdamW,
    schedule: Schedule,
    warmup_steps: int = 0,
    warmup_ratio: float = 0.0,
    max_grad_norm: float,
    shuffle: bool = True,
    group_by_length: bool = False,
    padding_free: bool = False,
    pad_multiple: int = 1,
    eval_every: int | None = None,
    save_every: int,
    keep_checkpoints: int,
    log_every: int,
    plot: bool = True,
    fingerprint: str,
    name: str,
) -> None:
    """Train `model` on `train`, save the result in `final/`, and write `report.json`.

    A session that was started to resume goes on from its checkpoint, bit for bit. Asked to stop, the run
    finishes its step on all processes, saves a checkpoint and ends with exit code 75.

    `num_rows` is the number of training rows the plan counted; `num_steps` follows from it, or
    `num_epochs` where the plan could not count. Of packed samples (`data.pack`) a step takes so many rows.
    With `padding_free`, the samples of a micro batch stand end to end in one row, apart from each other.

    Raises:
        UserError: the data is not what was planned for, the checkpoint belongs to another run, the loss is
            not finite, or the disk is full.
    """
    from .trainer import Trainer

    if num_rows is not None and train.num_samples != num_rows:
        raise UserError(
            f"there are {train.num_samples:,} training rows, the plan was made for {num_rows:,}: the data has changed",
            help="run `tunec compile` again",
            code=ExitCode.CONFLICT,
        )
    held_out = evaluation if evaluation is not None else Samples([])
    global_size = micro_batch_size * accumulation_steps * session.num_ranks
    steps = num_steps or math.ceil(_exact(num_epochs or 1.0) * len(train) / global_size)
    loss_kind = objective.attach(model)
    trainer = Trainer(
        session=session,
        objective=objective,
        train=train,
        evaluation=held_out,
        num_steps=steps,
        shuffle=shuffle,
        group_by_length=group_by_length,
        collator=Collator(int(tokenizer.pad_token_id), pad_multiple, padding_free),
        eval_every=eval_every,
        eval_micro_size=eval_micro_batch_size,
        save_every=save_every,
        keep_checkpoints=keep_checkpoints,
        log_every=log_every,
        fingerprint=fingerprint,
        model=model,
        args=_arguments(
            session,
            num_steps=steps,
            micro_batch_size=micro_batch_size,
            accumulation_steps=accumulation_steps,
            optimizer=optimizer,
            schedule=schedule,
            warmup_steps=warmup_steps or math.ceil(_exact(warmup_ratio) * steps),
            max_grad_norm=max_grad_norm,
        ),
        tokenizer=tokenizer,
    )
    _announce(session, train, held_out, model, steps, loss_kind)
    resume = _checked_checkpoint(session, fingerprint)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if trainer.stopped:
        _stop(session, trainer.state.global_step, steps)
        return
    _finish(session, trainer, steps, loss_kind, name=name, plot=plot)


def _exact(value: float) -> Fraction:
    """Return the number as it is written: the float 0.07 times 100 is a little more than 7, and rounds up to 8."""
    return Fraction(repr(value))


def _arguments(
    session: Session,
    *,
    num_steps: int,
    micro_batch_size: int,
    accumulation_steps: int,
    optimizer: AdamW,
    schedule: Schedule,
    warmup_steps: int,
    max_grad_norm: float,
) -> Any:
    from transformers import TrainingArguments

    config = session.deepspeed
    return TrainingArguments(
        output_dir=".",
        deepspeed=config,
        use_cpu=session.device == "cpu",
        max_steps=num_steps,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulation_steps,
        learning_rate=optimizer.learning_rate,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.epsilon,
        weight_decay=optimizer.weight_decay,
        lr_scheduler_type="constant_with_warmup" if schedule == "constant" else schedule,
        warmup_steps=warmup_steps,
        max_grad_norm=max_grad_norm,
        bf16=bool(config.get("bf16", {}).get("enabled")),
        fp16=bool(config.get("fp16", {}).get("enabled")),
        seed=session.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
    )


def _announce(
    session: Session, train: Samples, evaluation: Samples, model: Any, steps: int, loss_kind: str
) -> None:
    session.say(f"training data: {train.summary()}")
    if len(evaluation):
        session.say(f"evaluation data: {evaluation.summary()}")
    for text in train.warnings:
        session.say(f"warning: {text}")
    trainable, total = _count(model)
    session.say(
        f"model: {total:,} parameters, {trainable:,} trainable ({100 * trainable / total:.2f} %); "
        f"attention {model.config._attn_implementation}; loss by {loss_kind}; {steps:,} steps"
    )


def _count(model: Any) -> tuple[int, int]:
    """Return the trainable and all parameters, whole sizes also under ZeRO-3."""
    sizes = [(p.requires_grad, getattr(p, "ds_numel", p.numel())) for p in model.parameters()]
    return sum(size for trained, size in sizes if trained), sum(size for _, size in sizes)


def _checked_checkpoint(session: Session, fingerprint: str) -> Path | None:
    path = session.resume_from
    if path is None:
        return None
    meta = verify_directory(path, deep=False).meta
    if meta["fingerprint"] != fingerprint:
        raise UserError(
            f"{path} was written by another spec",
            help="compile the spec it was written by, or start again with --overwrite",
            code=ExitCode.CONFLICT,
        )
    if meta["num_ranks"] != session.num_ranks:
        raise UserError(
            f"{path} was written by {meta['num_ranks']} processes, this run has {session.num_ranks}",
            help="resume with the same number of processes",
            code=ExitCode.CONFLICT,
        )
    session.say(f"resuming from step {meta['step']} of {meta['total_steps']}")
    return path


def _stop(session: Session, step: int, steps: int) -> None:
    if session.is_main:
        message = f"stopped at step {step} of {steps} with a complete checkpoint"
        write_result(
            session.run_dir,
            "stopped",
            exit_code=ExitCode.RESUMABLE,
            message=message,
            help="resume with --resume",
            step=step,
        )


def _finish(
    session: Session, trainer: Any, steps: int, loss_kind: str, *, name: str, plot: bool
) -> None:
    with session.clock.phase("save"):
        _save_final(session, trainer)
    if not session.is_main:
        return
    rows = read(Path("metrics.jsonl"))
    if plot:
        with session.clock.phase("plot"):
            _draw(session, rows, name)
    session.clock.enter("end")
    report = _report(session, trainer, rows, steps, loss_kind)
    write_json(Path("report.json"), report)
    write_result(session.run_dir, "done", exit_code=ExitCode.OK, step=steps)
    session.say(
        f"done: {steps} steps, loss {report['train_loss']:.4f}, "
        + (
            f"evaluation loss {report['eval_loss']:.4f}, "
            if report["eval_loss"] is not None
            else ""
        )
        + f"{report['tokens_per_s']:,.0f} tokens/s, peak memory {gib(report['peak_memory_bytes'])}"
    )


def _draw(session: Session, rows: list[dict[str, Any]], name: str) -> None:
    """Draw the curve; the weights are saved, so a picture that fails must not fail the run."""
    try:
        from .plot import draw_losses

        draw_losses(rows, Path("plots") / "loss.png", title=name)
    except Exception as fault:
        session.say(f"warning: no plot was drawn: {fault}")


def _save_final(session: Session, trainer: Any) -> None:
    """Write the weights aside and put them in place by renames: `final/` is always whole."""
    final = Path("final")
    staging = final.parent / f".{final.name}.tmp"
    with disk_errors("the final weights", Path()):
        if session.is_main:
            staging_directory(final)
        trainer._barrier()
        trainer.save_weights(staging)
        trainer._barrier()
        if session.is_main:
            replace_directory(staging, final)


def _report(
    session: Session, trainer: Any, rows: list[dict[str, Any]], steps: int, loss_kind: str
) -> dict[str, Any]:
    losses = [row["loss"] for row in rows if "loss" in row]
    evals = [row["eval_loss"] for row in rows if "eval_loss" in row]
    trainable, total = _count(trainer.model)
    seconds = {phase: round(value, 2) for phase, value in session.clock.seconds.items()}
    return {
        "status": "done",
        "steps": steps,
        "train_loss": losses[-1] if losses else None,
        "eval_loss": evals[-1] if evals else None,
        "tokens": trainer.tokens_seen,
        "tokens_per_s": round(trainer.rate_tokens / max(seconds.get("train", 0.0), 1e-9), 1),
        "trainable_parameters": trainable,
        "parameters": total,
        "peak_memory_bytes": _peak_memory(session),
        "seconds": seconds,
        "processes": session.num_ranks,
        "loss": loss_kind,
        "attention": trainer.model.config._attn_implementation,
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("torch", "transformers", "peft", "deepspeed", "accelerate")
        },
    }


def _peak_memory(session: Session) -> int:
    """Bytes: of rank 0's GPU, or of its process on a CPU."""
    if session.device == "gpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

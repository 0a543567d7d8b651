"""`fit`: train, evaluate, save, report."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..data.batches import GlobalBatches, MicroSize, lengths_of
from ..data.layouts import Collator
from ..data.loader import Loading
from ..data.samples import Samples
from ..data.stream.batches import StreamBatches
from ..data.stream.reader import StreamedSamples
from ..errors import ExitCode, UserError
from ..models.fake_quantization import told
from ..models.fp8 import fp8_layers
from ..models.parameters import list_of, table_of
from ..models.quantization import num_parameters
from ..rank import write_result
from ..session import Session
from ..storage import (
    verify_directory,
)
from .best import Best
from .ending import finish
from .lisa import Lisa
from .occasions import Occasions
from .optimizers import Optimizer
from .predictions import Generate, Generation
from .schedules import Name, Schedule


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
    micro_batch_size: int | None = None,
    accumulation_steps: int = 1,
    global_batch_size: int | None = None,
    micro_tokens: int | None = None,
    eval_micro_batch_size: int | None = None,
    optimizer: Optimizer,
    lisa: Lisa | None = None,
    ema_decay: float | None = None,
    schedule: Schedule | Name,
    warmup_steps: int = 0,
    warmup_ratio: float = 0.0,
    max_grad_norm: float,
    shuffle: bool = True,
    group_by_length: bool = False,
    padding_free: bool = False,
    pad_multiple: int = 1,
    data_seed: int | None = None,
    loader_workers: int = 0,
    loader_prefetch: int | None = None,
    loader_persistent: bool = False,
    pin_memory: bool | None = None,
    eval_every: int | None = None,
    eval_each_epoch: bool = False,
    eval_at_start: bool = False,
    eval_delay: int = 0,
    each_source: bool = False,
    generate: Generate | None = None,
    best: Best | None = None,
    save_every: int,
    save_each_epoch: bool = False,
    keep_checkpoints: int,
    log_every: int,
    log_first_step: bool = False,
    log_each_epoch: bool = False,
    empty_cache_every: int | None = None,
    plot: bool = True,
    list_parameters: bool = False,
    fingerprint: str,
    name: str,
) -> None:
    """Train `model` on `train`, save the result in `final/`, and write `report.json`.

    A session that was started to resume goes on from its checkpoint, bit for bit. Asked to stop, the run
    finishes its step on all processes, saves a checkpoint and ends with exit code 75.

    `num_rows` is the number of training rows the plan counted; `num_steps` follows from it, or
    `num_epochs` where the plan could not count. Of packed samples (`data.pack`) a step takes so many rows.
    With `padding_free`, the samples of a micro batch stand end to end in one row, apart from each other.

    A step is `micro_batch_size` samples in each of `accumulation_steps` micro batches of each process; or
    `global_batch_size` samples in as many micro batches as it takes with `micro_tokens` tokens in each, padding
    included. Evaluation takes micro batches of the same kind, or of `eval_micro_batch_size` samples. The order of
    the data follows from `data_seed`, or from the session's seed. With `each_source`, evaluation samples of several
    sources are also measured by themselves. Each `empty_cache_every` steps unused GPU memory is given back.

    Evaluations and checkpoints come each so many steps, and where it is asked for after each epoch; the first
    evaluation not before `eval_delay` steps, but that of `eval_at_start` before the first step. `best` says which
    evaluation is the best, and what follows from it. With `generate`, evaluations also generate answers.

    With `ema_decay`, what is evaluated and saved is a running average of the weights.

    Raises:
        UserError: the data is not what was planned for, the checkpoint belongs to another run, the loss is
            not finite, or the disk is full.
    """
    # Which pairs are the same tokens in both answers, no plan can know.
    counts = (train.num_samples, train.num_samples + train.num_dropped)
    if num_rows is not None and num_rows not in counts:
        raise UserError(
            f"there are {train.num_samples:,} training rows, the plan was made for {num_rows:,}: the data has changed",
            help="run `tunec compile` again",
            code=ExitCode.CONFLICT,
        )
    held_out = evaluation if evaluation is not None else Samples([])
    if not each_source:
        held_out = replace(held_out, sets={})
    together = 1 if micro_tokens is None else train.num_together
    micro_size = MicroSize(
        micro_batch_size or 2, micro_tokens, pad_multiple, padding_free, together
    )
    by_samples = replace(micro_size, samples=eval_micro_batch_size or 1, tokens=None)
    fixed = (micro_batch_size or 1) * accumulation_steps * session.num_ranks
    global_size = global_batch_size or fixed
    steps = num_steps or _num_steps(objective, num_epochs or 1.0, len(train), global_size)
    loss_kind = objective.attach(model)
    train, held_out = objective.with_samples(train), objective.with_samples(held_out)
    trainer = _trainer_class(objective)(
        session=session,
        objective=objective,
        train=train,
        evaluation=held_out,
        num_steps=steps,
        batches=StreamBatches(train, global_size=global_size)
        if isinstance(train, StreamedSamples)
        else GlobalBatches(
            lengths_of(train),
            global_size=global_size,
            seed=session.seed if data_seed is None else data_seed,
            shuffle=shuffle,
            group_by_length=group_by_length,
        ),
        collator=Collator(int(tokenizer.pad_token_id), pad_multiple, padding_free),
        micro_size=micro_size,
        loading=Loading(
            workers=loader_workers,
            prefetch=loader_prefetch,
            persistent=loader_persistent,
            pin_memory=pin_memory,
        ),
        occasions=Occasions(
            eval_every=eval_every,
            eval_each_epoch=eval_each_epoch,
            eval_at_start=eval_at_start,
            eval_delay=eval_delay,
            save_every=save_every,
            save_each_epoch=save_each_epoch,
            log_every=log_every,
            log_first_step=log_first_step,
            log_each_epoch=log_each_epoch,
            best=best,
        ),
        eval_micro_size=micro_size if eval_micro_batch_size is None else by_samples,
        generation=None
        if generate is None
        else Generation(generate, session=session, tokenizer=tokenizer),
        keep_checkpoints=keep_checkpoints,
        fingerprint=fingerprint,
        optimizer=optimizer,
        lisa=lisa,
        ema_decay=ema_decay,
        schedule=schedule,
        warmup_steps=warmup_steps or math.ceil(_exact(warmup_ratio) * steps),
        model=model,
        args=_arguments(
            session,
            num_steps=steps,
            # By tokens, transformers and DeepSpeed see a whole step as one batch: see `Trainer.training_step`.
            micro_batch_size=micro_batch_size or 1,
            accumulation_steps=accumulation_steps,
            learning_rate=optimizer.learning_rate,
            max_grad_norm=max_grad_norm,
            empty_cache_every=empty_cache_every,
        ),
        tokenizer=tokenizer,
    )
    _announce(session, train, held_out, model, steps, loss_kind, ema_decay)
    for line in list_of(model) if list_parameters else ():
        session.say(line)
    resume = _checked_checkpoint(session, fingerprint)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if trainer.stopped:
        _stop(session, trainer.state.global_step, steps)
        return
    finish(session, trainer, loss_kind, name=name, plot=plot)


def _trainer_class(objective: Any) -> Any:
    """Return what trains: on samples, or on answers that are generated on the way."""
    from ..objectives.online import OnlineObjective
    from . import online, trainer

    return online.OnlineTrainer if isinstance(objective, OnlineObjective) else trainer.Trainer


def _num_steps(objective: Any, epochs: float, num_rows: int, global_size: int) -> int:
    """Return the steps of so many epochs; of prompts an epoch is as many rollouts as answer each of them."""
    from ..objectives.online import OnlineObjective

    if not isinstance(objective, OnlineObjective):
        return math.ceil(_exact(epochs) * num_rows / global_size)
    prompts = objective.prompts_per_rollout(global_size)
    return math.ceil(_exact(epochs) * num_rows / prompts) * objective.steps_per_rollout


def _exact(value: float) -> Fraction:
    """Return the number as it is written: the float 0.07 times 100 is a little more than 7, and rounds up to 8."""
    return Fraction(repr(value))


def _arguments(
    session: Session,
    *,
    num_steps: int,
    micro_batch_size: int,
    accumulation_steps: int,
    learning_rate: float,
    max_grad_norm: float,
    empty_cache_every: int | None,
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
        learning_rate=learning_rate,
        max_grad_norm=max_grad_norm,
        torch_empty_cache_steps=empty_cache_every,
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
    session: Session,
    train: Samples,
    evaluation: Samples,
    model: Any,
    steps: int,
    loss_kind: str,
    ema_decay: float | None,
) -> None:
    session.say(f"training data: {train.summary()}")
    if len(evaluation):
        session.say(f"evaluation data: {evaluation.summary()}")
    for text in train.warnings:
        session.say(f"warning: {text}")
    if ema_decay is not None:
        session.say(
            f"average of the weights, decay {ema_decay:g}: evaluation, adapters in checkpoints and final/ are made of it"
        )
    trainable, total = num_parameters(model)
    session.say(
        f"model: {total:,} parameters, {trainable:,} trainable ({100 * trainable / total:.2f} %); "
        f"attention {model.config._attn_implementation}; loss by {loss_kind}; {steps:,} steps"
    )
    for line in table_of(model):
        session.say(line)
    if rounding := told(model):
        session.say(rounding)
    if count := fp8_layers(model):
        session.say(f"fp8: {count} layers multiply in 8 bit, cast from bf16 at each use")


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

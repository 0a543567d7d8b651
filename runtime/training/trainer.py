"""The layer over `transformers.Trainer`: our data order, our normalisation, our checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.batches import GlobalBatches, MicroBatches, MicroSize, lengths_of
from ..data.layouts import Batches, Collator, eval_batches, num_tokens
from ..data.loader import Loading
from ..data.packing import PackedSamples
from ..data.samples import Samples
from ..data.stream.reader import StreamedSamples
from ..errors import ExitCode, UserError
from ..models.adapters import is_adapted
from ..models.adapters.saving import belongs_to_adapter, prompt_parameters, write_adapter
from ..models.quantization import num_parameters
from ..models.saved import save_tokenizer
from ..models.sharded import gathered, whole_state
from ..objectives.base import Objective
from ..objectives.tally import means
from ..session import Session
from ..storage import commit_directory, disk_errors, prune, staging_directory
from .average import WeightAverage
from .block_sampler import BlockSampler
from .engine import allow_steps, averaged, tell_norms, without_first_step
from .evaluation import Evaluation, mean_losses
from .isolation import check_isolation
from .lisa import Lisa
from .metrics import EVAL_LOSS, MetricsFile, told_losses
from .optimizers import Optimizer
from .optimizers.describe import description, in_words
from .progress import Progress
from .rank_budget import RankBudget
from .schedules import Name, Plateau, RateScheduler, Schedule


class Trainer(transformers.Trainer):  # type: ignore[misc]
    """`transformers.Trainer` with an exact order, an exact mean and checkpoints that are complete or absent."""

    optimizer: Any
    lr_scheduler: Any
    basic_optimizer: Any
    control: Any

    def __init__(
        self,
        *,
        session: Session,
        objective: Objective,
        train: Samples,
        evaluation: Samples,
        num_steps: int,
        batches: GlobalBatches,
        collator: Collator,
        micro_size: MicroSize,
        loading: Loading,
        eval_every: int | None,
        eval_micro_size: MicroSize,
        save_every: int,
        keep_checkpoints: int,
        log_every: int,
        fingerprint: str,
        optimizer: Optimizer,
        lisa: Lisa | None,
        ema_decay: float | None,
        schedule: Schedule | Name,
        warmup_steps: int,
        model: Any,
        args: transformers.TrainingArguments,
        tokenizer: Any,
    ) -> None:
        """Wire the pieces; `train()` of the base class runs them."""
        self.session = session
        self.objective = objective
        self.samples = train
        self.evaluation = evaluation
        self.num_steps = num_steps
        self.eval_every = eval_every
        self.save_every = save_every
        self.keep_checkpoints = keep_checkpoints
        self.fingerprint = fingerprint
        self.optimizer_settings = optimizer
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.collator = collator
        self.batches = batches
        self.micro_size = micro_size
        self.loading = loading
        self.evaluations = [
            Evaluation(name, Batches(samples, collator), self._eval_order(samples, eval_micro_size))
            for name, samples in (evaluation.sets or {"": evaluation}).items()
            if len(samples)
        ]
        self.stopped = False
        self.step_tokens = 0
        self.tokens_seen = 0
        self.rate_tokens = 0
        self.started = time.monotonic()
        super().__init__(
            model=model,
            args=args,
            train_dataset=Batches(train, collator),
            processing_class=tokenizer,
            data_collator=collator,
            callbacks=[_Conductor(self, log_every)],
        )
        if lisa is not None:
            self.add_callback(BlockSampler(self.model, lisa, session.seed))
        # What is trained in the end: some optimizers switch parameters on and off.
        self.num_parameters = num_parameters(self.model)
        self.average = WeightAverage(self.model, ema_decay)
        self.rank_budget = RankBudget(model, num_steps=num_steps, num_ranks=session.num_ranks)
        self.loss_is_scaled_for_ga = True
        self.remove_callback(transformers.trainer_callback.PrinterCallback)
        self.remove_callback(transformers.trainer_callback.ProgressCallback)

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro batches of the whole training, in the order `GlobalBatches` fixes."""
        order = MicroBatches(
            self.batches,
            num_steps=self.num_steps,
            size=self.micro_size,
            accumulation_steps=self.args.gradient_accumulation_steps,
            rank=self.session.rank,
            num_ranks=self.session.num_ranks,
        )
        return self.loading.training(
            self.train_dataset, order, on_gpu=self.on_gpu, seed=self.session.seed
        )

    @property
    def on_gpu(self) -> bool:
        """Tell whether batches go to a GPU."""
        return self.session.device == "gpu"

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Return the number of training samples."""
        return len(self.samples)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return nothing: counting walks all parameters in each micro batch, and nobody reads it."""
        return 0

    # Loss

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the summed loss of some micro batches after their backward passes.

        Where their number varies they are all of a step, and the gradients are complete only after the last.
        """
        state = self.accelerator.gradient_state
        completes = state.sync_gradients
        losses = []
        for number, batch in enumerate(inputs, start=1):
            state._set_sync_gradients(completes and number == len(inputs))
            losses.append(super().training_step(model, batch, num_items_in_batch))
        return torch.stack(losses).sum()

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """Return the items of the whole step, over all its micro batches and processes (at least 1)."""
        # In fp64 token counts are exact, and weights are not rounded.
        counts = torch.zeros(2, dtype=torch.float64, device=device)
        self.rank_budget.micro_batches = sum(map(len, batch_samples))
        step = [batch for batches in batch_samples for batch in batches]
        if self.objective.looks_ahead:
            ahead = (self._prepare_inputs(batch) for batch in step)
            with torch.no_grad():
                self.objective.look_ahead(self.model_wrapped, ahead, self._reduce)
        for batch in step:
            counts[0] += self.objective.num_items(batch).to(device)
            counts[1] += num_tokens(batch).to(device)
        self._reduce(counts)
        self.step_tokens = int(counts[1])
        return torch.where(counts[0] > 0, counts[0], 1.0)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the micro batch's share of the step's mean loss.

        DeepSpeed averages gradients over the processes; the factor `num_ranks` turns that into a sum.
        """
        if num_items_in_batch is None:
            raise RuntimeError("the trainer counted no items for this step")
        loss = self.objective.loss_sum(model, inputs)
        share = self.session.num_ranks / float(num_items_in_batch)
        return loss * share + self.rank_budget.penalty()

    def router_loss(self) -> float | None:
        """Return the mean loss for the routers of the step that ends, not weighed; None for a model without."""
        router = getattr(self.objective, "router", None)
        sums = router.take() if router is not None else None
        if sums is None:
            return None
        self._reduce(sums)
        return float(sums[0] / sums[1].clamp(min=1))

    def measured(self) -> dict[str, list[float]]:
        """Return sum and count of what was measured beside the loss in the step that ends, over all processes."""
        tally = self.objective.tally
        if not tally.names:
            return {}
        totals = tally.take(self.args.device)
        self._reduce(totals)
        return dict(zip(tally.names, totals.tolist(), strict=True))

    def _reduce(self, values: Tensor, operation: Any = None) -> None:
        if self.session.num_ranks > 1:
            torch.distributed.all_reduce(values, op=operation or torch.distributed.ReduceOp.SUM)

    # Optimizer

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the optimizer over the trainable parameters."""
        if self.optimizer is None:
            self.optimizer = self.optimizer_settings.create(
                self.model,
                decayed=set(self.get_decay_parameter_names(self.model)),
                deepspeed=self.session.deepspeed,
            )
            self.basic_optimizer = self.optimizer
            self.optimizer_told = description(self.optimizer)
            self.session.say(f"optimizer: {in_words(self.optimizer_told)}")
            without_first_step(self.optimizer)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return what sets the learning rate of each step."""
        if self.lr_scheduler is None:
            # The engine has just been made.
            allow_steps(self.basic_optimizer)
            tell_norms(self.accelerator.deepspeed_engine_wrapped.engine)
            self.lr_scheduler = RateScheduler(
                self.optimizer,
                self.schedule,
                warmup_steps=self.warmup_steps,
                num_steps=self.num_steps,
            )
        return self.lr_scheduler

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the mean loss over all evaluation samples, every token counted once, and that of each set."""
        with self.session.clock.phase("evaluate"):
            metrics = self._eval_losses()
        self.lr_scheduler.observe(metrics[EVAL_LOSS])
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    @torch.no_grad()
    def _eval_losses(self) -> dict[str, float]:
        model = self.model_wrapped
        model.eval()
        with averaged(self.basic_optimizer), self.average.in_place():
            totals = torch.stack([self._totals(model, each) for each in self.evaluations])
        self._reduce(totals)
        model.train()
        names = [each.name for each in self.evaluations]
        return mean_losses(names, self.objective.tally.names, totals)

    def _totals(self, model: Any, evaluation: Evaluation) -> Tensor:
        """Return sum and count of the loss, and of each measure, over this process's share, fp64 `[1 + measures, 2]`."""
        batches = evaluation.batches(self.loading, on_gpu=self.on_gpu)
        if self.objective.looks_ahead:
            ahead = (self._prepare_inputs(batch) for batch in batches)
            self.objective.look_ahead(model, ahead, self._reduce)
        loss = torch.zeros((1, 2), dtype=torch.float64, device=self.args.device)
        for batch in batches:
            inputs = self._prepare_inputs(batch)
            loss[0, 0] += self.objective.loss_sum(model, inputs).double()
            loss[0, 1] += self.objective.num_items(inputs)
        return torch.cat([loss, self.objective.tally.take(self.args.device)])

    def _eval_order(self, samples: Samples, size: MicroSize) -> list[list[int]]:
        session = self.session
        return eval_batches(
            lengths_of(samples), size, rank=session.rank, num_ranks=session.num_ranks
        )

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save what a resume needs beside the others, then make it visible by one rename."""
        with self.session.clock.phase("save"):
            step = self.state.global_step
            final = Path("checkpoints") / f"step-{step}"
            if final.exists():
                return
            if self.session.is_main:
                with disk_errors(f"checkpoint step-{step}", Path()):
                    staging = staging_directory(final)
            self._barrier()
            staging = final.parent / f".{final.name}.tmp"
            with disk_errors(f"checkpoint step-{step}", Path()):
                self._write_state(staging)
            self._barrier()
            if self.session.is_main:
                commit_directory(staging, final, self._meta(step))
                prune(final.parent, self.keep_checkpoints, set())
            self._barrier()

    def _write_state(self, staging: Path) -> None:
        self.model_wrapped.save_checkpoint(
            str(staging), exclude_frozen_parameters=is_adapted(self.model)
        )
        self._save_rng_state(str(staging))
        if is_adapted(self.model):
            self.save_weights(staging / "adapter")
        if self.session.is_main:
            torch.save(self.lr_scheduler.state_dict(), staging / "scheduler.pt")
            self.rank_budget.save(staging)
            self.average.save(staging)
            self._export_callbacks()
            self.state.save_to_json(str(staging / "trainer_state.json"))

    def _export_callbacks(self) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, transformers.trainer_callback.ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()

    def _meta(self, step: int) -> dict[str, object]:
        return {
            "step": step,
            "total_steps": self.num_steps,
            "num_ranks": self.session.num_ranks,
            "fingerprint": self.fingerprint,
        }

    def save_weights(self, folder: Path) -> None:
        """Write adapter or model with its tokenizer in the Hugging Face layout; all processes must call it."""
        with averaged(self.basic_optimizer), self.average.in_place():
            state = _consolidated(self.model_wrapped, self.model)
            with gathered(*prompt_parameters(self.model)):
                if self.session.is_main:
                    self._write_weights(folder, state)

    def _write_weights(self, folder: Path, state: dict[str, Tensor]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if is_adapted(self.model):
            write_adapter(self.model, folder, state)
        else:
            self.model.save_pretrained(str(folder), state_dict=state)
        save_tokenizer(folder, self.processing_class, self.model)

    def _barrier(self) -> None:
        if self.session.num_ranks > 1:
            torch.distributed.barrier()


class _Conductor(
    transformers.TrainerCallback,  # type: ignore[misc]
    transformers.trainer_callback.ExportableState,  # type: ignore[misc]
):
    """Decides after each step what happens next, and writes the numbers down."""

    def __init__(self, trainer: Trainer, log_every: int) -> None:
        self.trainer = trainer
        self.log_every = log_every
        self.window_loss = 0.0
        self.window_steps = 0
        self.window_measures: dict[str, list[float]] = {}
        self.router_loss: float | None = None
        self.metrics: MetricsFile | None = None
        self.progress: Progress | None = None

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to write the same lines."""
        return {
            "args": {},
            "attributes": {
                "window_loss": self.window_loss,
                "window_steps": self.window_steps,
                "window_measures": self.window_measures,
                "tokens_seen": self.trainer.tokens_seen,
            },
        }

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer, step = self.trainer, state.global_step
        trainer.average.begin(trainer.session.resume_from if step else None)
        if step:
            saved = state.stateful_callbacks[type(self).__name__]["attributes"]
            self.window_loss, self.window_steps = saved["window_loss"], saved["window_steps"]
            self.window_measures = saved["window_measures"]
            trainer.tokens_seen = saved["tokens_seen"]
            trainer.rank_budget.load(trainer.session.resume_from)
        if trainer.collator.padding_free or _is_packed(trainer.samples):
            check_isolation(
                trainer.model_wrapped,
                trainer.collator,
                rows=trainer.micro_size.samples,
                vocabulary=trainer.model.get_input_embeddings().num_embeddings,
                device=args.device,
            )
        trainer.started = time.monotonic()
        trainer.session.clock.enter("train")
        if trainer.session.is_main:
            self.metrics = MetricsFile(Path("metrics.jsonl"), resumed_at=step or None)
            self.progress = Progress(num_steps=trainer.num_steps, done=step, every=self.log_every)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        trainer, step = self.trainer, state.global_step
        trainer.rank_budget.step(step)
        trainer.average.step()
        trainer.tokens_seen += trainer.step_tokens
        trainer.rate_tokens += trainer.step_tokens
        trainer.batches.finish(step)
        flag = torch.tensor(int(trainer.session.life.stop_requested()), device=args.device)
        trainer._reduce(flag, torch.distributed.ReduceOp.MAX)
        self.router_loss = trainer.router_loss()
        for name, found in trainer.measured().items():
            known = self.window_measures.get(name, [0.0, 0.0])
            self.window_measures[name] = [a + b for a, b in zip(known, found, strict=True)]
        last = step >= trainer.num_steps
        trainer.stopped = bool(flag) and not last
        control.should_log = True
        control.should_evaluate = bool(
            len(trainer.evaluation)
            and (last or (trainer.eval_every and step % trainer.eval_every == 0))
            # A rate that follows evaluations must not miss one: the resumed run would take another course.
            and (not trainer.stopped or isinstance(trainer.schedule, Plateau))
        )
        control.should_save = trainer.stopped or bool(
            trainer.save_every and step % trainer.save_every == 0 and not last
        )
        control.should_training_stop = last or trainer.stopped
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        step = state.global_step
        if EVAL_LOSS in logs:
            self._write({"step": step, **{n: v for n, v in logs.items() if n.startswith("eval_")}})
            if self.progress:
                self.progress.say(f"step {step}: evaluation loss {told_losses(logs)}")
        elif "loss" in logs:
            self._log_step(step, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress:
            self.progress.close()

    def _log_step(self, step: int, logs: Mapping[str, Any]) -> None:
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise UserError(
                f"the loss of step {step} is {loss}",
                help="lower `training.learning_rate`, set `training.max_grad_norm`, or use fp32; "
                "the last checkpoint is kept",
                code=ExitCode.TRAINING,
            )
        self.window_loss += loss
        self.window_steps += 1
        seconds = max(time.monotonic() - self.trainer.started, 1e-9)
        rate = self.trainer.rate_tokens / seconds
        if self.progress:
            self.progress.step(step, loss=loss, tokens_per_s=rate)
        if step % self.log_every == 0 or step == self.trainer.num_steps:
            row = {
                "step": step,
                "epoch": self.trainer.batches.epoch(step),
                "loss": self.window_loss / self.window_steps,
                "learning_rate": logs["learning_rate"],
                "grad_norm": logs.get("grad_norm"),
                "tokens": self.trainer.tokens_seen,
                "tokens_per_s": round(rate, 1),
            }
            if self.router_loss is not None:
                row["router_loss"] = self.router_loss
            self._write({**row, **means(self.window_measures)})
            self.window_loss, self.window_steps, self.window_measures = 0.0, 0, {}

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.metrics:
            self.metrics.add(row)


def _is_packed(samples: Samples) -> bool:
    """Tell whether rows hold several samples that must not see each other."""
    if isinstance(samples, StreamedSamples):
        return samples.packing == "isolated"
    return isinstance(samples, PackedSamples)


def _consolidated(engine: Any, model: Any) -> dict[str, Tensor]:
    """Return whole tensors on rank 0, also where ZeRO-3 has spread them over the processes."""
    if not engine.zero_optimization_partition_weights():
        return dict(engine.module.state_dict())
    if is_adapted(model):
        return whole_state(engine.module, belongs_to_adapter(model))
    return dict(engine._zero3_consolidated_16bit_state_dict() or {})

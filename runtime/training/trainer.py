"""The layer over `transformers.Trainer`: our data order, our normalisation, our checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

from ..data.batches import GlobalBatches, MicroBatches, MicroSize, lengths_of, shared
from ..data.layouts import Batches, Collator, eval_batches, num_tokens
from ..data.loader import Loading
from ..data.samples import Samples
from ..models.adapters import is_adapted
from ..models.adapters.saving import belongs_to_adapter, prompt_parameters, write_adapter
from ..models.quantization import num_parameters
from ..models.saved import save_tokenizer
from ..models.sharded import gathered, whole_state
from ..objectives.base import Objective
from ..session import Session
from ..storage import commit_directory, disk_errors, prune, staging_directory, verify_directory
from .average import WeightAverage
from .best import Watch, checkpoint
from .block_sampler import BlockSampler
from .conductor import Conductor
from .engine import allow_steps, averaged, tell_norms, without_first_step
from .evaluation import Evaluation, mean_losses
from .lisa import Lisa
from .metrics import EVAL_LOSS
from .not_finite import StepLosses
from .occasions import Occasions
from .optimizers import Optimizer
from .optimizers.describe import description, in_words
from .predictions import Generation
from .rank_budget import RankBudget
from .schedules import Name, RateScheduler, Schedule

OBJECTIVE = "objective.pt"
"""File of a checkpoint with what the objective gathered, where it gathers something."""


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
        occasions: Occasions,
        eval_micro_size: MicroSize,
        generation: Generation | None,
        keep_checkpoints: int,
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
        self.watch = Watch(occasions.best)
        self.generation = generation
        self.eval_micro_size = eval_micro_size
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
        self.step_losses = StepLosses()
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
            callbacks=[Conductor(self, occasions)],
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

    def samples_of(self, step: int) -> list[list[int]]:
        """Return the samples of each micro batch of a step (from 1) on this process."""
        cut = self.micro_size.cut(self.batches.step(step - 1), self.batches.lengths)
        return shared(cut, self.session.num_ranks)[self.session.rank :: self.session.num_ranks]

    def rollout_report(self) -> dict[str, Any]:
        """Return what the report says of generated answers: nothing where data are given."""
        return {}

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

    def _prepare_input(self, data: Any) -> Any:
        """Return tensors on the device in their own number format: weights and log-probabilities are no inputs."""
        if isinstance(data, Tensor):
            return data.to(self.args.device)
        return super()._prepare_input(data)

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
            self.step_losses.add(losses[-1])
        return torch.stack(losses).sum()

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """Return the items of the whole step, over all its micro batches and processes (at least 1)."""
        # In fp64 token counts are exact, and weights are not rounded.
        counts = torch.zeros(2, dtype=torch.float64, device=device)
        self.rank_budget.micro_batches = sum(map(len, batch_samples))
        self.step_losses.begin()
        step = [batch for batches in batch_samples for batch in batches]
        if self.objective.looks_ahead:
            ahead = (self._prepare_inputs(batch) for batch in step)
            self.model_wrapped.train()
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
        if not set(tally.names) - set(self.objective.eval_measures):
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
        if self.state.global_step:
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
            answers = {} if self.generation is None else self._predicted(self.generation)
        self._reduce(totals)
        model.train()
        names = [each.name for each in self.evaluations]
        found = mean_losses(
            names, self.objective.tally.names, totals, perplexity=self.objective.gives_perplexity
        )
        return {**found, **answers}

    def _predicted(self, generation: Generation) -> dict[str, float]:
        return generation.evaluate(
            self.model,
            self.evaluations,
            size=self.eval_micro_size,
            step=self.state.global_step,
        )

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
            final = checkpoint(step)
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
                prune(final.parent, self.keep_checkpoints, self.watch.protected)
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
            if state := self.objective.state():
                torch.save(state, staging / OBJECTIVE)
            self._export_callbacks()
            self.state.save_to_json(str(staging / "trainer_state.json"))

    def load_objective(self, checkpoint: Path | None) -> None:
        """Let the objective go on from a checkpoint."""
        if checkpoint is not None and self.objective.state():
            self.objective.load_state(torch.load(checkpoint / OBJECTIVE, weights_only=True))

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

    def load_best(self) -> None:
        """Put the weights of the best checkpoint in place where they are to be the last; all processes must call it."""
        path = self.watch.to_load(self.state.global_step)
        if path is None:
            return
        verify_directory(path, deep=False)
        deepspeed_load_checkpoint(
            self.model_wrapped, str(path), load_module_strict=not is_adapted(self.model)
        )
        self.average.begin(path)
        self.rank_budget.load(path)

    def save_weights(self, folder: Path) -> None:
        """Write adapter or model with its tokenizer in the Hugging Face layout; all processes must call it."""
        with (
            averaged(self.basic_optimizer),
            self.average.in_place(),
            self.whole_weights() as state,
        ):
            if self.session.is_main:
                self._write_weights(folder, state)

    @contextmanager
    def whole_weights(self) -> Iterator[dict[str, Tensor]]:
        """Inside, the weights that are in place now are whole on rank 0; all processes must call it."""
        state = _consolidated(self.model_wrapped, self.model)
        with gathered(*prompt_parameters(self.model)):
            yield state

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


def _consolidated(engine: Any, model: Any) -> dict[str, Tensor]:
    """Return whole tensors on rank 0, also where ZeRO-3 has spread them over the processes."""
    if not engine.zero_optimization_partition_weights():
        return dict(engine.module.state_dict())
    if is_adapted(model):
        return whole_state(engine.module, belongs_to_adapter(model))
    return dict(engine._zero3_consolidated_16bit_state_dict() or {})

"""What happens after each step: what is evaluated, saved and written down, and when the training ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from ..data.packing import PackedSamples
from ..data.samples import Samples
from ..data.stream.reader import StreamedSamples
from ..objectives.tally import means
from .isolation import check_isolation
from .metrics import EVAL_LOSS, MetricsFile, told_evaluation
from .not_finite import stop
from .occasions import Occasions
from .progress import Progress
from .schedules import Plateau

if TYPE_CHECKING:
    from .trainer import Trainer


class Conductor(
    transformers.TrainerCallback,  # type: ignore[misc]
    transformers.trainer_callback.ExportableState,  # type: ignore[misc]
):
    """Decides after each step what happens next, and writes the numbers down."""

    def __init__(self, trainer: Trainer, occasions: Occasions) -> None:
        """Start with nothing written."""
        self.trainer = trainer
        self.occasions = occasions
        self.epochs = 0
        self.ends_epoch = False
        self.last_logs: Mapping[str, Any] = {}
        self.rate = 0.0
        self.window_loss = 0.0
        self.window_steps = 0
        self.window_measures: dict[str, list[float]] = {}
        self.headline = ""
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
                "epochs": self.epochs,
                "best": self.trainer.watch.state(),
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
            self.epochs = saved["epochs"]
            trainer.watch.load(saved["best"])
            trainer.rank_budget.load(trainer.session.resume_from)
            trainer.load_objective(trainer.session.resume_from)
        if trainer.collator.padding_free or _is_packed(trainer.samples):
            check_isolation(
                trainer.model_wrapped,
                trainer.collator,
                rows=trainer.micro_size.samples,
                vocabulary=trainer.model.get_input_embeddings().num_embeddings,
                device=args.device,
            )
        trainer.objective.begin(trainer)
        trainer.started = time.monotonic()
        trainer.session.clock.enter("train")
        if trainer.session.is_main:
            self.metrics = MetricsFile(Path("metrics.jsonl"), resumed_at=step or None)
            self.progress = Progress(
                num_steps=trainer.num_steps, done=step, every=self.occasions.log_every
            )
        if self.occasions.eval_at_start and not step and len(trainer.evaluation):
            trainer.evaluate()

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
        measured = trainer.measured()
        if name := trainer.objective.headline:
            # Rewards stand in the first step of a rollout alone.
            of_step = means(measured).get(name)
            self.headline = self.headline if of_step is None else f"{name} {of_step:.3f}"
        for name, found in measured.items():
            known = self.window_measures.get(name, [0.0, 0.0])
            self.window_measures[name] = [a + b for a, b in zip(known, found, strict=True)]
        last = step >= trainer.num_steps
        epochs = trainer.batches.epochs_done(step)
        self.ends_epoch, self.epochs = epochs > self.epochs, epochs
        trainer.stopped = bool(flag) and not last
        control.should_log = True
        control.should_evaluate = bool(
            len(trainer.evaluation)
            and (last or self.occasions.evaluates(step, ends_epoch=self.ends_epoch))
            # What hangs on evaluations must not miss one: the resumed run would take another course.
            and (
                not trainer.stopped or trainer.watch.is_on or isinstance(trainer.schedule, Plateau)
            )
        )
        control.should_save = trainer.stopped or (not last and self._is_saved(step))
        control.should_training_stop = last or trainer.stopped
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        step = state.global_step
        if EVAL_LOSS in logs:
            self._write({"step": step, **{n: v for n, v in logs.items() if n.startswith("eval_")}})
            if self.progress:
                self.progress.say(f"step {step}: evaluation loss {told_evaluation(logs)}")
        elif "loss" in logs:
            self._log_step(step, logs)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> Any:
        """Remember the best, and end the training where nothing improves any more."""
        trainer, step = self.trainer, state.global_step
        trainer.watch.see(metrics, step, is_kept=step >= trainer.num_steps or self._is_saved(step))
        if trainer.watch.ended_at == step and step < trainer.num_steps:
            self._write_window(step)
            # It is done: nobody will go on from here.
            control.should_training_stop, control.should_save = True, False
            trainer.stopped = False
        return control

    def _is_saved(self, step: int) -> bool:
        return self.occasions.saves(step, ends_epoch=self.ends_epoch)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress:
            self.progress.close()

    def _log_step(self, step: int, logs: Mapping[str, Any]) -> None:
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            trainer = self.trainer
            stop(
                trainer.step_losses,
                loss,
                step=step,
                samples=trainer.samples,
                mine=trainer.samples_of(step),
                run_dir=trainer.session.run_dir,
            )
        self.window_loss += loss
        self.window_steps += 1
        seconds = max(time.monotonic() - self.trainer.started, 1e-9)
        rate = self.trainer.rate_tokens / seconds
        if self.progress:
            self.progress.step(step, loss=loss, tokens_per_s=rate, measured=self.headline)
        self.last_logs, self.rate = logs, rate
        is_due = self.occasions.logs(step, ends_epoch=self.ends_epoch)
        if is_due or step == self.trainer.num_steps:
            self._write_window(step)

    def _write_window(self, step: int) -> None:
        """Write a line for the steps since the last one."""
        if not self.window_steps:
            return
        row = {
            "step": step,
            "epoch": self.trainer.batches.epoch(step),
            "loss": self.window_loss / self.window_steps,
            "learning_rate": self.last_logs["learning_rate"],
            "grad_norm": self.last_logs.get("grad_norm"),
            "tokens": self.trainer.tokens_seen,
            "tokens_per_s": round(self.rate, 1),
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

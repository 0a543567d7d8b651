"""The end of a run: its weights in `final/`, its numbers, pictures and report."""

from __future__ import annotations

import importlib.metadata
import resource
from pathlib import Path
from typing import Any

from ..data.samples import Samples
from ..data.stream.reader import StreamedSamples
from ..errors import ExitCode
from ..models.saved import changed
from ..rank import write_result
from ..session import Session
from ..storage import (
    disk_errors,
    gib,
    replace_directory,
    staging_directory,
    step_directories,
    write_json,
    write_text,
)
from .best import CHECKPOINTS
from .metrics import EVAL_LOSS, eval_losses, read, told_losses


def finish(session: Session, trainer: Any, loss_kind: str, *, name: str, plot: bool) -> None:
    """Save the weights that the run ends with, then say what it came to: files, pictures, the last line."""
    steps = trainer.state.global_step
    with session.clock.phase("save"):
        if early := trainer.watch.report(steps).get("stopped_early"):
            session.say(f"ended early, after step {early['step']}: {early['reason']}")
        if told := trainer.watch.told(steps):
            session.say(told)
        trainer.load_best()
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
    _write_page(session, report, rows, name)
    if isinstance(trainer.samples, StreamedSamples):
        trainer.samples.close()
    write_result(session.run_dir, "done", exit_code=ExitCode.OK, step=steps)
    session.say(
        f"done: {steps} steps, loss {report['train_loss']:.4f}, "
        + (
            f"evaluation loss {told_losses(_last_evaluation(rows))}, "
            if report["eval_loss"] is not None
            else ""
        )
        + f"{report['tokens_per_s']:,.0f} tokens/s, peak memory {gib(report['peak_memory_bytes'])}"
    )


def _write_page(
    session: Session, report: dict[str, Any], rows: list[dict[str, Any]], name: str
) -> None:
    """Write the report as a page; the weights are saved, so one that fails must not fail the run."""
    try:
        from .page import page

        steps = [str(path) for path in reversed(step_directories(CHECKPOINTS))]
        text = page(report, rows, name=name, places=["final", *steps])
        write_text(Path("report.html"), text)
    except Exception as fault:
        session.say(f"warning: no report.html was written: {fault}")


def _draw(session: Session, rows: list[dict[str, Any]], name: str) -> None:
    """Draw the curves; the weights are saved, so a picture that fails must not fail the run."""
    try:
        from .plot import draw_all

        draw_all(rows, Path("plots"), title=name)
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
            for what in changed(staging, trainer.processing_class):
                session.say(f"warning: final/ has another {what} than the one of the training")
            replace_directory(staging, final)


def _report(
    session: Session, trainer: Any, rows: list[dict[str, Any]], steps: int, loss_kind: str
) -> dict[str, Any]:
    losses = [row["loss"] for row in rows if "loss" in row]
    measured = _last_evaluation(rows)
    sets = {name: loss for name, loss in eval_losses(measured).items() if name}
    trainable, total = trainer.num_parameters
    seconds = {phase: round(value, 2) for phase, value in session.clock.seconds.items()}
    return {
        "status": "done",
        "steps": steps,
        "train_loss": losses[-1] if losses else None,
        "eval_loss": measured.get(EVAL_LOSS),
        **({"eval_losses": sets} if sets else {}),
        **_stream_report(trainer.samples),
        "tokens": trainer.tokens_seen,
        "tokens_per_s": round(trainer.rate_tokens / max(seconds.get("train", 0.0), 1e-9), 1),
        "trainable_parameters": trainable,
        "optimizer": trainer.optimizer_told,
        **trainer.average.report(),
        **trainer.rollout_report(),
        **trainer.watch.report(steps),
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


def _stream_report(samples: Samples) -> dict[str, Any]:
    """Return what became of the rows of a stream; nothing for prepared data, which have a report of their own."""
    return {"data": samples.report()} if isinstance(samples, StreamedSamples) else {}


def _last_evaluation(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the last evaluation; an empty one where there was none."""
    measured = [row for row in rows if EVAL_LOSS in row]
    return measured[-1] if measured else {}


def _peak_memory(session: Session) -> int:
    """Bytes: of rank 0's GPU, or of its process on a CPU."""
    if session.device == "gpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

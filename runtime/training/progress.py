"""What a person sees while training goes on: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Progress over the optimizer steps, with loss, tokens a second and the time left."""

    def __init__(self, *, num_steps: int, done: int, every: int) -> None:
        """Start at step `done`; without a terminal a line is printed each `every` steps."""
        self.num_steps = num_steps
        self.first = done
        self.every = every
        self.since = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=num_steps,
                initial=done,
                unit="step",
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f}%|{bar}| {n}/{total} [{elapsed}<{remaining}{postfix}]",
            )

    def step(self, step: int, *, loss: float, tokens_per_s: float, measured: str = "") -> None:
        """Show that `step` is done; `measured` stands beside its loss."""
        # Losses of GRPO are around 0: no `-0.0000`.
        loss = round(loss, 4) + 0.0
        if self.bar is not None:
            parts = [f"loss {loss:.3f}", measured, f"{tokens_per_s:,.0f} tokens/s"]
            self.bar.set_postfix_str(", ".join(filter(None, parts)), refresh=False)
            self.bar.update(step - self.bar.n)
        elif step % self.every == 0 or step == self.num_steps:
            left = (time.monotonic() - self.since) / (step - self.first) * (self.num_steps - step)
            parts = [
                f"step {step}/{self.num_steps}",
                f"loss {loss:.4f}",
                measured,
                f"{tokens_per_s:,.0f} tokens/s",
                f"{_minutes(left)} left",
            ]
            print("  ".join(filter(None, parts)), flush=True)

    def say(self, text: str) -> None:
        """Print a line without tearing the bar."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Take the bar down."""
        if self.bar is not None:
            self.bar.close()


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

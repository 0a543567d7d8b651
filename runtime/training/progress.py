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

    def step(self, step: int, *, loss: float, tokens_per_s: float) -> None:
        """Show that `step` is done."""
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"loss {loss:.3f}, {tokens_per_s:,.0f} tokens/s", refresh=False
            )
            self.bar.update(step - self.bar.n)
        elif step % self.every == 0 or step == self.num_steps:
            left = (time.monotonic() - self.since) / (step - self.first) * (self.num_steps - step)
            print(
                f"step {step}/{self.num_steps}  loss {loss:.4f}  {tokens_per_s:,.0f} tokens/s  "
                f"{_minutes(left)} left",
                flush=True,
            )

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

"""Rewards by a Python function of the user."""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError
from ..together import agreed
from .base import Answered, checked, scored_by_main

NAMES = ("prompts", "answers", "expected")
"""What the function is called with, as far as it takes it."""


class FunctionReward:
    """Calls a function of a Python file with all answers of a batch at once.

    It gets the lists `prompts`, `answers` and `expected` by name, as far as it has such parameters, and returns a
    list of one number for each answer. It runs on rank 0 with the rights of the run, and sees the answers of all
    processes in one order, so that the scores do not depend on how many processes there are.
    """

    def __init__(self, path: Path, *, name: str = "reward", weight: float = 1.0) -> None:
        """Remember where the function is; the file is run by `attach`."""
        self.path = Path(path)
        self.name = name
        self.weight = weight

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Run the file and find the function.

        Raises:
            UserError: (ENVIRONMENT) there is no such file or function, the file fails, or the function takes
                something else.
        """
        self._function, self._given = agreed(self._found)
        return self._told

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer.

        Raises:
            UserError: (TRAINING) the function fails, or gives something else than one finite number an answer.
        """
        return scored_by_main(answered, self._ask)

    @property
    def _told(self) -> str:
        return f"function `{self.name}` of {self.path.name}"

    def _found(self) -> tuple[Callable[..., Any], list[str]]:
        try:
            spec = importlib.util.spec_from_file_location(
                f"tunec_reward_{self.path.stem}", self.path
            )
            if spec is None or spec.loader is None:
                raise ImportError(f"no Python file: {self.path}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as fault:
            raise UserError(
                f"the reward file {self.path.name} cannot be run: {_cause(fault, self.path)}",
                help="the file is run as a module when the training starts",
                code=ExitCode.ENVIRONMENT,
            ) from None
        function = getattr(module, self.name, None)
        if not callable(function):
            raise UserError(
                f"{self.path.name} defines no function `{self.name}`", code=ExitCode.ENVIRONMENT
            )
        return function, self._parameters(function)

    def _parameters(self, function: Callable[..., Any]) -> list[str]:
        """Return what the function is to be given."""
        parameters = inspect.signature(function).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        others = [
            one.name
            for one in parameters
            if one.name not in NAMES
            and one.default is one.empty
            and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        if others or inspect.iscoroutinefunction(function):
            raise UserError(
                f"{self._told} takes "
                + (f"`{others[0]}`, which is not given" if others else "the form of a coroutine"),
                help="a reward is a plain function of `prompts`, `answers` and `expected`",
                code=ExitCode.ENVIRONMENT,
            )
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return list(NAMES)
        return [one.name for one in parameters if one.name in NAMES]

    def _ask(self, answered: Sequence[Answered]) -> list[float]:
        lists = {
            "prompts": [one.prompt for one in answered],
            "answers": [one.answer for one in answered],
            "expected": [one.expected for one in answered],
        }
        try:
            scores = self._function(**{name: lists[name] for name in self._given})
        except (Exception, SystemExit) as fault:
            raise UserError(
                f"{self._told} failed: {_cause(fault, self.path)}",
                help="the last checkpoint is kept; mend the function and resume",
            ) from None
        return checked(
            self._told, scores, answered, help="it must return one finite number for each answer"
        )


def _cause(fault: BaseException, path: Path) -> str:
    """Return a fault in words, with the last line of the user's file that it went through."""
    frames = [
        frame for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(fault, SyntaxError):
        return f"line {fault.lineno}: {fault.msg}"
    text = str(fault).splitlines()[0] if str(fault) else ""
    place = f" (line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}{': ' if text else ''}{text}{place}"

"""Rewards by a server, asked over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..json_server import JsonServer
from ..together import agreed
from .base import Answered, checked, scored_by_main


class ApiReward:
    """Posts all answers of a batch as JSON to a server, which replies with their scores.

    The request is `{"prompts": [...], "answers": [...], "expected": [...]}`, the reply `{"scores": [...]}` with one
    finite number for each answer. Only rank 0 asks. After no reply within `timeout_s`, a broken connection or a
    status such as 503 it asks again, after 1, 2, 4, ... seconds; any other reply ends the run at once.
    """

    name = "api"

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        token_env: str | None = None,
        weight: float = 1.0,
    ) -> None:
        """Remember whom to ask; `token_env` names the environment variable with the bearer token."""
        self.weight = weight
        self._server = JsonServer(
            url,
            name="the reward server",
            settings="objective.reward",
            contract='it must reply with `{"scores": [...]}`',
            timeout_s=timeout_s,
            retries=retries,
            token_env=token_env,
        )

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Look up the token.

        Raises:
            UserError: (ENVIRONMENT) its variable is not set.
        """
        agreed(self._server.look_up_token)
        return f"server {self._server.where}"

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer.

        Raises:
            UserError: (ENVIRONMENT) the server cannot be reached or fails; (TRAINING) its reply is of no use.
        """
        return scored_by_main(answered, self._ask)

    def _ask(self, answered: Sequence[Answered]) -> list[float]:
        reply = self._server.ask(
            {
                "prompts": [one.prompt for one in answered],
                "answers": [one.answer for one in answered],
                "expected": [one.expected for one in answered],
            }
        )
        if not isinstance(reply, dict) or "scores" not in reply:
            raise UserError(
                f"{self._server.name} replied without `scores`",
                help=self._server.contract,
            )
        return checked(
            self._server.name,
            reply["scores"],
            answered,
            help="it must reply with one finite number for each answer",
        )

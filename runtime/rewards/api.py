"""Rewards by a server, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from time import sleep as pause
from typing import Any
from urllib.parse import urlsplit

from ..credentials import token_of
from ..errors import ExitCode, UserError
from ..together import agreed
from .base import Answered, checked, scored_by_main

LONGEST_PAUSE_S = 30.0
MOST_BYTES = 2**26
"""Longest reply that is read."""
AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be another one a little later."""


class _TryAgainError(Exception):
    """The server may answer a little later."""


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
        self.url = url
        self.timeout_s = timeout_s
        self.retries = retries
        self.token_env = token_env
        self.weight = weight

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Look up the token.

        Raises:
            UserError: (ENVIRONMENT) its variable is not set.
        """
        # An address may hold a password: only host and path are told.
        self._parts = urlsplit(self.url)
        self._where = f"{self._parts.hostname}{self._port_text}{self._parts.path}"
        self._headers = agreed(self._made_headers)
        return f"server {self._where}"

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer.

        Raises:
            UserError: (ENVIRONMENT) the server cannot be reached or fails; (TRAINING) its reply is of no use.
        """
        return scored_by_main(answered, self._ask)

    @property
    def _port_text(self) -> str:
        return "" if self._parts.port is None else f":{self._parts.port}"

    def _made_headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token_env is not None:
            token = token_of(self.token_env, "objective.reward.token_env")
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _ask(self, answered: Sequence[Answered]) -> list[float]:
        body = json.dumps(
            {
                "prompts": [one.prompt for one in answered],
                "answers": [one.answer for one in answered],
                "expected": [one.expected for one in answered],
            }
        ).encode()
        reply = self._scores(self._reply(body))
        return checked(
            f"the reward server {self._where}",
            reply,
            answered,
            help="it must reply with one finite number for each answer",
        )

    def _reply(self, body: bytes) -> bytes:
        """Return what the server replies, asked as often as it takes."""
        for attempt in range(self.retries + 1):
            if attempt:
                pause(min(2.0 ** (attempt - 1), LONGEST_PAUSE_S))
            try:
                return self._asked(body)
            except (_TryAgainError, OSError, http.client.HTTPException) as fault:
                last = fault
        raise UserError(
            f"the reward server {self._where} does not answer: {self._cause(last)}, {self.retries + 1} attempts",
            help="start the server, or raise `timeout_s` or `retries` of the reward; the last checkpoint is kept",
            code=ExitCode.ENVIRONMENT,
        )

    def _cause(self, fault: Exception) -> str:
        if isinstance(fault, TimeoutError):
            return f"no reply within {self.timeout_s:g} s"
        text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        return str(text).splitlines()[0].lower()

    def _asked(self, body: bytes) -> bytes:
        """Ask once; the reply must be there in time, however slowly it comes."""
        until = time.monotonic() + self.timeout_s
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self.timeout_s)
        try:
            path = self._parts.path or "/"
            target = f"{path}?{self._parts.query}" if self._parts.query else path
            connection.request("POST", target, body=body, headers=self._headers)
            socket = connection.sock
            response = connection.getresponse()
            if response.status in AGAIN:
                raise _TryAgainError(f"status {response.status}")
            if response.status != 200:
                raise UserError(
                    f"the reward server {self._where} answered with status {response.status}",
                    help="it must answer with 200; redirections are not followed",
                    code=ExitCode.ENVIRONMENT,
                )
            found = bytearray()
            while piece := response.read1(2**16):
                found += piece
                left = until - time.monotonic()
                if left <= 0 or len(found) > MOST_BYTES:
                    raise TimeoutError
                socket.settimeout(left)
            return bytes(found)
        finally:
            connection.close()

    def _scores(self, reply: bytes) -> Any:
        try:
            found = json.loads(reply)
        except (ValueError, RecursionError):
            start = reply[:60].decode("utf-8", "replace")
            raise UserError(
                f"the reward server {self._where} replied with no JSON: {start!r}",
                help='it must reply with `{"scores": [...]}`',
            ) from None
        if not isinstance(found, dict) or "scores" not in found:
            raise UserError(
                f"the reward server {self._where} replied without `scores`",
                help='it must reply with `{"scores": [...]}`',
            )
        return found["scores"]

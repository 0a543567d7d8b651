"""Servers that are asked over HTTP, with JSON in both directions: patience, and one line when they fail."""

from __future__ import annotations

import http.client
import json
import time
from time import sleep as pause
from typing import Any
from urllib.parse import urlsplit

from .credentials import token_of
from .errors import ExitCode, UserError

LONGEST_PAUSE_S = 30.0
MOST_BYTES = 2**26
"""Longest reply that is read."""
AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be another one a little later."""
SHOWN = 200
"""Characters of a reply that are shown."""


class _TryAgainError(Exception):
    """The server may answer a little later."""


class RefusedError(UserError):
    """The server answered with a status that will stay."""

    status: int = 0
    said: str = ""


class JsonServer:
    """A server that is told something as JSON and replies with JSON.

    After no reply within `timeout_s`, a broken connection or a status such as 503 it is asked again, after 1, 2, 4, ...
    seconds; any other status but 200 ends the run at once. It may be asked by several threads at the same time.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        settings: str,
        contract: str,
        timeout_s: float,
        retries: int,
        token_env: str | None = None,
    ) -> None:
        """Remember whom to ask.

        `name` is what messages call it, `settings` where the spec describes it, `contract` what it must reply;
        `token_env` names the environment variable with the bearer token.
        """
        # An address may hold a password: only host and path are told.
        self._parts = urlsplit(url)
        port = "" if self._parts.port is None else f":{self._parts.port}"
        self.where = f"{self._parts.hostname}{port}{self._parts.path}"
        self.name = f"{name} {self.where}"
        self.settings = settings
        self.contract = contract
        self.timeout_s = timeout_s
        self.retries = retries
        self.token_env = token_env
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}

    def look_up_token(self) -> None:
        """Look up the token.

        Raises:
            UserError: (ENVIRONMENT) its variable is not set.
        """
        if self.token_env is not None:
            token = token_of(self.token_env, f"{self.settings}.token_env")
            self._headers["Authorization"] = f"Bearer {token}"

    def ask(self, told: Any = None, path: str = "", *, method: str = "POST") -> Any:
        """Return what the server replies to `told`, at `path` below its address.

        Raises:
            UserError: (ENVIRONMENT) it cannot be reached or fails; (TRAINING) it replies with something else than JSON.
        """
        reply = self._reply(method, path, told, self.retries + 1)
        try:
            return json.loads(reply)
        except (ValueError, RecursionError):
            start = reply[:60].decode("utf-8", "replace")
            raise UserError(
                f"{self.name} replied with no JSON: {start!r}",
                help=self.contract,
            ) from None

    def tell(self, told: Any, path: str = "", *, attempts: int | None = None) -> None:
        """Tell the server something; what it replies does not matter.

        Raises:
            UserError: (ENVIRONMENT) it cannot be reached or fails.
        """
        self._reply("POST", path, told, attempts or self.retries + 1)

    def _reply(self, method: str, path: str, told: Any, attempts: int) -> bytes:
        """Return what the server replies, asked as often as it takes."""
        body = None if told is None else json.dumps(told).encode()
        for attempt in range(attempts):
            if attempt:
                pause(min(2.0 ** (attempt - 1), LONGEST_PAUSE_S))
            try:
                return self._asked(method, path, body)
            except (_TryAgainError, OSError, http.client.HTTPException) as fault:
                last = fault
        raise UserError(
            f"{self.name} does not answer: {self._cause(last)}, {attempts} attempts",
            help=f"start the server, or raise `timeout_s` or `retries` of `{self.settings}`; the last checkpoint is kept",
            code=ExitCode.ENVIRONMENT,
        )

    def _cause(self, fault: Exception) -> str:
        if isinstance(fault, TimeoutError):
            return f"no reply within {self.timeout_s:g} s"
        text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        return str(text).splitlines()[0].lower()

    def _asked(self, method: str, path: str, body: bytes | None) -> bytes:
        """Ask once; the reply must be there in time, however slowly it comes."""
        until = time.monotonic() + self.timeout_s
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self.timeout_s)
        try:
            below = (self._parts.path.rstrip("/") + path if path else self._parts.path) or "/"
            target = f"{below}?{self._parts.query}" if self._parts.query else below
            connection.request(method, target, body=body, headers=self._headers)
            socket = connection.sock
            response = connection.getresponse()
            if response.status in AGAIN:
                raise _TryAgainError(f"status {response.status}")
            found = bytearray()
            while piece := response.read1(2**16):
                found += piece
                left = until - time.monotonic()
                if left <= 0 or len(found) > MOST_BYTES:
                    raise TimeoutError
                socket.settimeout(left)
            if response.status != 200:
                raise self._refusal(path, response.status, bytes(found))
            return bytes(found)
        finally:
            connection.close()

    def _refusal(self, path: str, status: int, reply: bytes) -> RefusedError:
        said = " ".join(reply.decode("utf-8", "replace").split())
        if len(said) > SHOWN:
            said = f"{said[:SHOWN]}..."
        at = f" to {path}" if path else ""
        fault = RefusedError(
            f"{self.name} answered{at} with status {status}{f': {said}' if said else ''}",
            help="it must answer with 200; redirections are not followed",
            code=ExitCode.ENVIRONMENT,
        )
        fault.status, fault.said = status, said
        return fault

"""A vLLM server that answers in place of the policy it is given before each rollout."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError
from ..json_server import JsonServer, RefusedError
from ..together import agreed, by_main, num_processes
from .online import Sampling

LEAST_LOG_PROB = -100.0
"""Stands for the log-probabilities that are given as minus infinity."""
FOR_ADAPTERS = (
    "start it with `--enable-lora`, a `--max-lora-rank` that is large enough, and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must see the run folder at the same path"
)
FOR_WEIGHTS = (
    "start it with VLLM_SERVER_DEV_MODE=1; it must see the run folder at the same path, and its "
    "`reload_weights` must take `weights_path`"
)


@dataclass(frozen=True)
class Drawn:
    """An answer of the server."""

    tokens: list[int]
    """Its end mark included where it has one."""
    log_probs: list[float]
    """That of each token but perhaps the end mark, before temperature and the like."""


class VllmServer:
    """vLLM's server, asked over HTTP by token ids (`/v1/completions`).

    The policy reaches it by files: an adapter is written to a folder of the run and loaded under a new name
    (`/v1/load_lora_adapter`), whole weights are written there and read by the workers (`/collective_rpc`,
    `reload_weights`). So it must see that folder at the same path. Each process asks for its share of the answers, with
    `connections` requests under way over all processes. Each answer has a seed of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 64,
        timeout_s: float = 120.0,
        retries: int = 5,
        token_env: str | None = None,
    ) -> None:
        """Remember whom to ask; `token_env` names the environment variable with the server's API key."""
        self.connections = connections
        self._server = JsonServer(
            url,
            name="the vLLM server",
            settings="objective.generator",
            contract="it must speak the completions API of vLLM",
            timeout_s=timeout_s,
            retries=retries,
            token_env=token_env,
        )
        self._held: tuple[str, Path] | None = None
        """Name and folder of the adapter that is loaded."""

    def attach(self, folder: Path, *, is_adapter: bool, longest: int) -> str:
        """Prepare for a policy whose files go to `folder`; return what the server is, for the log.

        `longest` are the tokens of the longest prompt with the longest answer.

        Raises:
            UserError: (ENVIRONMENT) its token is missing, or it cannot be reached; (TRAINING) it has no room.
        """
        agreed(self._server.look_up_token)
        self._folder, self._is_adapter = folder, is_adapter
        # Another run on the same server must not have adapters of the same name.
        self._run, self._base, room = by_main(self._described)
        self._model, self._number = self._base, 0
        if room is not None and longest > room:
            raise UserError(
                f"{self._server.name} has room for {room:,} tokens, the longest prompt with its answer has {longest:,}",
                help="raise its `--max-model-len`, or lower `data.max_length` or `generation.max_new_tokens`",
            )
        return f"vLLM server {self._server.where}, model {self._base}"

    def give(self, write: Callable[[Path], None]) -> None:
        """Let the server answer as the policy does now: `write` puts that in a folder; all processes must call it.

        Raises:
            UserError: (ENVIRONMENT) the server does not take it.
        """
        self._number += 1
        name = f"{self._run}-{self._number}"
        folder = self._folder / name
        write(folder)
        by_main(lambda: self._exchange(name, folder))
        self._model = name if self._is_adapter else self._base

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        ends: frozenset[int],
    ) -> list[Drawn]:
        """Return an answer to each prompt of this process.

        Raises:
            UserError: (ENVIRONMENT) the server fails; (TRAINING) its replies are of no use.
        """
        asked = {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "min_p": 0.0,
            "repetition_penalty": sampling.repetition_penalty,
            "stop_token_ids": sorted(ends),
            "logprobs": 1,
            "return_token_ids": True,
            "add_special_tokens": False,
        }
        together = max(self.connections // num_processes(), 1)
        with ThreadPoolExecutor(together) as pool:
            waiting = [
                pool.submit(
                    self._server.ask,
                    {**asked, "prompt": list(prompt), "seed": seed},
                    "/v1/completions",
                )
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
            try:
                return [self._drawn(one.result(), ends) for one in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stranger(self, gap: float) -> UserError:
        """Return what to say where its log-probabilities are `gap` nats a token from the policy's."""
        return UserError(
            f"{self._server.name} has another model: its log-probabilities are {gap:.2f} a token from the policy's",
            help="let it serve the model of `model.path`, as it is trained: same adapters merged, same tokenizer",
            code=ExitCode.ENVIRONMENT,
        )

    def leave(self) -> None:
        """Let the server forget the policy, and remove its files; to be called on one process."""
        with contextlib.suppress(UserError):
            self._forget(attempts=1)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _described(self) -> tuple[str, str, int | None]:
        """Return a name for this run, that of the model which the server was started with, and its tokens."""
        shutil.rmtree(self._folder, ignore_errors=True)
        reply = self._server.ask(path="/v1/models", method="GET")
        models = reply.get("data") if isinstance(reply, dict) else None
        for model in models if isinstance(models, list) else []:
            if isinstance(model, dict) and model.get("id") and model.get("parent") is None:
                room = model.get("max_model_len")
                found = room if type(room) is int else None
                return f"tunec-{secrets.token_hex(4)}", str(model["id"]), found
        raise UserError(
            f"{self._server.name} names no model",
            help="`objective.generator.url` is the address without `/v1`, such as http://localhost:8000",
        )

    def _exchange(self, name: str, folder: Path) -> None:
        if not self._is_adapter:
            told = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
            self._tell(told, "/collective_rpc", FOR_WEIGHTS)
            # What it kept of earlier prompts was computed with other weights.
            self._tell({}, "/reset_prefix_cache", FOR_WEIGHTS)
            shutil.rmtree(folder, ignore_errors=True)
            return
        told = {"lora_name": name, "lora_path": str(folder)}
        try:
            self._tell(told, "/v1/load_lora_adapter", FOR_ADAPTERS)
        except RefusedError as fault:
            # Asked a second time, because the first reply was lost.
            if "already" not in fault.said:
                raise
        self._forget()
        self._held = name, folder

    def _forget(self, attempts: int | None = None) -> None:
        if self._held is None:
            return
        (name, folder), self._held = self._held, None
        self._server.tell({"lora_name": name}, "/v1/unload_lora_adapter", attempts=attempts)
        shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, told: Any, path: str, help: str) -> None:
        try:
            self._server.tell(told, path)
        except RefusedError as fault:
            fault.help = help
            raise

    def _drawn(self, reply: Any, ends: frozenset[int]) -> Drawn:
        try:
            choice = reply["choices"][0]
            tokens, reason = choice.get("token_ids"), choice.get("stop_reason")
            given = choice["logprobs"]["token_logprobs"]
            has_stopped = choice["finish_reason"] == "stop"
        except (LookupError, TypeError, AttributeError):
            raise self._no_answer(reply) from None
        if not isinstance(tokens, list) or any(type(token) is not int for token in tokens):
            raise UserError(
                f"{self._server.name} does not say the tokens of its answers",
                help="vLLM 0.11 or newer does (`return_token_ids`)",
                code=ExitCode.ENVIRONMENT,
            )
        at = next((at for at, token in enumerate(tokens) if token in ends), None)
        if at is not None:
            tokens = tokens[: at + 1]
        elif has_stopped:
            tokens = [*tokens, reason if type(reason) is int else min(ends)]
        if not tokens:
            raise self._no_answer(reply)
        return Drawn(tokens, [_number(value) for value in given[: len(tokens)]])

    def _no_answer(self, reply: Any) -> UserError:
        text = repr(reply)
        shown = text if len(text) <= 120 else f"{text[:117]}..."
        return UserError(
            f"{self._server.name} replied without an answer: {shown}",
            help=self._server.contract,
        )


def _number(value: Any) -> float:
    found = float(value) if isinstance(value, int | float) else LEAST_LOG_PROB
    return max(found, LEAST_LOG_PROB) if found == found else LEAST_LOG_PROB

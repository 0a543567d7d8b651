"""A server that speaks the parts of vLLM's API that tunec uses, with transformers and PEFT behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunec.runtime.objectives import Sampling
from tunec.runtime.training.generation import generate
from web import listening


class StandIn:
    """Serves a model on this machine; `asked` are the requests so far."""

    def __init__(self, model: Path, *, room: int = 2048, token: str | None = None) -> None:
        """Load the base."""
        self.path, self.room, self.token = model, room, token
        self.asked: list[tuple[str, Any]] = []
        self.base = self._loaded(model)
        self.adapters: dict[str, Any] = {}
        self.lock = threading.Lock()
        self.url = ""

    @staticmethod
    def _loaded(path: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def reply(self, path: str, told: Any) -> tuple[int, Any]:
        """Return status and reply; text is no JSON, as with vLLM."""
        with self.lock:
            self.asked.append((path, told))
            match path:
                case "/v1/models":
                    served = {"id": "base", "parent": None, "max_model_len": self.room}
                    return 200, {"object": "list", "data": [served]}
                case "/v1/load_lora_adapter":
                    return self._load(told["lora_name"], Path(told["lora_path"]))
                case "/v1/unload_lora_adapter":
                    del self.adapters[told["lora_name"]]
                    return 200, "Success: removed."
                case "/collective_rpc" if told["method"] == "reload_weights":
                    self.base = self._loaded(Path(told["kwargs"]["weights_path"]))
                    return 200, {"results": [None]}
                case "/reset_prefix_cache":
                    return 200, ""
                case "/v1/completions":
                    return 200, self._completion(told)
            return 404, {"detail": "Not Found"}

    def _load(self, name: str, folder: Path) -> tuple[int, Any]:
        if name in self.adapters:
            return 400, {"message": f"The lora adapter '{name}' has already been loaded."}
        self.adapters[name] = PeftModel.from_pretrained(self._loaded(self.path), folder).eval()
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _completion(self, told: Any) -> dict[str, Any]:
        model = self.base if told["model"] == "base" else self.adapters[told["model"]]
        prompt, ends = told["prompt"], frozenset(told["stop_token_ids"])
        sampling = Sampling(
            max_new_tokens=told["max_tokens"],
            temperature=told["temperature"],
            top_p=told["top_p"],
            top_k=max(told["top_k"], 0),
            repetition_penalty=told["repetition_penalty"],
        )
        device = torch.device("cpu")
        (tokens,) = generate(
            model,
            [prompt],
            sampling=sampling,
            seeds=[told["seed"]],
            ends=ends,
            pad_token_id=0,
            device=device,
        )
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        log_probs = logits.log_softmax(-1)[range(len(tokens)), tokens]
        choice = {
            "index": 0,
            "token_ids": tokens,
            "logprobs": {"token_logprobs": log_probs.tolist()},
            "finish_reason": "stop" if tokens[-1] in ends else "length",
            "stop_reason": tokens[-1] if tokens[-1] in ends else None,
        }
        return {"object": "text_completion", "model": told["model"], "choices": [choice]}


@contextmanager
def serving(served: StandIn) -> Iterator[StandIn]:
    """Serve on a free port of this machine; `served.url` is the address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if served.token and self.headers.get("Authorization") != f"Bearer {served.token}":
                status, found = 401, {"error": "Unauthorized"}
            else:
                status, found = served.reply(self.path, json.loads(body) if body else None)
            content = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the names are those of http.server

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        served.url = url
        yield served

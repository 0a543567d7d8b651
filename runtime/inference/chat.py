"""Chat: a conversation on a terminal, streamed."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from ..errors import ExitCode, UserError
from ..models.folder import display
from ..models.load import Base, Dtype, load_causal_lm, load_tokenizer
from ..models.variants import WHOLE, Method, load_trained, whole
from ..session import program
from ..storage import step_directories, step_of

Variant = Literal["base", "trained", "merged"]
HELP = "/clear forgets the conversation, /exit (or Ctrl-D) ends it, Ctrl-C stops an answer"


def chat(
    *,
    base: Base,
    method: Method,
    trained: Path,
    merged: Path,
    checkpoints: Path,
    device: Literal["cpu", "gpu"],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    repetition_penalty: float,
    top_k: int | None = None,
    sample: bool = True,
    skip_special_tokens: bool = True,
    kv_cache: bool = True,
    system: str | None = None,
    tokenizer_path: Path | str | None = None,
    chat_template: Path | None = None,
    around_template: Path | None = None,
    eos_token: str | None = None,
    stop_words: Sequence[str] = (),
    add_tokens: Sequence[str] = (),
    add_special_tokens: Sequence[str] = (),
    packages: Collection[str] = (),
) -> None:
    """Answer the prompts of the command line, or talk on the terminal.

    `temperature` 0, or `sample` off, always takes the likeliest token; `top_k` 0 switches that limit off, None leaves
    the model's own. `packages` are the optional libraries the model needs. Errors are one line and an exit code.
    """
    options = _options(method)
    with program(packages=packages):
        _write_anything()
        source = (
            trained
            if options.checkpoint is None
            else _checkpoint(checkpoints, options.checkpoint, method)
        )
        variant = options.model or _default_variant(source)
        dtype: Dtype = "fp32" if device == "cpu" else "bf16"
        folder = {"base": base.path, "trained": source, "merged": merged}[variant]
        if variant == "base":
            tokenizer = load_tokenizer(
                tokenizer_path or base.path,
                chat_template=chat_template,
                around_template=around_template,
                eos_token=eos_token,
                stop_words=stop_words,
                add_tokens=add_tokens,
                add_special_tokens=add_special_tokens,
                **base.hub,
            )
            model = load_causal_lm(base, dtype=dtype, tokenizer=tokenizer)
        else:
            model = _load(
                variant, base=base, method=method, source=source, merged=merged, dtype=dtype
            )
            tokenizer = load_tokenizer(folder)
        talk = Conversation(
            model.to("cuda" if device == "gpu" else "cpu").eval(),
            tokenizer,
            max_new_tokens=max_new_tokens,
            temperature=temperature if options.temperature is None else options.temperature,
            top_p=top_p,
            top_k=top_k,
            sample=sample,
            repetition_penalty=repetition_penalty,
            skip_special_tokens=skip_special_tokens,
            kv_cache=kv_cache,
            stop_words=stop_words,
            system=system if options.system is None else options.system,
        )
        if options.prompt:
            _answer_prompts(talk, options.prompt)
        else:
            _converse(talk, f"{variant} model, {display(folder)}")


class Conversation:
    """A model, its tokenizer, and what was said so far."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        repetition_penalty: float,
        top_k: int | None = None,
        sample: bool = True,
        skip_special_tokens: bool = True,
        kv_cache: bool = True,
        stop_words: Sequence[str] = (),
        system: str | None,
    ) -> None:
        """Start an empty conversation."""
        self.model = model
        self.tokenizer = tokenizer
        self.system = system
        self.sampling: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "do_sample": sample and temperature > 0,
            "use_cache": kv_cache,
            "repetition_penalty": repetition_penalty,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": end_tokens(model, tokenizer, stop_words),
        }
        if self.sampling["do_sample"]:
            self.sampling.update(temperature=temperature, top_p=top_p)
            if top_k is not None:
                self.sampling["top_k"] = top_k
        self.skip_special_tokens = skip_special_tokens
        self.messages: list[dict[str, str]] = []
        self.clear()

    def clear(self) -> None:
        """Forget what was said."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str) -> Iterator[str]:
        """Yield the answer to `text` piece by piece as it is made, and remember it."""
        from transformers import TextIteratorStreamer

        self.messages.append({"role": "user", "content": _encodable(text)})
        inputs = self._prompt()
        streamer = TextIteratorStreamer(
            self.tokenizer, skip_prompt=True, skip_special_tokens=self.skip_special_tokens
        )
        stop = _Stop()
        faults: list[BaseException] = []
        worker = Thread(target=self._generate, args=(inputs, streamer, stop, faults), daemon=True)
        worker.start()
        answer = ""
        try:
            for piece in streamer:
                answer += piece
                yield piece
        finally:
            # The caller may leave early (Ctrl-C): the model stops at its next token.
            stop.wanted = True
            worker.join()
            self.messages.append({"role": "assistant", "content": answer})
        if faults:
            # Told by its type to `program`: out of memory is not a fault of tunec.
            raise faults[0]

    def _prompt(self) -> dict[str, Any]:
        try:
            encoded = self.tokenizer.apply_chat_template(
                self.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except Exception as fault:
            cause = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            raise UserError(
                f"the chat template refuses this conversation: {cause}", code=ExitCode.DATA
            ) from None
        wanted = ("input_ids", "attention_mask")
        return {name: encoded[name].to(self.model.device) for name in wanted}

    def _generate(
        self, inputs: Any, streamer: Any, stop: _Stop, faults: list[BaseException]
    ) -> None:
        try:
            self.model.generate(
                **inputs,
                streamer=streamer,
                stopping_criteria=[stop],
                **self.sampling,
            )
        except Exception as fault:
            faults.append(fault)
            streamer.end()


def end_tokens(model: Any, tokenizer: Any, stop_words: Sequence[str]) -> list[int]:
    """Return every token that ends an answer: models and templates may name more than the tokenizer does."""
    named = model.generation_config.eos_token_id
    vocabulary = tokenizer.get_vocab()
    more = [*(named if isinstance(named, list) else [named]), *map(vocabulary.get, stop_words)]
    return sorted({token for token in [tokenizer.eos_token_id, *more] if token is not None})


class _Stop:
    """A stopping criterion that another thread sets."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        return torch.full(
            (input_ids.shape[0],), self.wanted, device=input_ids.device, dtype=torch.bool
        )


def _options(method: Method) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tunec chat SPEC", description="Talk to the model of a run.", epilog=HELP
    )
    trained = ["adapter", "trained"] if method not in WHOLE else ["trained"]
    parser.add_argument(
        "--model",
        choices=["base", *trained, "merged"],
        help="base: before training; adapter or trained: after; merged: what `tunec export` wrote "
        "(default: trained, or base when nothing was trained yet)",
    )
    parser.add_argument(
        "--checkpoint", type=int, metavar="STEP", help="the adapter of this checkpoint"
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="answer this and end; may be given several times",
    )
    parser.add_argument(
        "--system", metavar="TEXT", help="system prompt (default: generation.system)"
    )
    parser.add_argument("--temperature", type=float, help="0 always takes the likeliest token")
    options = parser.parse_args()
    if options.model == "adapter":
        options.model = "trained"
    if options.temperature is not None and not options.temperature >= 0:
        parser.error("--temperature is 0 or more")
    if options.checkpoint is not None and options.model in {"base", "merged"}:
        parser.error(f"--checkpoint names an adapter, it does not go with --model {options.model}")
    return options


def _default_variant(trained: Path) -> Variant:
    if trained.is_dir():
        return "trained"
    print("nothing was trained yet: this is the base model", file=sys.stderr)
    return "base"


def _checkpoint(checkpoints: Path, step: int, method: Method) -> Path:
    folder = checkpoints / f"step-{step}" / "adapter"
    if method in WHOLE or not folder.is_dir():
        there = ", ".join(str(step_of(path)) for path in step_directories(checkpoints)[::-1])
        raise UserError(
            f"there is no adapter of step {step}",
            help=f"steps with a checkpoint: {there or 'none'}; only runs that train adapters keep weights to talk to there",
            code=ExitCode.CONFLICT,
        )
    return folder


def _load(
    variant: Variant,
    *,
    base: Base,
    method: Method,
    source: Path,
    merged: Path,
    dtype: Dtype,
) -> Any:
    if variant == "trained":
        return load_trained(source, base=base, method=method, dtype=dtype)
    if not merged.is_dir():
        raise UserError(
            f"there is no merged model at {display(merged)}",
            help="write one with `tunec export SPEC`",
            code=ExitCode.CONFLICT,
        )
    return load_causal_lm(whole(base, merged), dtype=dtype)


def _answer_prompts(talk: Conversation, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        talk.clear()
        print(f"> {_printable(prompt)}", flush=True)
        for piece in talk.ask(prompt):
            print(_printable(piece), end="", flush=True)
        print("\n" if prompt is not prompts[-1] else "", flush=True)


def _converse(talk: Conversation, title: str) -> None:
    print(f"{title}\n{HELP}", flush=True)
    _use_history()
    while True:
        try:
            text = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if text in {"/exit", "/quit"}:
            return
        if text == "/clear":
            talk.clear()
            print("forgotten")
        elif text.startswith("/"):
            print(HELP)
        elif text:
            _stream(talk, text)


def _stream(talk: Conversation, text: str) -> None:
    answer = talk.ask(text)
    try:
        for piece in answer:
            print(_printable(piece), end="", flush=True)
    except KeyboardInterrupt:
        answer.close()  # type: ignore[attr-defined]
        print(" ...", end="")
    print(flush=True)


def _write_anything() -> None:
    """Characters that the terminal's encoding lacks become question marks and not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _encodable(text: str) -> str:
    """Bytes that were no text in the terminal's encoding come in as half characters."""
    return text.encode("utf-8", "replace").decode()


def _use_history() -> None:
    """Line editing and history, where Python was built with it."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401


def _printable(text: str) -> str:
    """Drop control characters: a model must not be able to drive the terminal."""
    return "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160))

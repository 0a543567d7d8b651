"""The command line: what each verb prints, how it ends, and that no input ends in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import tiny
from tunec.compiler import cli
from tunec.compiler.version import VERSION

VERBS = [
    "new",
    "check",
    "show",
    "plan",
    "compile",
    "preview",
    "train",
    "chat",
    "export",
    "fetch",
    "expand",
    "data",
    "cache",
    "explain",
    "schema",
    "completion",
]
TUNEC = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]
WRONG = "[method]\nrank = 0\n"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Tunec = Callable[..., Done]


@pytest.fixture
def tunec(capsys: pytest.CaptureFixture[str]) -> Tunec:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Done:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        code = end.value.code
        assert isinstance(code, int)
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def spec(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound spec; its folder is the working folder."""
    monkeypatch.chdir(workspace)
    return tiny.write_spec(workspace / "spec.toml", "").relative_to(workspace)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect the commands that would take the place of this process."""
    commands: list[list[str]] = []
    monkeypatch.setenv("TUNEC_PYTHON", "")

    def execv(path: str, words: list[str]) -> None:
        assert path == words[0]
        commands.append(words)
        sys.exit(0)

    monkeypatch.setattr(os, "execv", execv)
    return commands


# --- help and usage --------------------------------------------------------------------------------------


def test_help_names_every_verb_and_exit_code(tunec: Tunec) -> None:
    """`tunec --help` shows the way from a starter spec to a model, and what exit codes mean."""
    code, out, _ = tunec("--help")
    assert code == 0
    assert all(f"\n    {verb}" in out for verb in VERBS)
    for step in ("new", "check", "plan", "train", "chat", "export"):
        assert f"tunec {step} run.toml" in out
    assert "exit codes: 0 done; 1 mistakes in the spec; 2 wrong usage" in out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str, tunec: Tunec) -> None:
    """Each verb says in a sentence what it does, and explains each of its options."""
    code, out, err = tunec(verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: tunec {verb} ")
    description = out.split("\n\n")[1]
    assert description[0].isupper()
    assert description.splitlines()[0].endswith(".")
    options = [line.split() for line in out.splitlines() if line.startswith("  -")]
    for words in options:
        assert len(words) > 1, f"{words[0]} is not explained"


def test_version(tunec: Tunec) -> None:
    """`--version` names the program and its version."""
    assert tunec("--version") == (0, f"tunec {VERSION}\n", "")


def test_running_as_a_module() -> None:
    """`python -m` works where the command is not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "tunec.compiler.cli", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"tunec {VERSION}\n"


@pytest.mark.parametrize(
    "words", [[], ["tune"], ["check"], ["plan"], ["check", "--fast", "x"], ["plan", "a", "b"]]
)
def test_wrong_usage(words: list[str], tunec: Tunec) -> None:
    """Unknown verbs and options and missing arguments end with 2, and say how it is used."""
    code, out, err = tunec(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: tunec")


# --- check -----------------------------------------------------------------------------------------------


def test_check_of_a_sound_spec(spec: Path, tunec: Tunec) -> None:
    """Nothing to say is said in one line."""
    assert tunec("check", spec) == (0, "spec.toml: no mistakes found\n", "")


def test_check_shows_every_mistake_at_its_place(spec: Path, tunec: Tunec) -> None:
    """All findings in one go, each with file, line and column; exit code 1."""
    spec.write_text(
        spec.read_text().replace("rank = 4", "rank = 0").replace("steps = 4", "stepz = 4")
    )
    code, out, _ = tunec("check", spec)
    assert code == 1
    lines = spec.read_text().splitlines()
    assert f"--> spec.toml:{lines.index('rank = 0') + 1}:8" in out
    assert f"--> spec.toml:{lines.index('stepz = 4') + 1}:1" in out
    assert out.endswith("\n2 errors (fix available: tunec check --fix)\n")


def test_warnings_pass_unless_strict(spec: Path, tunec: Tunec) -> None:
    """A warning is shown and does not fail; --strict makes it fail."""
    tiny.write_spec(spec, '[training]\nprecision = "bf16"\n')
    code, out, _ = tunec("check", spec)
    assert (code, "warning[R805]" in out) == (0, True)
    assert tunec("check", "--strict", spec).code == 1


def test_check_without_facts(spec: Path, tunec: Tunec) -> None:
    """--no-facts looks at the text alone."""
    tiny.write_spec(spec, '[model]\npath = "no/such/model"\n')
    assert tunec("check", spec).code == 1
    assert tunec("check", "--no-facts", spec).code == 0


def test_several_specs(spec: Path, tunec: Tunec) -> None:
    """Each spec is checked; one bad one is enough for exit code 1."""
    bad = tiny.write_spec(spec.parent / "bad.toml", WRONG)
    code, out, _ = tunec("check", spec, bad, "none.toml")
    assert code == 1
    assert "spec.toml: no mistakes found" in out
    assert "bad.toml:" in out
    assert "none.toml" in out
    assert tunec("check", spec, spec).code == 0


def test_json(spec: Path, tunec: Tunec) -> None:
    """--format json is one JSON document, for one spec or several."""
    clean = json.loads(tunec("check", "--format", "json", spec).out)
    assert (clean["error_count"], clean["diagnostics"]) == (0, [])
    bad = tiny.write_spec(spec.parent / "bad.toml", WRONG)
    code, out, _ = tunec("check", "--format", "json", spec, bad, bad, "none.toml")
    report = json.loads(out)
    assert code == 1
    assert report["error_count"] == 3
    assert [(item["file"], item["path"]) for item in report["diagnostics"]] == [
        ("bad.toml", "/method/rank"),
        ("bad.toml", "/method/rank"),
        ("none.toml", ""),
    ]


def make_nothing(path: Path) -> None:
    """Leave the path empty."""


INPUTS: dict[str, Callable[[Path], object]] = {
    "missing": make_nothing,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "not UTF-8": lambda path: path.write_bytes(b'[run]\nname = "caf\xe9"\n'),
    "UTF-16": lambda path: path.write_bytes("[run]\n".encode("utf-16")),
    "not TOML": lambda path: path.write_text("run:\n  name: yaml\n"),
    "deep": lambda path: path.write_text("x = " + "[" * 5000),
    "large": lambda path: path.write_text("# " + "x" * 2**21),
    "pipe": lambda path: os.mkfifo(path),
    "dead link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "wrong types": lambda path: path.write_text("run = 1\nmodel = []\ndata = 'x'\nbatch = true\n"),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("verb", ["check", "plan", "compile", "train", "chat"])
@pytest.mark.parametrize("name", INPUTS)
def test_no_spec_ends_in_a_traceback(verb: str, name: str, tmp_path: Path, tunec: Tunec) -> None:
    """Whatever the name of the spec leads to: a message with that name, exit code 1, nothing written."""
    path = tmp_path / "bad.toml"
    INPUTS[name](path)
    before = sorted(tmp_path.iterdir())
    code, out, err = tunec(verb, path)
    assert code == 1
    assert "bad.toml" in (out if verb == "check" else err)
    assert sorted(tmp_path.iterdir()) == before


# --- new -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("data_format", ["messages", "alpaca"])
def test_the_starter_spec_is_sound(
    method: str, device: str, data_format: str, spec: Path, tunec: Tunec
) -> None:
    """What `new` writes has no findings once the files it names are there, and says what comes next."""
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    row = {"instruction": "Say it.", "output": "It."}
    Path("rows.json").write_text(json.dumps([row] * 20))
    data = "rows.json" if data_format == "alpaca" else "data/chat.jsonl"
    done = tunec(
        "new", "my run.toml", "--model", "model", "--data", data, "--format", data_format,
        "--method", method, "--device", device,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "wrote tunec.schema.json\nwrote my run.toml\nnext: edit model and data, then `tunec check 'my run.toml'`\n"
    )
    assert tunec("check", "--strict", "my run.toml").code == 0
    assert tunec("plan", "my run.toml").code == 0


def test_new_writes_over_nothing(spec: Path, tunec: Tunec) -> None:
    """A file that is there stays as it is, exit code 4."""
    before = spec.read_bytes()
    assert tunec("new", spec) == (
        4,
        "",
        "error: spec.toml exists already\n  help: name another file\n",
    )
    assert spec.read_bytes() == before


def test_new_takes_any_text(spec: Path, tunec: Tunec) -> None:
    """Names with quotes and braces are texts in the starter spec, and nothing else."""
    import tomli

    name = 'it\'s "{{ x }}" # früh'
    assert tunec("new", f"{name}.toml", "--model", name, "--data", name).code == 0
    data = tomli.loads(Path(f"{name}.toml").read_text())
    assert (data["run"]["name"], data["model"]["path"]) == (name, name)
    assert data["data"]["sources"][0]["path"] == name


def test_new_in_a_folder_that_cannot_be_made(spec: Path, tunec: Tunec) -> None:
    """A file in the way is a message and exit code 3."""
    code, _, err = tunec("new", "spec.toml/run.toml")
    assert code == 3
    assert err.startswith("error: cannot write spec.toml/run.toml: ")


# --- plan ------------------------------------------------------------------------------------------------


def test_plan_says_what_would_happen(spec: Path, tunec: Tunec) -> None:
    """Files, arithmetic, steps, parameters and memory, each derived value with its reason; nothing is written."""
    code, out, err = tunec("plan", spec)
    assert (code, err) == (0, "")
    for line in (
        "+ train.py        new",
        "batch     4 samples a step = 2 micro x 2 accumulation x 1 process\n",
        "length    4 steps = 0.67 epochs of 24 rows",
        "batch.accumulation_steps = 2   (4 / (2 x 1))",
        "method.alpha = 8.0   (2 x rank 4)",
        "adapters  rank 4, alpha 8, on 14 modules",
    ):
        assert line in out
    assert "GiB a process" in out
    assert not Path("runs").exists()


def test_plan_shows_a_file(spec: Path, tunec: Tunec) -> None:
    """--show prints a generated file as it would be written; for another name it lists them."""
    out = tunec("plan", spec, "--show", "train.py").out
    assert tunec("compile", spec).code == 0
    assert Path("runs/first/train.py").read_text() == out
    code, _, err = tunec("plan", spec, "--show", "train.sh")
    assert code == 2
    assert "there is no generated file `train.sh`" in err
    assert "train.py, chat.py, export.py" in err


# --- compile ---------------------------------------------------------------------------------------------


def test_compile_is_idempotent(spec: Path, tunec: Tunec) -> None:
    """First everything is new, then everything is as it is."""
    first, second = tunec("compile", spec), tunec("compile", spec)
    assert (first.code, second.code) == (0, 0)
    assert {line[:2] for line in first.out.splitlines()[:-1]} == {"+ "}
    assert {line[:2] for line in second.out.splitlines()[:-1]} == {"= "}
    assert first.out.splitlines()[-1] == "next: runs/first/launch.sh, or `tunec train spec.toml`"
    tiny.write_spec(spec, "[training]\nsteps = 5\n")
    changed = [line for line in tunec("compile", spec).out.splitlines() if line[0] == "~"]
    assert "~ runs/first/train.py" in changed


def test_compile_keeps_edits(spec: Path, tunec: Tunec) -> None:
    """A file changed by hand ends it with 4 and is not touched; --force gives it up."""
    tunec("compile", spec)
    program = Path("runs/first/train.py")
    program.write_text("mine\n")
    code, out, err = tunec("compile", spec)
    assert (code, out) == (4, "")
    assert "train.py in " in err
    assert "was changed by hand" in err
    assert program.read_text() == "mine\n"
    assert tunec("compile", "--force", spec).code == 0
    assert program.read_text() != "mine\n"


def test_mistakes_compile_to_nothing(spec: Path, tunec: Tunec) -> None:
    """A spec with errors writes no file; the report goes to standard error."""
    tiny.write_spec(spec, WRONG)
    for verb in ("plan", "compile", "train", "chat", "export"):
        code, out, err = tunec(verb, spec)
        assert (code, out) == (1, "")
        assert "error[T210]" in err
    assert not Path("runs").exists()


# --- train, chat, export ---------------------------------------------------------------------------------


def test_train_compiles_and_becomes_the_launcher(
    spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """The files are written, then launch.sh takes the place of tunec."""
    assert tunec("train", spec).code == 0
    script = Path("runs/first/launch.sh").absolute()
    assert replaced == [[str(script)]]
    assert script.exists()
    assert os.environ["TUNEC_PYTHON"] == sys.executable
    tunec("train", spec, "--resume")
    assert replaced[-1] == [str(script), "--resume"]


def test_the_plan_of_a_run_that_stands_in_the_way(spec: Path, tunec: Tunec) -> None:
    """What compiling would refuse, the plan does not promise."""
    tunec("compile", spec)
    Path("runs/first/metrics.jsonl").write_text('{"step": 1}\n')
    changed = ["--set", "training.learning_rate=0.5"]
    assert tunec("compile", spec, *changed).code == 4
    out = tunec("plan", spec, *changed).out
    assert "~ train.py        differs\n" in out
    assert (
        "the folder holds a run of another spec: nothing is written unless `tunec train --overwrite` ends it\n"
    ) in out
    assert "rewritten" not in out


def test_an_existing_run_is_neither_resumed_nor_overwritten(
    spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """Without a word on it, the run is left alone, and the message says what each choice would do."""
    tunec("compile", spec)
    step = Path("runs/first/checkpoints/step-2")
    step.mkdir(parents=True)
    (step / "MANIFEST.json").touch()
    code, _, err = tunec("train", spec)
    assert code == 4
    assert err == (
        f"error: {Path('runs/first').absolute()} holds a run that reached step 2 of 4\n"
        "  help: `tunec train spec.toml --resume` goes on from step 2; `tunec train spec.toml --overwrite` "
        "deletes its checkpoints, logs and weights and starts again\n"
    )
    Path("runs/first/result.json").write_text('{"status": "done"}')
    assert "holds a run that finished" in tunec("train", spec).err
    assert replaced == []
    assert tunec("train", spec, "--resume", "--overwrite").code == 2
    assert tunec("train", spec, "--overwrite").code == 0
    assert replaced[-1][1:] == ["--overwrite"]


def test_on_existing_in_the_spec_decides(
    spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """What a scheduler's requeue needs stands in the spec; a flag goes before it."""
    tiny.write_spec(spec, '[run]\non_existing = "resume"\n')
    tunec("train", spec)
    assert replaced[-1][1:] == ["--resume"]
    tunec("train", spec, "--overwrite")
    assert replaced[-1][1:] == ["--overwrite"]


def test_a_changed_spec_does_not_resume(
    spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """Another learning rate is another run: exit code 4, with the difference."""
    tunec("compile", spec)
    Path("runs/first/metrics.jsonl").touch()
    tiny.write_spec(spec, "[training]\nlearning_rate = 5e-3\n")
    code, _, err = tunec("train", spec, "--resume")
    assert code == 4
    assert "holds a run of another spec\n  training.learning_rate: 0.01 there, 0.005 now\n" in err
    assert replaced == []


@pytest.mark.parametrize("verb", ["chat", "export"])
def test_programs_get_their_options(
    verb: str, spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """chat and export become their compiled programs; all further words are theirs, --help too."""
    for words in ([], ["--help"], ["--prompt", "two words", "-x", "--"]):
        assert tunec(verb, spec, *words).code == 0
        program = str(Path(f"runs/first/{verb}.py").absolute())
        assert replaced[-1] == [sys.executable, program, *words]


def test_without_the_runtime_nothing_is_started(
    spec: Path, tunec: Tunec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a laptop without torch, working verbs say what to install, and write nothing."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for verb in ("train", "chat", "export"):
        code, _, err = tunec(verb, spec)
        assert code == 3
        assert "this Python has no torch, transformers, peft, deepspeed" in err
        assert "pip install 'tunec[train]'" in err
    assert not Path("runs").exists()


def test_a_launcher_that_cannot_be_started(
    spec: Path, tunec: Tunec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk mounted without the right to run programs is a message and exit code 3."""

    def refuse(path: str, words: list[str]) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "execv", refuse)
    monkeypatch.setenv("TUNEC_PYTHON", "")
    code, _, err = tunec("train", spec)
    assert code == 3
    assert err.endswith("launch.sh: Permission denied\n")


# --- --set ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "show", "plan", "compile", "train", "chat", "export"])
def test_every_verb_with_a_spec_takes_changes(
    verb: str, spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """--set changes the spec before or behind its name, several times; a mistake in it is shown as a flag's."""
    changes = ["--set", "run.name=changed", "--set=method.rank=2"]
    for words in ([*changes, str(spec)], [str(spec), *changes]):
        assert tunec(verb, *words).code == 0
    if verb == "compile":
        typed = tunec(verb, spec, *changes, "--force").out.splitlines()[-1]
        assert typed.endswith("`tunec train spec.toml --set=run.name=changed --set=method.rank=2`")
    if verb in ("compile", "train", "chat", "export"):
        assert 'name = "changed"' in Path("runs/first/spec.toml").read_text()
        assert "rank=2" in Path("runs/first/train.py").read_text()
    done = tunec(verb, spec, "--set", "method.rank=0")
    assert done.code == 1
    assert " --> --set method.rank=0\n" in done.out + done.err
    assert [words for words in replaced if "--set" in words] == []


@pytest.mark.parametrize("verb", ["chat", "export"])
def test_programs_keep_what_is_behind_two_dashes(
    verb: str, spec: Path, tunec: Tunec, replaced: list[list[str]]
) -> None:
    """Words behind `--` are the program's, whatever they are; so are its own options beside --set."""
    words = ["--prompt", "a", "--set", "method.rank=2", "--", "--set", "x"]
    assert tunec(verb, spec, *words).code == 0
    assert replaced[-1][2:] == ["--prompt", "a", "--", "--set", "x"]
    done = tunec(verb, spec, "--set")
    assert (done.code, done.err.splitlines()[0]) == (1, "error[P140]: the flag is no `key=value`")


def test_several_files(spec: Path, tunec: Tunec) -> None:
    """A base in the spec is followed by every verb; a wrong base stops them all."""
    Path("base.toml").write_text("[run]\nname = 'of the base'\n")
    run = Path("run.toml")
    run.write_text("extends = ['base.toml']\n" + spec.read_text())
    assert tunec("check", run) == (0, "run.toml: no mistakes found\n", "")
    assert tunec("compile", run).code == 0
    assert 'name = "of the base"' in Path("runs/first/spec.toml").read_text()
    Path("base.toml").unlink()
    for verb in ("check", "show", "plan", "compile", "train", "chat", "export"):
        done = tunec(verb, run)
        assert done.code == 1
        assert "error[P131]: the base `base.toml` cannot be used" in done.out + done.err


def test_checking_one_file_loads_no_more_than_before(spec: Path) -> None:
    """What puts specs together is loaded only for those that are put together."""
    script = (
        "import sys\nfrom tunec.compiler.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        "    print([n for n in ('compose', 'composition', 'show', 'api', 'cli.train') if f'tunec.compiler.{n}' in sys.modules])"
    )
    for words, loaded in (([], "[]"), (["--set", "run.name=x"], "['compose', 'composition']")):
        done = subprocess.run(
            [sys.executable, "-c", script, "check", str(spec), *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == loaded


# --- fetch -----------------------------------------------------------------------------------------------


def test_fetch_refuses_before_it_starts(spec: Path, tunec: Tunec) -> None:
    """A source that is not there and a folder that is end it at once."""
    assert tunec("fetch", "none.gguf", "new") == (3, "", "error: there is no `none.gguf`\n")
    code, _, err = tunec("fetch", "org/name", "model")
    assert (code, err) == (
        4,
        "error: model exists already\n  help: remove it, or name another folder\n",
    )
    code, _, err = tunec("fetch", "package:no-such-thing", "new")
    assert code == 3
    assert "no installed package `no-such-thing` carries a GGUF file" in err


# --- expand ----------------------------------------------------------------------------------------------


def test_expand_refuses_before_it_starts(spec: Path, tunec: Tunec) -> None:
    """Blocks that do not divide, a source that is not there and a folder that is end it at once."""
    code, _, err = tunec("expand", "./model", "new", "--blocks", "3")
    assert (code, err) == (
        2,
        "error: 2 blocks do not divide into 3 groups, each with one new block\n  help: 2 divides by 1, 2\n",
    )
    assert tunec("expand", "./none", "new", "--blocks", "1").code == 3
    assert tunec("expand", "./model", "model", "--blocks", "1").code == 4


# --- explain ---------------------------------------------------------------------------------------------


def test_explain_by_topic(tunec: Tunec) -> None:
    """A code, a section, a key, and nothing at all."""
    assert tunec("explain", "R811").out.startswith("R811: batch does not divide\n\nThe numbers of")
    assert tunec("explain", "r811").out == tunec("explain", "R811").out
    assert tunec("explain", "method.rank").out.startswith(
        "method.rank: whole number, at least 1, default 8\n"
    )
    section = tunec("explain", "batch").out
    assert "\n  global_size: " in section
    assert "\n  micro_size: " in section
    assert "sections of a spec:" in tunec("explain").out


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("R8111", "`R81"),
        ("method.rnak", "`method.rank`"),
        ("methods", "`method`"),
        ("rank", "`method.rank`"),
        (
            "every_steps",
            "`evaluation.every_steps`, `checkpoints.every_steps`, `logging.every_steps`",
        ),
    ],
)
def test_explain_suggests(topic: str, hint: str, tunec: Tunec) -> None:
    """A topic nobody knows ends with 2 and the names it may have meant."""
    code, _, err = tunec("explain", topic)
    assert code == 2
    assert err.startswith(f"error: there is no code or setting `{topic}`\n  help: did you mean ")
    assert hint in err


def test_explain_without_a_hint(tunec: Tunec) -> None:
    """Nothing is suggested where nothing is near."""
    assert tunec("explain", "§§§") == (2, "", "error: there is no code or setting `§§§`\n")


# --- the process -----------------------------------------------------------------------------------------


def test_checking_loads_nothing_heavy(spec: Path) -> None:
    """check and plan work without torch, transformers and the runtime, and so start at once."""
    script = (
        "import sys\nfrom tunec.compiler.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('torch', 'transformers', 'peft', 'numpy', 'deepspeed', 'yaml') or n.startswith('tunec.runtime')))"
    )
    for verb in ("check", "plan"):
        done = subprocess.run(
            [sys.executable, "-c", script, verb, str(spec)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]"


def test_checking_loads_no_template_engine(spec: Path) -> None:
    """Jinja is for verbs that render."""
    script = "import sys\nfrom tunec.compiler.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n    print('jinja2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", str(spec)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("words", [["--help"], ["explain", "training"], ["check", "spec.toml"]])
def test_a_reader_that_goes_away(words: list[str], spec: Path) -> None:
    """`tunec ... | head` ends quietly."""
    command = [*TUNEC, *words]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_without_unicode(spec: Path) -> None:
    """A character the terminal cannot show appears as its number."""
    Path("früh.toml").write_text(spec.read_text())
    done = subprocess.run(
        [*TUNEC, "check", "früh.toml"],
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"fr\\xfch.toml: no mistakes found\n")


def test_a_name_that_is_no_text(spec: Path) -> None:
    """File names are bytes: one that is no UTF-8 is checked like any other."""
    name = b"caf\xe9.toml"
    Path(os.fsdecode(name)).write_text(spec.read_text())
    for verb in ("check", "plan", "compile"):
        done = subprocess.run([*TUNEC, verb, name], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run([*TUNEC, "new", b"new-\xe9.toml"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_interrupting(spec: Path, tunec: Tunec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130, without a word."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunec.compiler.pipeline.gather", interrupt)
    assert tunec("check", spec) == (130, "", "")

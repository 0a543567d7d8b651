"""From the spec to the prepared data: options of `[template]` in a run folder, and those that are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from tunec.compiler import SpecError, compile_spec, from_toml

THINKS = "{% if enable_thinking is defined %}{{ '<|im_start|>' }}{% endif %}" + tiny.TEMPLATE


def compiled(base: Path, text: str, template: str | None = None) -> Path:
    """Compile a spec with these sections beside a tiny model; return the run folder."""
    tiny.make_model(base / "model")
    tiny.write_chats(base / "data/chat.jsonl", 8)
    if template is not None:
        (base / "model/chat_template.jinja").write_text(template, encoding="utf-8")
    spec = tiny.write_over(base / "run.toml", text)
    return compile_spec(from_toml(spec), base_dir=base)


def test_options_of_the_own_template(tmp_path: Path) -> None:
    """The options are written to the run folder, and the program that prepares the data takes them from there."""
    run = compiled(tmp_path, '[template]\nsystem = "Be \\"brief\\"."\nthinking = "on"\n', THINKS)
    assert 'Be "brief".' in (run / "template_options.jinja").read_text(encoding="utf-8")
    for program in ("prepare.py", "train.py", "preview.py", "chat.py"):
        text = (run / program).read_text(encoding="utf-8")
        assert 'around_template=RUN_DIR / "template_options.jinja"' in text
    done = subprocess.run(
        [sys.executable, str(run / "prepare.py")], capture_output=True, text=True, check=False,
        env={"TUNEC_CACHE": str(tmp_path / "cache"), "PATH": ""}, cwd=run,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(json.loads((run / "prepared.json").read_text())["folder"])
    assert folder.is_dir()


def test_no_options(tmp_path: Path) -> None:
    """A template without options is taken as it is."""
    run = compiled(tmp_path, "")
    assert not (run / "template_options.jinja").exists()
    assert "around_template" not in (run / "prepare.py").read_text(encoding="utf-8")


def test_thoughts_without_loss(tmp_path: Path) -> None:
    """The marks of the template are handed to the preparation."""
    run = compiled(tmp_path, "[objective]\nloss_on_thoughts = false\n")
    text = (run / "prepare.py").read_text(encoding="utf-8")
    assert 'unlearned_thoughts=("<think>", "</think>")' in text


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ('system = ""', "M635"),
        ("efficient_eos = true", "M635"),
        ('thinking = "off"', "M631"),
        ("keep_thoughts = true", "M631"),
        ('thinking = "mixed"', "T204"),
        ("replace_eos = true", "T206"),
    ],
)
def test_refused(tmp_path: Path, option: str, code: str) -> None:
    """What cannot be asked of a template from outside is refused, and not ignored."""
    with pytest.raises(SpecError, match=code):
        compiled(tmp_path, f"[template]\n{option}\n")

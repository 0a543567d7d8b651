"""Rules about secrets: found wherever they stand, and never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from tunec.compiler.diagnostics import Diagnostic
from tunec.compiler.pipeline import analyse
from tunec.compiler.report import render_text
from tunec.compiler.secret_texts import masked

Find = Callable[..., tuple[Diagnostic, ...]]


def of(findings: tuple[Diagnostic, ...], code: str) -> list[Diagnostic]:
    """Return the findings with a code."""
    return [item for item in findings if item.code == code]


SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 10,
    "a GitHub token": "ghp_" + "aB3d" * 9,
    "a GitLab token": "glpat-" + "aB3d" * 5,
    "an API key": "sk-" + "aB3d" * 8,
    "an AWS key": "AKIA" + "ABCD" * 4,
    "a Google key": "AIza" + "aB3d" * 9,
    "a Slack token": "xoxb-" + "1234-" * 4,
    "a key of 40 hexadecimal digits": "0123456789abcdef" * 2 + "01234567",
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_def",
    "a password in an address": "https://me:hunter2@example.org/x",
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("setting", ["run.name", "generation.system", "model.path", "data.name"])
def test_secrets_are_found_and_not_repeated(kind: str, setting: str, found: Find) -> None:
    """Whatever looks like a token is refused wherever it stands, and no message holds it."""
    section, key = setting.split(".")
    secret = SECRETS[kind]
    text = f'[{section}]\n{key} = "{secret}"\n'
    if section == "data":
        text = (
            f'[[data.sources]]\nformat = "messages"\npath = "data/chat.jsonl"\nname = "{secret}"\n'
        )
    findings = found(text)
    (finding,) = of(findings, "S503")
    assert finding.message.endswith(f"holds what looks like {kind}")
    said = [(i.message, i.label, i.notes, i.helps, [x.text for x in i.labels]) for i in findings]
    assert secret not in repr(said)


@pytest.mark.parametrize("kind", SECRETS)
def test_reports_show_lines_without_secrets(kind: str, folder: Path) -> None:
    """The line that holds a secret is shown with stars in its place, as long as it was."""
    secret = SECRETS[kind]
    spec = tiny.write_over(folder / "spec.toml", f'[run]\nname = "{secret}"\n')
    analysis = analyse(spec, {})
    report = render_text(analysis.diagnostics, analysis.source, color=False, width=200)
    assert secret not in report
    assert "name = " in report
    assert "*****" in report


def test_masked_lines_keep_their_length() -> None:
    """Columns stay where they are; commits, names of variables and plain texts stay as they are."""
    for secret in SECRETS.values():
        for line in (f'x = "{secret}"', f'a = 1 # {secret}, "b"', f"k_env = '{secret}' # c"):
            assert len(masked(line)) == len(line)
    assert masked('token_env = "my-token" # x') == 'token_env = "********" # x'
    for line in ('token_env = "HF_TOKEN"', f'revision = "{"a" * 40}"', "früh = 'x'", ""):
        assert masked(line) == line


@pytest.mark.parametrize("text", ["0123456789abcdef" * 2 + "01234567"])
def test_commits_are_no_secrets(text: str, found: Find) -> None:
    """A revision is a commit, and a path may hold one."""
    assert not of(found(f'[model]\nrevision = "{text}"\n'), "S503")
    assert not of(found(f'[model]\npath = "cache/snapshots/{text}"\n'), "S503")


@pytest.mark.parametrize(
    "text",
    [
        '[logging]\ntrackers = [{ type = "wandb", key_env = "not a name" }]\n',
        '[hub]\nrepository = "a/b"\ntoken_env = "hf_abcdefghijklmnop"\n',
        '[[data.sources]]\nformat = "messages"\npath = "data/chat.jsonl"\ntoken_env = "1X"\n',
    ],
)
def test_every_name_of_a_variable_is_checked(text: str, found: Find) -> None:
    """All settings that name a variable are looked at, in every section."""
    (finding,) = of(found(text), "S501")
    assert finding.message.endswith("_env` is not the name of an environment variable")

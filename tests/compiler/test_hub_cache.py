"""Hub models that were fetched before give facts; others give none, and no guess."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny
from tunec.compiler.pipeline import analyse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = """
[model]
path = "org/name"
[data]
max_length = 4096
[method]
type = "lora"
targets = ["q_proj", "quary"]
"""


@pytest.fixture
def cache(workspace: Path) -> Path:
    """A cache of the hub's client that holds the tiny model as `org/name`."""
    folder = workspace / "cache" / "models--org--name"
    shutil.copytree(workspace / "model", folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return workspace / "cache"


def codes(workspace: Path, environ: dict[str, str], more: str = "") -> set[str]:
    """The codes found for a spec that names the hub id."""
    spec = tiny.write_spec(workspace / "spec.toml", SPEC.replace("[data]", f"{more}\n[data]"))
    return {finding.code for finding in analyse(spec, environ).diagnostics}


def test_a_fetched_model_is_looked_into(workspace: Path, cache: Path) -> None:
    """Targets and positions are checked against the files in the client's cache, wherever it is said to be."""
    wanted = {"A801", "M606"}
    assert wanted <= codes(workspace, {"HF_HUB_CACHE": str(cache)})
    (workspace / "home").mkdir()
    (workspace / "home" / "hub").symlink_to(cache)
    assert wanted <= codes(workspace, {"HF_HOME": str(workspace / "home")})
    assert wanted <= codes(workspace, {}, 'cache_dir = "cache"')
    assert wanted <= codes(workspace, {"HF_HUB_CACHE": str(cache)}, f'revision = "{COMMIT}"')


def test_what_was_not_fetched_is_unknown(workspace: Path, cache: Path) -> None:
    """Another revision, an empty cache or a torn download give no finding about the model."""
    unknown = codes(workspace, {"HF_HUB_CACHE": str(workspace / "empty")})
    assert not {"A801", "M606"} & unknown
    assert not {"A801"} & codes(workspace, {"HF_HUB_CACHE": str(cache)}, 'revision = "v2"')
    (cache / "models--org--name" / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert not {"A801", "M602"} & codes(workspace, {"HF_HUB_CACHE": str(cache)})


@pytest.mark.parametrize("revision", ["../../../../etc", "a/../../b", "/abs"])
def test_a_revision_cannot_leave_the_cache(workspace: Path, cache: Path, revision: str) -> None:
    """A revision is a name, whatever it looks like."""
    assert "A801" not in codes(workspace, {"HF_HUB_CACHE": str(cache)}, f'revision = "{revision}"')

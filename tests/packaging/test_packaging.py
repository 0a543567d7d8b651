"""What is shipped: the packages, what they import, and the wheel."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parents[2]
SOURCES = ("compiler", "runtime", "templates")
PROJECT: dict[str, Any] = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIGHT = {"attr", "attrs", "cattrs", "tomli", "jinja2"}
HEAVY = {"torch", "transformers", "peft", "deepspeed", "safetensors", "numpy", "gguf"}


def modules(name: str) -> list[Path]:
    """Return the modules of a source folder."""
    return sorted((ROOT / name).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (top package, line) for each import of a module, wherever it stands; relative ones are `.`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." if node.level else str(node.module).split(".")[0]), node.lineno


def foreign(name: str, allowed: set[str]) -> list[str]:
    """Return the imports of a source folder that are neither standard, relative nor allowed."""
    known = allowed | sys.stdlib_module_names | {"."}
    return [
        f"{path.relative_to(ROOT)}:{line}: {package}"
        for path in modules(name)
        for package, line in imports(path)
        if package not in known
    ]


# --- the tree --------------------------------------------------------------------------------------------


def test_every_package_is_listed() -> None:
    """The list of packages equals the folders with modules: a forgotten one would be missing from the wheel only."""
    folders = {path.parent.relative_to(ROOT) for name in SOURCES for path in modules(name)}
    names = {"tunec." + ".".join(folder.parts) for folder in folders}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == listed
    assert set(listed) == names
    assert [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


def test_the_compiler_is_light() -> None:
    """The compiler imports attrs, cattrs, tomli, Jinja2 and the standard library.

    YAML only to import, tables and one kind of compressed files only where they are named, in extras.
    """
    found = {(place.split(":")[0], place.split(": ")[1]) for place in foreign("compiler", LIGHT)}
    assert found == {
        ("compiler/importers/reading.py", "yaml"),
        ("compiler/facts/tables.py", "pyarrow"),
        ("compiler/facts/heads.py", "zstandard"),
    }
    assert any(
        line.lower().startswith("pyyaml")
        for line in PROJECT["project"]["optional-dependencies"]["import"]
    )
    names = {line.split(">")[0].lower() for line in PROJECT["project"]["dependencies"]}
    assert names == {"attrs", "cattrs", "tomli", "jinja2"}


def test_the_runtime_declares_what_it_imports() -> None:
    """Whatever the runtime imports stands in one of the extras."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"]]
    for name in extras.keys() - {"dev"}:
        lines += extras[name]
    declared = {re.split(r"[\[>=]", line)[0].lower().replace("-", "_") for line in lines}
    declared.add("optimum")  # what optimum-quanto is imported from
    assert foreign("runtime", declared) == []


def test_packages_import_relatively() -> None:
    """Inside a package imports are relative, so that the bare tree type-checks with nothing installed."""
    absolute = [
        f"{path.relative_to(ROOT)}:{line}"
        for name in SOURCES
        for path in modules(name)
        for package, line in imports(path)
        if package == "tunec"
    ]
    assert absolute == []


def test_the_spec_holds_no_logic() -> None:
    """The classes of the spec import attrs, typing and one another, nothing that could do anything."""
    allowed = {"attrs", "typing", "collections", "__future__", "."}
    found = {p for path in modules("compiler/spec") for p, _ in imports(path)}
    assert found <= allowed


def test_imports_go_one_way() -> None:
    """The layers of the architecture hold, and the compiler and the runtime never import each other."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


# --- the wheel -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
         "--quiet", "--wheel-dir", tree / "dist", tree],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = (tree / "dist").glob("tunec-*.whl")
    return found


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    """Every module, template and type marker is in the wheel, under its import name, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"tunec/{path.relative_to(ROOT)}" for name in SOURCES for path in modules(name)}
    expected |= {
        f"tunec/{path.relative_to(ROOT)}"
        for kind in ("*.jinja", "*.toml")
        for path in (ROOT / "templates").rglob(kind)
    }
    expected |= {"tunec/compiler/py.typed", "tunec/runtime/py.typed"}
    assert names == expected


def test_the_wheel_works(wheel: Path, workspace: Path, tmp_path: Path) -> None:
    """Installed from the wheel, the command line writes a starter spec and compiles: its templates are found."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        metadata = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "tunec = tunec.compiler.cli:main" in archive.read(metadata).decode()
    script = (
        f"import sys\nsys.path.insert(0, {str(site)!r})\n"
        "from tunec.compiler import cli\nprint(cli.__file__)\ncli.main(sys.argv[1:])"
    )
    for words in (
        ["new", "run.toml", "--model", "model", "--data", "data/chat.jsonl", "--device", "cpu"],
        ["compile", "run.toml"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=workspace, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(site))
    assert (workspace / "runs" / "run" / "train.py").is_file()

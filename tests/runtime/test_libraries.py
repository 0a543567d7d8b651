"""Optional libraries: a run looks at those it uses only, and what generated programs import first is light."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("transformers", "peft", "deepspeed", "accelerate", "datasets", "hqq", "torchao")


def told(code: str) -> list[str]:
    """Return the words a fresh Python prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_programs_import_no_library_before_they_start() -> None:
    """`session.start` is the first to import transformers, so that it can say what transformers sees."""
    code = (
        "import sys; from tunec.runtime import data, export, inference, models, objectives, session, training; "
        f"print(*sys.modules.keys() & {set(HEAVY)!r})"
    )
    assert told(code) == []


def test_what_a_run_does_not_use_is_not_imported() -> None:
    """transformers and peft see the named library, and none of the others, though all are installed."""
    code = (
        "from tunec.runtime.libraries import leave_out; leave_out(unless=['bitsandbytes']); "
        "from transformers.utils import is_bitsandbytes_available, is_datasets_available, is_hqq_available; "
        "from peft.import_utils import is_bnb_available; import transformers.trainer; "
        "print(is_datasets_available(), is_hqq_available(), is_bnb_available())"
    )
    assert told(code) == ["False", "False", "True"]


def test_nothing_is_left_out_once_transformers_is_there() -> None:
    """A notebook that imported transformers keeps what it has."""
    code = (
        "import transformers; from tunec.runtime.libraries import leave_out; leave_out(unless=()); "
        "import datasets; print(datasets.__name__)"
    )
    assert told(code) == ["datasets"]


def test_optimizers_find_what_they_import() -> None:
    """GaLore and APOLLO import bitsandbytes whichever of their optimizers is used: their runs must not leave it out."""
    from tunec.compiler import from_toml
    from tunec.compiler.facts.model import ModelFacts
    from tunec.compiler.facts.versions import optional_libraries

    modules = {
        "galore_torch": 'type = "galore"',
        "apollo_torch": 'type = "apollo"',
        "badam": 'type = "badam"',
        "schedulefree": 'type = "transformers"\nname = "schedule_free_adamw"',
    }
    model = ModelFacts(state="folder", config={"model_type": "llama"})
    sections = '[run]\noutput_dir = "r"\n[model]\npath = "m"\n[data]\nsources = []\n[method]\ntype = "full"\n[batch]\n'
    lines = ["from tunec.runtime.libraries import OPTIONAL, leave_out", "import sys"]
    for module, optimizer in modules.items():
        spec = from_toml(f"{sections}[optimizer]\n{optimizer}\n")
        packages = optional_libraries(spec, model, training=True)
        lines += [
            f"leave_out(unless={packages!r}); import {module}; print({module}.__name__)",
            "for name in OPTIONAL:",
            "    if sys.modules.get(name, 0) is None: del sys.modules[name]",
        ]
    assert told("\n".join(lines)) == list(modules)

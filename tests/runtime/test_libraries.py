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

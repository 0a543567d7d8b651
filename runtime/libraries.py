"""Optional libraries: a run imports those it uses, however many others this machine has.

transformers and peft import each quantization library they find, and the Trainer imports `datasets`: seconds at the
start of each process, and hundreds of megabytes, for libraries that most runs never call.
"""

from __future__ import annotations

import sys
from collections.abc import Collection

OPTIONAL = ("bitsandbytes", "datasets", "hqq", "optimum", "torchao")


def leave_out(*, unless: Collection[str]) -> None:
    """Let the optional libraries, but for those in `unless`, look as if they were not installed here.

    It changes nothing once transformers is imported: what is there was decided then.
    """
    if "transformers" in sys.modules:
        return
    for name in OPTIONAL:
        if name not in unless and name not in sys.modules:
            # What Python itself understands as: looked for, and not there.
            sys.modules[name] = None  # type: ignore[assignment]

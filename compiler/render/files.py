"""All generated files of a plan."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..plan import Plan
from ..spec import NamedTemplate
from ..targets import target_of
from ..version import VERSION
from .programs import TEMPLATE, render_programs
from .resolved import render_resolved


def render_files(plan: Plan) -> dict[str, str]:
    """Return {path in the run folder: text}; `manifest.json` comes last and digests the others."""
    files = {
        **target_of(plan.spec.launch).render(plan),
        **render_programs(plan),
        "deepspeed.json": _json(plan.deepspeed),
        "spec.toml": render_resolved(plan),
    }
    if isinstance(plan.spec.template, NamedTemplate) and plan.facts.template_text is not None:
        files[TEMPLATE] = plan.facts.template_text
    files["manifest.json"] = _json(_manifest(plan, files))
    return files


def _manifest(plan: Plan, files: dict[str, str]) -> dict[str, Any]:
    return {
        "format": 1,
        "tunec": VERSION,
        "name": plan.spec.run.name,
        "spec": {"name": plan.spec_name, "sha256": plan.spec_sha256},
        "fingerprint": plan.fingerprint,
        "num_steps": plan.duration.num_steps,
        "files": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(files.items())
        },
        "facts": {
            "model": {
                "state": plan.facts.model.state,
                "parameters": plan.facts.model.parameter_count(),
            },
            "data": [
                {"rows": fact.num_rows, "bytes": fact.num_bytes, "sha256": fact.sha256}
                for fact in (*plan.facts.data, *plan.facts.eval_data)
            ],
        },
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n"

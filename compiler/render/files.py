"""All generated files of a plan."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..plan import Plan
from ..spec import NamedTemplate
from ..targets import target_of
from ..version import VERSION
from .model_calls import AROUND, TEMPLATE
from .programs import render_preview, render_programs
from .resolved import render_resolved


def render_files(plan: Plan) -> dict[str, str]:
    """Return {path in the run folder: text}; `manifest.json` comes last and digests the others."""
    files = {
        **target_of(plan.spec.launch).render(plan),
        **render_programs(plan),
        "deepspeed.json": _json(plan.deepspeed),
        "spec.toml": render_resolved(plan),
    }
    files |= _template(plan)
    files["manifest.json"] = _json(_manifest(plan, files))
    return files


def preview_files(plan: Plan) -> dict[str, str]:
    """Return the files that show the data of a plan, whatever becomes of its training."""
    return {"preview.py": render_preview(plan), **_template(plan)}


def _template(plan: Plan) -> dict[str, str]:
    from ..chat import around

    template = plan.spec.template
    if isinstance(template, NamedTemplate):
        name, text = TEMPLATE, plan.facts.template_text
    else:
        name, text = AROUND, around(template)
    return {} if text is None else {name: text}


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

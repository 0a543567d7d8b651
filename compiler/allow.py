"""`[allow]`: warnings the author of a spec knows about and wants no more of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from attrs import frozen

from .diagnostics import Diagnostic, Label, Level, error, warning

CODES: dict[str, str] = {
    "T214": (
        "`[allow]` names what cannot be allowed: a code that does not exist, or one of an error. Only warnings can "
        "be allowed, because a run with an error could not start or would not be what the spec says."
    ),
    "T215": (
        "`[allow]` names a warning that this spec does not give. Remove the line, so that the warning is seen "
        "when it comes back for another reason."
    ),
}

SECTION = "allow"
MAX_FAULTS = 200
WARNINGS_OF_THE_TEXT = ("P101", "P110")
_ALWAYS_ERRORS = re.compile(r"P\d{3}|T20\d")


@frozen
class Allowed:
    """The findings that are left, and how many warnings were allowed."""

    diagnostics: tuple[Diagnostic, ...]
    count: int = 0


def allow(
    diagnostics: Iterable[Diagnostic],
    reasons: Mapping[str, str],
    *,
    is_complete: bool = True,
) -> Allowed:
    """Drop the warnings that `[allow]` names, and report what is wrong with `[allow]` itself.

    Where not everything was looked at (`is_complete` is False), a code without a finding may be allowed for good
    reason.
    """
    found = tuple(diagnostics)
    if not reasons:
        return Allowed(found)
    from .codes import all_codes  # most specs allow nothing, and need no table of codes

    kept = tuple(item for item in found if not _is_allowed(item, reasons))
    codes = frozenset(all_codes())
    judged = (_fault(code, reason, codes, found, is_complete) for code, reason in reasons.items())
    faults = islice((fault for fault in judged if fault is not None), MAX_FAULTS)
    return Allowed((*kept, *faults), len(found) - len(kept))


def _is_allowed(item: Diagnostic, reasons: Mapping[str, str]) -> bool:
    return item.level is not Level.ERROR and bool(reasons.get(item.code, "").strip())


def _fault(
    code: str, reason: str, known: frozenset[str], found: tuple[Diagnostic, ...], is_complete: bool
) -> Diagnostic | None:
    """Return what is wrong with one line of `[allow]`."""
    path = (SECTION, code)
    hits = [item for item in found if item.code == code]
    if code not in known:
        return _unknown(code, known)
    if any(item.level is Level.ERROR for item in hits) or _is_always_error(code):
        return _is_error(code, hits)
    if any(item.code == "T213" and item.path == path for item in found):
        return None  # no reason, which the ranges have said already
    if not reason.strip():
        return error("T213", f"`allow.{code}` is empty", path, helps=("say why it is fine here",))
    if is_complete and not hits:
        return warning(
            "T215",
            f"`{code}` is allowed, but this spec does not give it",
            path,
            label="never found",
            helps=("remove the line",),
        )
    return None


def _is_always_error(code: str) -> bool:
    return bool(_ALWAYS_ERRORS.fullmatch(code)) and code not in WARNINGS_OF_THE_TEXT


def _unknown(code: str, known: frozenset[str]) -> Diagnostic:
    import difflib  # only faulty specs pay for it

    near = difflib.get_close_matches(code.upper(), sorted(known), n=1, cutoff=0.7)
    return error(
        "T214",
        f"there is no warning `{code}` to allow",
        (SECTION, code),
        label="unknown code",
        on_key=True,
        helps=(f"did you mean `{near[0]}`?",) if near else ("codes are like `R806`",),
    )


def _is_error(code: str, hits: list[Diagnostic]) -> Diagnostic:
    labels = tuple(Label(item.path, "found here") for item in hits[:1] if item.offsets is None)
    return error(
        "T214",
        f"`{code}` is an error, only warnings can be allowed",
        (SECTION, code),
        label="an error",
        on_key=True,
        labels=labels,
        helps=(f"correct what `tunec explain {code}` describes",),
    )

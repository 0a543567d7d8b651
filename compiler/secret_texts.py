"""What secrets look like, and lines of a spec without them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

# Repetitions have a limit where another one could begin inside: a spec may hold a mebibyte of anything.
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    # What it is -> the beginnings that it must hold one of, and its pattern.
    "a Hugging Face token": (("hf_",), r"\bhf_[A-Za-z0-9]{16,}"),
    "a GitHub token": (
        ("gh", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    ),
    "a GitLab token": (("glpat-",), r"\bglpat-[\w-]{16,}"),
    "an API key": (("sk-", "rk-"), r"\b(?:sk|rk)-[A-Za-z0-9_-]{16,}"),
    "an AWS key": (("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google key": (("AIza",), r"\bAIza[\w-]{30,}"),
    "a Slack token": (("xox",), r"\bxox[abprs]-[\w-]{10,}"),
    "a JSON web token": (("eyJ",), r"\beyJ[\w-]{8,200}\.eyJ[\w.-]{8,}"),
    "a private key": (("-----BEGIN ",), r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY"),
    "a password in an address": (
        ("://",),
        r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,300}:[^\s/@]{1,1000}@",
    ),
    "a signed address": (
        ("://",),
        r"(?i)(?<=[?&])(?:x-amz-signature|x-goog-signature|signature|sig|token|access_token|api_?key)=[^\s&]{8,}",
    ),
}
TOKEN_STARTS = ("hf_", "sk_", "ghp_")
"""Beginnings of tokens that could be names of variables as well, but never are."""
COMMITS = frozenset({"revision"})
"""Settings that hold a commit, which looks like a key of Weights & Biases."""


def kind_of_secret(text: str, key: object = None) -> str | None:
    """Return what a text looks like, such as `a GitHub token`, or None; `key` is the setting's name."""
    for kind, pattern in _possible(text):
        if pattern.search(text):
            return kind
    if key not in COMMITS and len(text) == 40 and re.fullmatch("[0-9a-f]*", text):
        return "a key of 40 hexadecimal digits"
    return None


def _possible(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    # Patterns are compiled for texts that may fit: most specs need none.
    for kind, (starts, pattern) in KINDS.items():
        if any(start in text for start in starts):
            yield kind, re.compile(pattern)


def is_variable(text: str) -> bool:
    """Tell whether a text can be the name of an environment variable, and is no token."""
    is_name = text.isascii() and text.isidentifier()
    return is_name and not text.startswith(TOKEN_STARTS)


@lru_cache(maxsize=8)  # many findings may be about one enormous line
def masked(line: str) -> str:
    """Return a line of a spec with stars in place of what looks like a secret; its length stays the same."""
    for _, pattern in _possible(line):
        line = pattern.sub(lambda found: "*" * len(found[0]), line)
    if "revision" not in line:
        line = re.sub(r"(?<=[\"'])[0-9a-f]{40}(?=[\"'])", "*" * 40, line)
    if "_env" not in line:
        return line
    return re.sub(r"(\w_env\s*=\s*[\"'])([^\"']*)", lambda found: found[1] + _named(found[2]), line)


def _named(text: str) -> str:
    return text if is_variable(text) else "*" * len(text)

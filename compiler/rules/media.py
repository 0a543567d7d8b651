"""Images, videos and sound: limits, and models that take none."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error, warning
from ..facts import Facts
from ..facts.config import sees_or_hears
from ..spec import Spec
from .look import changed
from .rule import Rule

PARTS = ("train_vision_tower", "train_projector", "train_language_model")


def check_limits(spec: Spec) -> Iterator[Diagnostic]:
    """The least area of a picture is above the largest.

    Fails:
    ```toml
    [media]
    image_max_pixels = 512
    ```
    Passes:
    ```toml
    [media]
    image_max_pixels = 262144
    ```
    """
    for kind in ("image", "video"):
        low = getattr(spec.media, f"{kind}_min_pixels")
        high = getattr(spec.media, f"{kind}_max_pixels")
        if low > high:
            yield error(
                "M641",
                f"`{kind}_min_pixels` is {low:,}, `{kind}_max_pixels` is {high:,}",
                ("media", f"{kind}_max_pixels"),
                label="below the least",
                labels=(Label(("media", f"{kind}_min_pixels"), "the least"),),
            )


def check_text_only(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Settings about media, but the model reads text only.

    Fails:
    ```toml
    [media]
    video_fps = 1.0
    ```
    Passes:
    ```toml
    [media]
    video_fps = 2.0
    ```
    """
    if not facts.model.has_config or sees_or_hears(facts.model.config):
        return
    for field in (name for name in changed(spec.media) if name != "train_language_model"):
        yield warning(
            "M642",
            f"`media.{field}` has no effect: the model reads text only",
            ("media", field),
            labels=(Label(("model", "path"), "no part of it sees or hears"),),
            helps=("remove it",),
        )


def check_parts(spec: Spec) -> Iterator[Diagnostic]:
    """No part of the model is trained.

    Fails:
    ```toml
    [media]
    train_language_model = false
    ```
    Passes:
    ```toml
    [media]
    train_language_model = true
    ```
    """
    if not any(getattr(spec.media, part) for part in PARTS):
        yield error(
            "M643",
            "every part of the model is frozen",
            ("media", "train_language_model"),
            labels=tuple(Label(("media", part), "frozen as well") for part in PARTS[:2]),
            helps=("train at least one of them",),
        )


def check_trained_parts(spec: Spec) -> Iterator[Diagnostic]:
    """A part is to be trained that texts do not reach.

    A text passes the language model alone. An encoder gets no gradient from it, nor does the projector: only weight
    decay would change them.

    Fails:
    ```toml
    [media]
    train_projector = true
    ```
    Passes:
    ```toml
    [media]
    train_projector = false
    ```
    """
    for part in (name for name in PARTS[:2] if getattr(spec.media, name)):
        yield error(
            "M644",
            f"`{part}` would train nothing: from texts no gradient gets there",
            ("media", part),
            notes=("rows with images, videos or sound are not available yet",),
            helps=("remove it",),
        )
    if not spec.media.train_language_model and any(getattr(spec.media, p) for p in PARTS[:2]):
        yield error(
            "M644",
            "the language model is frozen, and texts pass no other part",
            ("media", "train_language_model"),
            notes=("rows with images, videos or sound are not available yet",),
            helps=("remove it",),
        )


RULES = (
    Rule("M641", "least above largest", pure=check_limits),
    Rule("M642", "model reads text only", factual=check_text_only),
    Rule("M643", "every part frozen", pure=check_parts),
    Rule("M644", "part that texts do not reach", pure=check_trained_parts),
)

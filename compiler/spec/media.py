"""`[media]`: images, videos and sound."""

from __future__ import annotations

from .kinds import section


@section
class Media:
    """How media become model inputs, and which parts of a multimodal model are trained."""

    dir: str | None = None
    """Folder that media paths start from, relative to the spec. Default: the folder of the data file."""

    image_max_pixels: int = 768 * 768
    """Images with more pixels (width x height) are shrunk to this area."""

    image_min_pixels: int = 32 * 32
    """Images with fewer pixels are enlarged to this area."""

    pan_and_scan: bool = False
    """Crop images into windows (Gemma 3)."""

    tiles: bool = False
    """Cut images into tiles (InternVL)."""

    video_max_pixels: int = 256 * 256
    """Area cap of a video frame."""

    video_min_pixels: int = 16 * 16
    """Area floor of a video frame."""

    video_fps: float = 2.0
    """Frames taken from a second of video."""

    video_max_frames: int = 128
    """Most frames of one video."""

    video_sound: bool = False
    """Interleave the sound track with the frames (Qwen Omni)."""

    audio_rate_hz: int = 16000
    """Sampling rate that sound is converted to."""

    train_vision_tower: bool = False
    """Train the image and sound encoders."""

    train_projector: bool = False
    """Train the projector between encoder and language model."""

    train_language_model: bool = True
    """Train the language model."""

"""Inference: talking to a model."""

from .chat import chat

__all__ = ["chat"]

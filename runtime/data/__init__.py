"""From files to the tokens the loss sees."""

from .conversation import Conversation, Message
from .formats import Alpaca, Messages, ShareGpt, Source
from .packing import pack
from .prepare import prepare
from .prepared import load
from .read import read
from .samples import Samples, split
from .tokenize import tokenize
from .tokenizer import Tokenizer
from .tool_calls import ToolCall
from .work import Options

__all__ = [
    "Alpaca",
    "Conversation",
    "Message",
    "Messages",
    "Options",
    "Samples",
    "ShareGpt",
    "Source",
    "Tokenizer",
    "ToolCall",
    "load",
    "pack",
    "prepare",
    "read",
    "split",
    "tokenize",
]

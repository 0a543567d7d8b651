"""From files to the tokens the loss sees."""

from .conversation import Conversation, Message
from .fitting import Options
from .formats import Alpaca, Messages, Preference, Prompts, ShareGpt, Source, Text
from .joining import join
from .mismatch import mismatch
from .packing import pack
from .prepare import prepare
from .prepared import load
from .read import read
from .samples import Samples, split
from .stream import feed, head, stream
from .tokenize import tokenize
from .tokenizer import Tokenizer
from .tool_calls import ToolCall

__all__ = [
    "Alpaca",
    "Conversation",
    "Message",
    "Messages",
    "Options",
    "Preference",
    "Prompts",
    "Samples",
    "ShareGpt",
    "Source",
    "Text",
    "Tokenizer",
    "ToolCall",
    "feed",
    "head",
    "join",
    "load",
    "mismatch",
    "pack",
    "prepare",
    "read",
    "split",
    "stream",
    "tokenize",
]

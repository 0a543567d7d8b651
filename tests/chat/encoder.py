"""A second reading of the templates: the slots of a table of our own one after another, without Jinja.

It notes which characters are learned.
"""

from __future__ import annotations

import re
from typing import Any

from tunec.compiler.spec.tokenizer import NamedTemplate

from .printed import CALLS, TOOLS, dump
from .slots import Slots

Message = dict[str, Any]
BOS, EOS = "<BOS>", "<EOS>"


class Encoder:
    """Text and learned characters of one conversation."""

    def __init__(self, template: Slots, section: NamedTemplate) -> None:
        self.template = template
        self.section = section
        self.format = section.tool_format or template.tool_format
        self.own_calls = self.format == template.tool_format
        self.pieces: list[tuple[str, bool]] = []

    def put(self, text: str, *, learned: bool = False) -> None:
        if text:
            self.pieces.append((text, learned))

    def encode(
        self, messages: list[Message], tools: list[Any]
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of the conversation, and its learned spans."""
        system = self.system(messages, tools)
        self.put(marks(self.template.prefix))
        if not self.template.system_in_user:
            self.put(system)
            system = ""
        for place, message in enumerate(messages):
            if message["role"] == "user":
                self.turn(self.template.user, system + said(message), messages, place)
                system = ""
            elif message["role"] == "tool":
                self.results(messages, place)
            elif message["role"] == "assistant":
                self.answer(messages, place)
        return self.result()

    def system(self, messages: list[Message], tools: list[Any]) -> str:
        section, template = self.section, self.template
        text = template.default_system if section.system is None else section.system
        if messages[0]["role"] == "system" and messages[0]["content"]:
            text = messages[0]["content"]
        if tools and self.own_calls and template.tool_list:
            text += template.tool_list.replace("{{content}}", dump(tools))
        elif tools:
            text += TOOLS[self.format](tools)
        slot = template.system.replace("<|think|>", "" if self.mode == "off" else "<|think|>")
        return fill(slot, text) if text else ""

    def turn(self, slot: str, text: str, messages: list[Message], place: int) -> None:
        """A stop word that opens a turn is learned where the answer before it has no end of its own."""
        turn = fill(slot, text)
        stop = next((word for word in self.template.stop if slot.startswith(word)), "")
        unended = place > 0 and messages[place - 1]["role"] == "assistant"
        unended = unended and not self.dropped(messages, place - 1)
        if stop and unended and not ending(self.template)[0].strip():
            self.put(stop, learned=True)
            turn = turn[len(stop) :]
        self.put(turn)

    def results(self, messages: list[Message], place: int) -> None:
        slot = self.template.tool or self.template.user
        if not self.template.result:
            self.turn(slot, said(messages[place]), messages, place)
        elif messages[place - 1]["role"] != "tool":
            end = place
            while end < len(messages) and messages[end]["role"] == "tool":
                end += 1
            run = [fill(self.template.result, said(one)) for one in messages[place:end]]
            self.turn(slot, "\n".join(run), messages, place)

    def answer(self, messages: list[Message], place: int) -> None:
        template, message = self.template, messages[place]
        text, dropped = said(message), self.dropped(messages, place)
        head = marks(template.assistant.split("{{content}}")[0])
        self.put(marks(template.opening))
        empty = template.empty_thought or "".join(template.thought)
        if template.thought:
            if message.get("reasoning_content") and self.mode != "off":
                thought = message["reasoning_content"].strip("\n")
                text = template.thought[0] + thought + template.thought[1] + text.lstrip("\n")
            bare = not self.thinks(text)
            if self.mode == "off":
                self.put(head + empty)
                text, head = self.without_thought(text), ""
            elif bare and self.mode == "mixed":
                self.put(head + empty)
                head = ""
            elif bare:
                head += empty
            elif dropped:
                head += template.instead_of_thought
                text = self.without_thought(text)
        self.put(head_and_calls(self, head, text, message), learned=not dropped)
        end, after = ending(template)
        self.put(end, learned=not dropped)
        self.put(after)
        last = place == len(messages) - 1
        if self.efficient and last:
            self.put(EOS, learned=True)
        elif self.efficient:
            self.put(template.turn_end)

    @property
    def mode(self) -> str:
        return "on" if self.section.thinking == "own" else self.section.thinking

    @property
    def efficient(self) -> bool:
        given = self.section.efficient_eos
        return self.template.efficient_eos if given is None else given

    def thinks(self, text: str) -> bool:
        return any(word.strip() in text for word in self.template.thought)

    def without_thought(self, text: str) -> str:
        first, last = (re.escape(word.strip()) for word in self.template.thought)
        return re.sub(f"{first}(.*?){last}", "", text, flags=re.DOTALL).lstrip("\n")

    def dropped(self, messages: list[Message], place: int) -> bool:
        if not self.template.thought or self.mode == "off" or self.section.keep_thoughts:
            return False
        earlier = any(message["role"] == "user" for message in messages[place:])
        thought = messages[place].get("reasoning_content") or self.thinks(said(messages[place]))
        return bool(earlier and thought)

    def result(self) -> tuple[str, list[tuple[int, int]]]:
        spans, place = [], 0
        for text, learned in self.pieces:
            if learned:
                spans.append((place, place + len(text)))
            place += len(text)
        return "".join(text for text, _ in self.pieces), joined(spans)


def head_and_calls(encoder: Encoder, head: str, text: str, message: Message) -> str:
    """An answer in full: the calls come after what is said, in the slot of calls where there is one."""
    if not message.get("tool_calls"):
        return head + text
    calls = [
        (call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]
    ]
    shown = CALLS[encoder.format](calls)
    on_own_line = encoder.format in ("default", "glm4", "llama3")
    if on_own_line and text and not text.endswith("\n"):
        shown = "\n" + shown
    if not encoder.own_calls or not encoder.template.call or encoder.template.thought:
        return head + text + shown
    begin = encoder.template.call.split("{{content}}")[0]
    if not text:
        return begin + shown
    if not on_own_line:
        return head + text + begin + shown
    line = "" if text.endswith("\n") else "\n"
    return head + text + line + begin + shown.removeprefix("\n")


def ending(template: Slots) -> tuple[str, str]:
    """Return the end of an answer, and the white space after its last mark."""
    tail = marks(template.assistant.split("{{content}}")[1])
    found = re.fullmatch(r"(.*\S)(\s*)", tail, re.DOTALL)
    return (found[1], found[2]) if found else (tail, "")


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans without empty ones, those that touch made one."""
    out: list[tuple[int, int]] = []
    for start, end in spans:
        if start == end:
            continue
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def said(message: Message) -> str:
    return message.get("content") or ""


def marks(slot: str) -> str:
    return slot.replace("{{bos}}", BOS).replace("{{eos}}", EOS)


def fill(slot: str, text: str) -> str:
    before, after = slot.split("{{content}}")
    return marks(before) + text + marks(after)

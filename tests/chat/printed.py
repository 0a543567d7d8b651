"""How each tool format prints tools and calls: written a second time, in Python, to hold the Jinja text against."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Tool = dict[str, Any]


def dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def text(value: Any) -> str:
    return value if isinstance(value, str) else dump(value)


def bare(tool: Tool) -> Tool:
    function: Tool = tool.get("function", tool)
    return function


def wrapped(tool: Tool) -> Tool:
    return {"type": "function", "function": bare(tool)}


XML_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
XML_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>'
)


def tools_default(tools: list[Tool]) -> str:
    shown = ""
    for tool in map(bare, tools):
        shown += f"> Tool Name: {tool['name']}\nTool Description: {tool.get('description', '')}\nTool Args:\n"
        schema = tool.get("parameters", {})
        for name, about in schema.get("properties", {}).items():
            must = ", required" if name in schema.get("required", []) else ""
            one_of = f", should be one of [{', '.join(about['enum'])}]" if "enum" in about else ""
            each = (
                f", where each item should be {about['items'].get('type', '')}"
                if "items" in about
                else ""
            )
            shown += f"  - {name} ({about.get('type', '')}{must}): {about.get('description', '')}{one_of}{each}\n"
        shown += "\n"
    names = ", ".join(bare(tool)["name"] for tool in tools)
    return (
        f"You have access to the following tools:\n{shown}Use the following format if using a tool:\n```\n"
        f"Action: tool name (one of [{names}])\nAction Input: the input to the tool, in a JSON format representing "
        'the kwargs (e.g. ```{"input": "hello world", "num_beams": 5}```)\n```\n'
    )


def tools_glm4(tools: list[Tool]) -> str:
    return (
        "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
    ) + "".join(
        f"\n\n## {tool['name']}\n\n{dump(tool, 4)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
        for tool in map(bare, tools)
    )


def tools_llama3(tools: list[Tool]) -> str:
    return (
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        "You have access to the following functions. To call a function, please respond with JSON for a "
        'function call. Respond in the format {"name": function name, "parameters": dictionary of argument '
        "name and its value}. Do not use variables.\n\n"
    ) + "".join(dump(wrapped(tool), 4) + "\n\n" for tool in tools)


def tools_gemma4(tools: list[Tool]) -> str:
    def quote(value: str) -> str:
        return f'<|"|>{value}<|"|>'

    def declare(tool: Tool) -> str:
        shown = f"declaration:{tool['name']}{{description:{quote(tool.get('description', ''))}"
        if schema := tool.get("parameters"):
            parts = []
            if schema.get("properties"):
                inner = []
                for name, about in schema["properties"].items():
                    pairs = []
                    if about.get("description"):
                        pairs.append("description:" + quote(about["description"]))
                    if about.get("type"):
                        pairs.append("type:" + quote(about["type"].upper()))
                    inner.append(f"{name}:{{{','.join(pairs)}}}")
                parts.append(f"properties:{{{','.join(inner)}}}")
            if schema.get("required"):
                parts.append(f"required:[{','.join(map(quote, schema['required']))}]")
            if schema.get("type"):
                parts.append("type:" + quote(schema["type"].upper()))
            shown += f",parameters:{{{','.join(parts)}}}"
        return f"<|tool>{shown}}}<tool|>"

    return "".join(declare(bare(tool)) for tool in tools)


def lines(tools: list[Tool], form: Callable[[Tool], Tool]) -> str:
    return "".join("\n" + dump(form(tool)) for tool in tools)


TOOLS: dict[str, Callable[[list[Tool]], str]] = {
    "default": tools_default,
    "gemma4": tools_gemma4,
    "glm4": tools_glm4,
    "glm4_moe": lambda tools: (
        f"\n\n{XML_HEAD}{lines(tools, wrapped)}\n</tools>\n\nFor each function call, output the function name and "
        "arguments within the following XML format:\n<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n"
        "<arg_value>{arg-value-1}</arg_value>\n<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n"
        "...\n</tool_call>\n"
    ),
    "lfm2": lambda tools: (
        f"List of tools: <|tool_list_start|>{dump([bare(tool) for tool in tools])}<|tool_list_end|>"
    ),
    "ling": lambda tools: f"{XML_HEAD}{lines(tools, wrapped)}{XML_TAIL}\ndetailed thinking off",
    "llama3": tools_llama3,
    "minimax1": lambda tools: (
        "You are provided with these tools:\n<tools>"
        + lines(tools, bare)
        + "\n</tools>\n\nIf you need to call tools, please respond with <tool_calls></tool_calls> XML tags, and "
        "provide tool-name and json-object of arguments, following the format below:\n<tool_calls>\n"
        '{"name": <tool-name-1>, "arguments": <args-json-object-1>}\n...\n</tool_calls>'
    ),
    "minimax2": lambda tools: (
        "\n\n# Tools\n\nYou may call one or more tools to assist with the user query.\nHere are the tools available "
        "in JSONSchema format:\n\n<tools>\n"
        + "".join(f"<tool>{dump(bare(tool))}</tool>\n" for tool in tools)
        + "</tools>\n\nWhen making tool calls, use XML format to invoke tools and pass parameters:\n\n"
        '<minimax:tool_call>\n<invoke name="tool-name-1">\n<parameter name="param-key-1">param-value-1</parameter>\n'
        '<parameter name="param-key-2">param-value-2</parameter>\n...\n</invoke>\n</minimax:tool_call>'
    ),
    "mistral": lambda tools: (
        f"[AVAILABLE_TOOLS] {dump([wrapped(tool) for tool in tools])}[/AVAILABLE_TOOLS]"
    ),
    "qwen": lambda tools: f"\n\n{XML_HEAD}{lines(tools, wrapped)}{XML_TAIL}",
    "qwen3_5": lambda tools: (
        f"\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>{lines(tools, bare)}\n</tools>\n\n"
        "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n<tool_call>\n"
        "<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
        "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple "
        "lines\n</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the "
        "specified format: an inner <function=...></function> block must be nested within <tool_call></tool_call> "
        "XML tags\n- Required parameters MUST be specified\n- You may provide optional reasoning for your function "
        "call in natural language BEFORE the function call, but NOT after\n- If there is no function call available, "
        "answer the question like normal with your current knowledge and do not tell the user about function calls\n"
        "</IMPORTANT>"
    ),
    "seed_oss": lambda tools: (
        "You are Doubao, a helpful AI assistant. You may call one or more functions to assist with the user query."
        "Tool List:\nYou are authorized to use the following tools (described in JSON Schema format). Before "
        "performing any task, you must decide how to call them based on the descriptions and parameters of these "
        f"tools.\n{dump(tools)}\n工具调用请遵循如下格式:\n<seed:tool_call>\n<function=example_function_name>\n"
        "<parameter=example_parameter_1>value_1</parameter>\n<parameter=example_parameter_2>This is the value for "
        "the second parameter\nthat can span\nmultiple lines</parameter>\n</function>\n</seed:tool_call>\n"
    ),
}

Call = tuple[str, dict[str, Any]]


def tagged(head: str, argument: str, tail: str) -> Callable[[list[Call]], list[str]]:
    def show(calls: list[Call]) -> list[str]:
        return [
            head.replace("NAME", name)
            + "".join(
                argument.replace("KEY", key).replace("VALUE", text(value))
                for key, value in arguments.items()
            )
            + tail
            for name, arguments in calls
        ]

    return show


def objects(calls: list[Call], key: str = "arguments") -> list[dict[str, Any]]:
    return [{"name": name, key: arguments} for name, arguments in calls]


def gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma_value(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma_value, value)) + "]"
    return dump(value)


def calls_lfm2(calls: list[Call]) -> str:
    shown = [
        f"{name}({', '.join(f'{key}={dump(value)}' for key, value in arguments.items())})"
        for name, arguments in calls
    ]
    return f"<|tool_call_start|>[{', '.join(shown)}]<|tool_call_end|>"


def calls_qwen(calls: list[Call]) -> str:
    return "\n".join(f"<tool_call>\n{dump(item)}\n</tool_call>" for item in objects(calls))


CALLS: dict[str, Callable[[list[Call]], str]] = {
    "default": lambda calls: "\n".join(
        f"Action: {name}\nAction Input: {dump(arguments)}" for name, arguments in calls
    ),
    "gemma4": lambda calls: "".join(
        f"<|tool_call>call:{name}{gemma_value(arguments)}<tool_call|>" for name, arguments in calls
    ),
    "glm4": lambda calls: "\n".join((calls[0][0], dump(calls[0][1]))),
    "glm4_moe": lambda calls: "".join(
        tagged(
            "\n<tool_call>NAME",
            "\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>",
            "\n</tool_call>",
        )(calls)
    ),
    "lfm2": calls_lfm2,
    "ling": calls_qwen,
    "llama3": lambda calls: dump(
        objects(calls, "parameters")[0] if len(calls) == 1 else objects(calls, "parameters")
    ),
    "minimax1": lambda calls: "\n".join(
        ["<tool_calls>", *map(dump, objects(calls)), "</tool_calls>"]
    ),
    "minimax2": lambda calls: "\n".join(
        [
            "<minimax:tool_call>",
            *tagged(
                '<invoke name="NAME">', '\n<parameter name="KEY">VALUE</parameter>', "\n</invoke>"
            )(calls),
            "</minimax:tool_call>",
        ]
    ),
    "mistral": lambda calls: dump(objects(calls)),
    "qwen": calls_qwen,
    "qwen3_5": lambda calls: "\n".join(
        tagged(
            "<tool_call>\n<function=NAME>",
            "\n<parameter=KEY>\nVALUE\n</parameter>",
            "\n</function>\n</tool_call>",
        )(calls)
    ),
    "seed_oss": lambda calls: "\n".join(
        tagged(
            "\n<seed:tool_call>\n<function=NAME>",
            "\n<parameter=KEY>VALUE</parameter>",
            "\n</function>\n</seed:tool_call>",
        )(calls)
    ),
}

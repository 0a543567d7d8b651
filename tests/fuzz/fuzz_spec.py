"""A fuzzer for the whole way from the bytes of a spec to its findings and its generated files; see README.md here.

With atheris it is guided by coverage; `--plain` mutates the corpus at random and needs nothing but tunec.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SLOW_S = 5.0
"""Seconds after which an input counts as a hang."""


def target(content: bytes) -> None:
    """Judge one input; raises for whatever must not happen."""
    from tunec.compiler.document import DocumentError, parse_document
    from tunec.compiler.github import render_github
    from tunec.compiler.pipeline import Analysis, analyse_document, plan_of
    from tunec.compiler.render import render_files
    from tunec.compiler.report import render_json, render_text
    from tunec.compiler.sarif import render_sarif
    from tunec.compiler.show import resolve_broken

    path = HERE / "spec.toml"
    try:
        document = parse_document(content, "spec.toml", path)
    except DocumentError as fault:
        analysis = Analysis(fault, fault.diagnostics)
    else:
        analysis = analyse_document(document, path, {})
    found = analysis.diagnostics
    assert found or analysis.spec is not None
    text = render_text(found, analysis.source, color=False, width=80)
    assert not {"\x1b", "\x07", "\r"} & set(text)
    json.loads(render_json(found, analysis.source))
    json.loads(render_sarif([(found, analysis.source)]))
    annotations = render_github([(found, analysis.source)])
    assert all(line.startswith("::") for line in annotations.splitlines())
    if analysis.spec is None or analysis.written is None:
        return
    json.loads(resolve_broken(analysis.spec, analysis.written, analysis.broken).json())
    if analysis.ok:
        for name, generated in render_files(plan_of(analysis)).items():
            if name.endswith(".py"):
                ast.parse(generated)


def corpus(folders: list[str]) -> list[bytes]:
    """Return the inputs to start from: the corpus folder, and every spec of the repository."""
    root = HERE.parents[1]
    places = [HERE / "corpus", *map(Path, folders)]
    files = [path for place in places for path in sorted(place.glob("*"))]
    files += [*root.glob("tests/golden/*/spec.toml"), *root.glob("examples/*/*.toml")]
    return [path.read_bytes() for path in files if path.is_file()]


def dictionary() -> list[bytes]:
    """Return words worth putting in: names and choices of the spec, and marks of TOML."""
    from tunec.compiler.settings import all_settings

    words = {setting.name for setting in all_settings()}
    words |= {step.kind for setting in all_settings() for step in setting.way if step.kind}
    marks = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        '"',
        "'",
        '"""',
        "'''",
        "#",
        "\\u0000",
        "\n",
        "\r",
        "\0",
    ]
    values = [
        "nan",
        "-inf",
        "1e999",
        "9" * 30,
        "-1",
        "0",
        "true",
        "2020-01-01",
        "07:32",
        "\ufeff",
        "\u202e",
        "'~'",
    ]
    return [word.encode() for word in (*sorted(words), *marks, *values)]


def libfuzzer_line(word: bytes) -> str:
    """Return a word as a line of libFuzzer's dictionaries."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\x{b:02X}" for b in word)
    return f'"{"".join(plain)}"'


Mutation = Callable[[bytes, random.Random, list[bytes], list[bytes]], bytes]


def mutations() -> Iterator[Mutation]:
    """Yield the ways to change an input."""

    def cut(data: bytes, rng: random.Random, *_: Any) -> bytes:
        start, end = _range(data, rng)
        return data[:start] + data[end:]

    def double(data: bytes, rng: random.Random, *_: Any) -> bytes:
        start, end = _range(data, rng)
        return data[:end] + data[start:end] * rng.choice([1, 1, 2, 200]) + data[end:]

    def flip(data: bytes, rng: random.Random, *_: Any) -> bytes:
        start, _end = _range(data, rng)
        return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]

    def insert(data: bytes, rng: random.Random, _: list[bytes], words: list[bytes]) -> bytes:
        start, _end = _range(data, rng)
        return data[:start] + rng.choice(words) + data[start:]

    def replace(data: bytes, rng: random.Random, _: list[bytes], words: list[bytes]) -> bytes:
        start, end = _range(data, rng)
        return data[:start] + rng.choice(words) + data[end:]

    def splice(data: bytes, rng: random.Random, seeds: list[bytes], _: list[bytes]) -> bytes:
        start, _end = _range(data, rng)
        other = rng.choice(seeds)
        return data[:start] + other[_range(other, rng)[0] :]

    def lines(data: bytes, rng: random.Random, *_: Any) -> bytes:
        parts = data.splitlines(keepends=True)
        rng.shuffle(parts)
        return b"".join(parts)

    yield from (cut, double, flip, insert, replace, splice, lines)


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(start + rng.choice([1, 1, 2, 5, 20, 100]), len(data))


def run_plain(seconds: float, seed: int, folders: list[str]) -> int:
    """Mutate at random for some time; return the number of inputs that failed, each of them saved."""
    rng, seeds, words, ways = random.Random(seed), corpus(folders), dictionary(), list(mutations())
    end, count, failures = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        data = rng.choice(seeds)
        for _ in range(rng.randint(1, 6)):
            data = rng.choice(ways)(data, rng, seeds, words)
        begin = time.monotonic()
        try:
            target(data)
            fault = "hang" if time.monotonic() - begin > SLOW_S else ""
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            name = f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            (Path(tempfile.gettempdir()) / name).write_bytes(data)
            print(f"{tempfile.gettempdir()}/{name}: {fault[:300]}")
            failures += 1
        count += 1
    print(f"{count} inputs, {failures} failures")
    return failures


def run_guided(arguments: list[str]) -> None:
    """Let atheris find inputs, until it is stopped."""
    import atheris  # type: ignore  # an extra that only long runs need

    with atheris.instrument_imports(include=["tunec.compiler"]):
        import tunec.compiler.github
        import tunec.compiler.pipeline
        import tunec.compiler.render
        import tunec.compiler.sarif
        import tunec.compiler.show  # noqa: F401
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def main() -> None:
    """Run the fuzzer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", action="store_true", help="random mutation, without atheris")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; default: 60")
    parser.add_argument("--seed", type=int, default=0, help="of --plain; default: 0")
    parser.add_argument("--dictionary", action="store_true", help="print words for `-dict=`")
    options, others = parser.parse_known_args()
    if options.dictionary:
        print("\n".join(map(libfuzzer_line, dictionary())))
        return
    if options.plain:
        sys.exit(bool(run_plain(options.seconds, options.seed, others)))
    run_guided([f"-max_total_time={int(options.seconds)}", *others])


if __name__ == "__main__":
    main()

"""Docstrings read into their parts, and tables in Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")


@dataclass(frozen=True)
class Docstring:
    """A docstring in its parts.

    Attributes:
        body: its paragraphs: what the thing does.
        use: those that begin with "Use": when it is the right choice.
        arguments: the meaning of each argument.
        source: what stands behind "Source:"; empty if nothing does.
    """

    body: list[str] = field(default_factory=list)
    use: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def short_source(self) -> str:
        """Authors and year of the source."""
        found = re.match(r"(?:the (?:\S+ )?baseline of )?([^\"(;:]*?\b(?:19|20)\d\d)", self.source)
        return found[1] if found else ""


def parse(text: str) -> Docstring:
    """Return the parts of a docstring in Google style."""
    made = Docstring()
    source = ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        first, _, rest = paragraph.partition("\n")
        before, split, after = paragraph.partition("Source: ")
        if section := SECTION.match(first):
            if section[1] in ("Args", "Attributes"):
                made.arguments.update(_arguments(rest))
            continue
        if split and (not before or before.endswith((". ", ".\n"))):
            source, paragraph = " ".join(after.split()), before.strip()
        if paragraph.startswith("Use "):
            made.use.append(paragraph)
        elif paragraph:
            made.body.append(paragraph)
    return Docstring(made.body, made.use, made.arguments, source)


def _arguments(text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^ {4}(?P<names>\w+(, \w+)*): (?P<said>.*(?:\n {5,}.*)*)", text, re.M):
        for name in found["names"].split(", "):
            yield name, " ".join(found["said"].split())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", cell.replace("\n", " ")) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells])

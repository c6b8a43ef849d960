"""Notebooks as pages: the text, the code and the stored outputs of each, without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """Return the Markdown of every notebook below docs/, by the path of its page."""
    found = sorted(DOCS.rglob("*.ipynb"))
    return {str(path.relative_to(DOCS).with_suffix(".md")): page(json.loads(path.read_text("utf-8"))) for path in found}


def page(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as Markdown."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    if cell["cell_type"] == "markdown":
        yield _text(cell["source"])
    elif cell["cell_type"] == "code":
        yield f"```py\n{_text(cell['source'])}\n```"
        for output in cell["outputs"]:
            yield from _output(output)


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    """Yield the richest form of an output that needs no script."""
    data = output.get("data", {})
    if "image/png" in data:
        yield f'<img alt="figure" src="data:image/png;base64,{_text(data["image/png"]).replace(chr(10), "")}">'
    elif "text/html" in data:
        yield _text(data["text/html"])
    elif text := _text(data.get("text/plain", output.get("text", ""))):
        yield f"```text\n{text}\n```"


def _text(source: str | Sequence[str]) -> str:
    return (source if isinstance(source, str) else "".join(source)).rstrip()

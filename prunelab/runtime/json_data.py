"""JSON from anybody, read as plain data: every file that another run, person or machine may have written."""

import json
from pathlib import Path
from typing import Any

from prunelab.runtime.regular_file import regular

LARGEST = 2**26  # bytes of a file
DEEPEST = 64  # levels of lists and objects


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Nothing in it is resolved, imported or used as a path.

    Raises:
        OSError: if there is no such regular file, or it cannot be read.
        ValueError: for what `parse_json` refuses, and a file of more than 64 MiB.
    """
    if regular(path).stat().st_size > LARGEST:
        raise ValueError(f"is larger than {LARGEST:,} bytes")
    return parse_json(path.read_bytes())


def parse_json(text: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: if it is no JSON, nested more than 64 levels deep, or has text that UTF-8 cannot hold.
    """
    too_deep = f"is nested more than {DEEPEST} levels deep"
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    layer = [found]
    for _ in range(DEEPEST):
        layer = [
            inner
            for item in layer
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    if layer:
        raise ValueError(too_deep)
    json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair cannot be written or printed again
    return found

"""Write docs/keys.md, the table of all keys of the config, from the schema: `python scripts/keys.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prunelab.config.help_table import defaults
from prunelab.config.keys import Key
from prunelab.config.schema import keys

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# The keys of the config

Written by `python scripts/keys.py` from `prunelab/config/schema.py`. Where the default is –, the chosen YAML file of
`conf/` sets it, or there is none. Other options of a choice, such as `granularity.n`, are explained in its YAML file.

| key | default | allowed | meaning |
|---|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    set_by_choice = defaults()
    rows = [
        f"| `{key.name}` | {_default(key, set_by_choice)} | {_cell(key.allowed)} | {_cell(key.meaning)} |\n"
        for key in keys()
        if not isinstance(key.default, dict)  # a group of choices
    ]
    return HEAD + "".join(rows)


def _default(key: Key, set_by_choice: Mapping[str, object]) -> str:
    """Return the default as one types it on the command line."""
    value = set_by_choice.get(key.name, key.default)
    if value is None and "null" not in key.allowed:
        return "–"
    words = {None: "null", True: "true", False: "false"}
    return f"`{words[value] if value is None or isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs" / "keys.md").write_text(page(), encoding="utf-8")

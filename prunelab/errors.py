"""The errors that a user can mend: each is one line that quotes the key, its value and what is allowed."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting that cannot work. The message quotes the key, the value and what is allowed."""

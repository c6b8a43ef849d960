"""The errors that a user can mend: each is one line that quotes the key, its value and what is allowed."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting that cannot work. The message quotes the key, the value and what is allowed."""


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__

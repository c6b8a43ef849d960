"""The database of a study, which anybody may have written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from prunelab.errors import ConfigError, one_line

# Ends the journal of an SQLite transaction that changed several databases, after the name of the file that lists them.
NAMES_A_FILE = bytes.fromhex("d9d505f920a163d7")


@contextmanager
def database_errors(storage: str) -> Iterator[None]:
    """Turn what SQLAlchemy and Optuna raise about a database, or its missing driver, into a ConfigError."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        why = getattr(error, "orig", None) or error
        raise ConfigError(f"--storage {storage}: {one_line(why)}") from error


def opened(storage: str) -> RDBStorage:
    """Open the database at a URL.

    Raises:
        ValueError: if a journal beside it, as a killed process leaves, would make SQLite delete another file. A study
            is one database, so no journal of its own names one.
        SQLAlchemyError, OptunaError, ImportError: if it cannot be opened.
    """
    if not storage.startswith("sqlite"):
        return RDBStorage(storage)
    journal = Path(f"{make_url(storage).database}-journal")
    if journal.is_file() and journal.read_bytes().endswith(NAMES_A_FILE):
        raise ValueError(f"{journal} names another file, which SQLite would delete")
    return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 120}})

"""Files that somebody else may have written are read only if they are files: a named pipe would be waited for."""

import errno
import os
from pathlib import Path


def regular(path: Path) -> Path:
    """Return a path to be read; raise FileNotFoundError if it is no regular file, but a pipe, a device or a folder."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path

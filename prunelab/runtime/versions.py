"""The versions that a run's summary states."""

import functools
import importlib.metadata
import platform

from prunelab import __version__

PACKAGES = ("torch", "hydra-core", "omegaconf", "tensorboard", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of prunelab, of Python and of the packages that prunelab runs on, by their names.

    That of prunelab is its code's: the metadata of an editable install are those of the day it was installed.
    """
    packages = {name: _version(name) for name in PACKAGES}
    return {"prunelab": __version__, **packages, "python": platform.python_version()}


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

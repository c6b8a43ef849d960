"""The folder `conf/`, and what its groups offer."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def folder() -> Path:
    """Return the folder `conf/`: inside an installed package, beside it in a checkout."""
    here = Path(__file__).resolve().parent.parent
    return next(path for path in (here / "conf", here.parent / "conf") if (path / "config.yaml").is_file())


def choices(group: str) -> list[str]:
    """Return the names of the choices of a config group, sorted."""
    return sorted(path.stem for path in (folder() / group).glob("*.yaml"))


def content(group: str, choice: str) -> dict[str, Any]:
    """Return what the file of a choice sets, nested as in the whole config; without its defaults list."""
    path = folder() / group / f"{choice}.yaml"
    read = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(read, dict)
    read.pop("defaults", None)
    packaged = path.read_text(encoding="utf-8").startswith("# @package _global_")
    return {str(key): value for key, value in (read if packaged else {group: read}).items()}

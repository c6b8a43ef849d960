"""The page of `prunelab --help`. Hydra would print the same template, but lists the config groups very slowly."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from prunelab.config.compose import folder


def text(arguments: Sequence[str] = ()) -> str:
    """Return the page; it lists the groups in the `--config-dir` of the command line, too."""
    page = OmegaConf.create({"hydra": {"help": OmegaConf.load(folder() / "hydra" / "help" / "prunelab.yaml")}})
    listed = "\n".join(f"{group}: {', '.join(names)}" for group, names in groups(arguments))
    return str(page.hydra.help.template).replace("$APP_CONFIG_GROUPS", listed)


def groups(arguments: Sequence[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the choices of each config group, without Hydra's own."""
    words = [part for item in arguments for part in item.split("=", 1)]
    given = [Path(value) for flag, value in itertools.pairwise(words) if flag in ("--config-dir", "-cd")]
    found: dict[str, set[str]] = {}
    for path in (path for top in [folder(), *given] for path in top.glob("*/*.yaml")):
        found.setdefault(path.parent.name, set()).add(path.stem)
    yield from ((group, sorted(names)) for group, names in sorted(found.items()) if group != "hydra")

"""Config files from elsewhere (`--config-dir`, `hydra.searchpath`): they may describe an experiment, and no more.

What runs besides the experiment, where files are written and who is trusted is said by prunelab and the command line.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.main import get_args_parser  # type: ignore[attr-defined]
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunelab.config.compose import check_choices, compose_raw, explained, own_hydra
from prunelab.errors import ConfigError, one_line
from prunelab.records import flat

OURS = ("trusted", "outputs", "hydra")  # keys that count only on the command line
SEARCH = "hydra.searchpath"
# Keys of `hydra` that a file may set, and those that Hydra computes itself.
JOB = ("job.num", "job.id", "job.config_name", "job.override_dirname")
MOST = 10_000  # values of a YAML file
FREE = ("mode", "verbose", "searchpath", "sweeper.params", "runtime", "overrides", *JOB)


def check_command_line(arguments: Sequence[str]) -> None:
    """Check a command line for Hydra, before Hydra reads it.

    Raises:
        ConfigError: for a flag that runs code from a file, and for a config file from elsewhere that decides more than
            the experiment.
    """
    options = get_args_parser().parse_args(list(arguments))
    if options.experimental_rerun is not None:
        why = "unpickles a file, which runs whatever code is in it; give the overrides of the run again"
        raise ConfigError(f"--experimental-rerun {options.experimental_rerun}: {why}")
    if options.config_path is not None:
        raise ConfigError(f"--config-path {options.config_path}: replaces prunelab's own conf/; must be --config-dir")
    name = options.config_name or "config"
    if Path(name).name != name:
        raise ConfigError(f"--config-name {name}: must be the name of a file in the --config-dir")
    check_choices(options.overrides)
    with explained(options.overrides), own_hydra() as loader:
        parsed = OverridesParser.create(loader).parse_overrides(options.overrides)
        places = [f"file://{Path(options.config_dir).absolute()}"] if options.config_dir is not None else []
        named = [item for item in parsed if item.get_key_element().lstrip("+~") == SEARCH]
        for item in named[:1]:
            listed = item.value()
            if not isinstance(listed, list):
                raise ConfigError(f"{item.input_line}: must be a list of folders")
            places += map(str, listed)
        if not places:
            return
        _check_defaults(places)
        quoted = ",".join("'{}'".format(place.replace("\\", "\\\\").replace("'", "\\'")) for place in places)
        overrides = [*(str(item.input_line) for item in parsed if item not in named), f"{SEARCH}=[{quoted}]"]
        try:
            config = loader.load_configuration(name, overrides, RunMode.MULTIRUN, False, False)
        except (AttributeError, TypeError, RecursionError, OSError) as error:  # by `hydra: null`, or a very deep list
            raise ConfigError(f"{', '.join(places)}: its files cannot be composed: {one_line(error)}") from error
        check_config(config, overrides)


def is_foreign(config: DictConfig) -> bool:
    """Return whether a config that Hydra composed, with its node `hydra`, may have content of files from elsewhere."""
    providers = [str(source.provider) for source in config.hydra.runtime.config_sources]
    return any(name == "command-line" or name.startswith(SEARCH) for name in providers)


def check_config(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check a config that Hydra composed, with its node `hydra`, before it is used; nothing in it is resolved.

    Args:
        overrides: all that it was composed with; those that the config itself lists may come from a file.

    Raises:
        ConfigError: if a file from elsewhere sets what only the command line may say.
    """
    if not is_foreign(config):
        return
    given = OmegaConf.to_container(config, resolve=False)
    assert isinstance(given, dict)
    listed = given["hydra"]["overrides"]
    if sorted([*listed["hydra"], *listed["task"]]) != sorted(overrides):
        raise ConfigError("hydra.overrides: is set by a config file; only the command line may set it")
    ours = [item for item in overrides if root(item) in OURS and SEARCH not in item]
    choices = given["hydra"]["runtime"]["choices"].items()
    ours += [f"{group}={choice}" for group, choice in choices if re.fullmatch(r"hydra/\w+", group) and choice]
    with explained(ours):
        expected = OmegaConf.to_container(compose_raw(*ours, return_hydra_config=True), resolve=False)
    assert isinstance(expected, dict)
    known, found = (flat({key: whole.get(key) for key in OURS}) for whole in (expected, given))
    for key in sorted(known.keys() | found.keys()):
        if known.get(key) != found.get(key) and not _is_free(key.removeprefix("hydra."), found.get(key)):
            raise ConfigError(f"{key}={found.get(key)}: is set by a config file; only the command line may set it")
    for key in given["hydra"]["sweeper"].get("params") or {}:
        if root(key) in OURS or "@" in key:
            raise ConfigError(f"hydra.sweeper.params.{key}: is set by a config file; only the command line may set it")
    for text in _texts({key: value for key, value in given.items() if key != "hydra"}):
        if re.search(r"\$\{.*:", text, re.DOTALL) and not any(text in item for item in overrides):
            raise ConfigError(f"{text}: a config file may not call resolvers, such as for variables of the environment")


def _check_defaults(places: Sequence[str]) -> None:
    """Refuse interpolations in defaults lists, which Hydra resolves while it composes, and paths to other folders."""
    for path in (path for place in places for path in sorted(Path(place.removeprefix("file://")).rglob("*"))):
        if path.is_dir() and path.is_symlink():
            raise ConfigError(f"{path}: is a link to a folder; a folder of config files must hold the files themselves")
        if path.suffix != ".yaml":
            continue
        if not path.is_file():
            raise ConfigError(f"{path}: must be a file")
        _check_size(path)
        try:
            read = OmegaConf.to_container(OmegaConf.load(path), resolve=False)  # as Hydra reads it
        except Exception:
            continue  # Hydra refuses it, if it is chosen
        listed = str(read.get("defaults", "")) if isinstance(read, dict) else ""
        if "${" in listed or ".." in listed:
            raise ConfigError(f"{path}: its defaults list must hold names, no interpolation ${{…}} and no path")


def _check_size(path: Path) -> None:
    """Refuse a file whose aliases stand for so many values that to read it would take for ever."""
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # for an alias of itself
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            inner = node.value if isinstance(node, yaml.SequenceNode) else itertools.chain.from_iterable(pairs)
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    try:
        whole = yaml.compose(path.read_bytes(), yaml.SafeLoader)
        too_large = whole is not None and size(whole) > MOST
    except (yaml.YAMLError, RecursionError):
        return  # Hydra refuses it, if it is chosen
    if too_large:
        raise ConfigError(f"{path}: must have at most {MOST:,} values, with its aliases written out")


def root(override: str) -> str:
    """Return the first part of an override's key: `hydra` of `+hydra.sweep.dir=x` and of `hydra/launcher=joblib`."""
    return re.split(r"[./=@:]", override.lstrip("+~"), maxsplit=1)[0].strip()


def _is_free(key: str, value: object) -> bool:
    number = isinstance(value, (int, float)) and key.startswith("launcher.")
    return number or any(key == free or key.startswith(f"{free}.") for free in FREE)


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, (dict, list)):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _texts(inner)

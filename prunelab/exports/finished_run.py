"""The network of a finished run, rebuilt from the run's config and its safetensors files. Nothing is unpickled.

Only this file of the room builds networks from a config; the modules for that are imported when they are needed.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from unittest import mock

from torch import nn

from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.exports import fingerprint, network_files
from prunelab.exports.checkpoint import DESCRIPTION, MASKS, WEIGHTS
from prunelab.exports.network_files import Build, Json, Network
from prunelab.pruning import skipping
from prunelab.runtime import device
from prunelab.runtime.json_data import read_json
from prunelab.runtime.seeding import seeded
from prunelab.stages.checkpoint import fitting

SUMMARY = "summary.json"


def load(folder: str | Path, trusted: Iterable[str] = ()) -> nn.Module:
    """Return the network of a run folder, or of a folder with a portable checkpoint; on the CPU, in eval mode.

    Args:
        trusted: your own packages that the model may be imported from. The list in the files does not count: a
            checkpoint from elsewhere must not choose what is imported.

    Raises:
        ConfigError: for a folder without a network, or files that are damaged or do not belong together.
    """
    return read(Path(folder), trusted).model


def read(folder: Path, trusted: Iterable[str] = (), stale: bool = False) -> Network:
    """Return the network with its masks and config; arguments and errors as for `load`.

    Args:
        stale: prefer summary.json to model.json, which is out of date after another run in the same folder.
    """
    described = (folder / DESCRIPTION).is_file() and not (stale and (folder / SUMMARY).is_file())
    said = network_files.read_description(folder / DESCRIPTION) if described else _summary(folder)
    content = {name: network_files.read_bytes(folder / name) for name in (WEIGHTS, MASKS)}
    if described:
        network_files.verify(folder, content, said)
    model = build(said, trusted)
    network_files.fill(model, network_files.tensors(folder / WEIGHTS, content[WEIGHTS]), folder / WEIGHTS)
    kept = network_files.tensors(folder / MASKS, content[MASKS])
    skipping.skip_empty(model, kept)
    fingerprint.check(model, said.get("fingerprint"), folder / WEIGHTS)
    return Network(model, None, kept, {**said["config"], "trusted": list(trusted)})


def builder(trusted: Iterable[str]) -> Build:
    """Return a function that builds the network of a JSON file's config."""
    return partial(build, trusted=tuple(trusted))


def build(said: Json, trusted: Iterable[str] = ()) -> nn.Module:
    """Build the network that a config describes, with random weights. Torch's random generators are left unchanged.

    Args:
        said: has `config`, plain data, and may have `skipped`: names of layers that are not run.
        trusted: as for `load`.

    Raises:
        ConfigError: if the network cannot be built, or comes from a package that is not trusted.
    """
    from prunelab.config.network import from_plain, network

    if said["config"] is None:
        raise ConfigError("these files were exported from a live module: load them into a module of the same class")
    with (
        fitting("the config", "builds no network"),
        seeded("export"),
        mock.patch("torch.hub.download_url_to_file", _offline),
    ):
        model = network(from_plain(said["config"], trusted)).eval()
        for name in said.get("skipped", []):
            skipping.set_skipped(model.get_submodule(name), True)
    return model


def _offline(url: str, *args: object, **options: object) -> None:
    raise ConfigError(f"{url}: is not downloaded; the weights of a finished run are in its folder")


def test_split(network: Network) -> Split:
    """Load the test set that the config of a network from `read` names.

    Raises ConfigError if it cannot be loaded, or comes from a package that is not trusted.
    """
    from prunelab.config.network import dataset, from_plain

    assert network.config is not None
    with fitting("the config", "loads no data"):
        return dataset(from_plain(network.config, network.config["trusted"]).data).test


def threads(network: Network) -> int | None:
    """Return the number of threads that the run had; None if this machine has fewer cores, or it is no such number."""
    wanted = (network.config or {}).get("threads")
    return wanted if type(wanted) is int and 1 <= wanted <= device.cores() else None


def _summary(folder: Path) -> Json:
    try:
        said = read_json(folder / SUMMARY)
        status, config = said["status"], said["config"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{folder}: must be the folder of a finished run, with its {SUMMARY}") from error
    if "final" not in said or not isinstance(config, dict):  # a run has a final network, even if an export failed
        raise ConfigError(f"{folder}: its run is {status}; must be completed")
    if said.get("live_model"):
        raise ConfigError(
            f"{folder}: its model was a live module ({said['live_model']}), which no config can rebuild; "
            "load model.safetensors into a module of yours by load_state_dict"
        )
    return {"config": config, "fingerprint": said.get("fingerprint")}

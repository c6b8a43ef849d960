"""The forms of a run's network for the cost card; all on the CPU, in eval mode."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import nn

from prunelab.costs.card import Form
from prunelab.exports import finished_run
from prunelab.exports.checkpoint import MASKS
from prunelab.exports.formats import FORMATS
from prunelab.exports.network_files import Network


def exported(
    folder: Path, model: nn.Module, kinds: Iterable[str], trusted: Iterable[str], compact: bool
) -> dict[str, Form]:
    """Load the files of these kinds and return them as forms, such as `masked (csr)`, `compact (onnx)`.

    Args:
        model: the network that graphs were made from; their layers are counted in it.
        trusted: your own packages that the model may be imported from.
        compact: whether `model` is the compact network; other files than graphs hold the whole one.
    """
    small = {kind for kind in kinds if compact and FORMATS[kind].graph}
    return {
        f"{'compact' if kind in small else 'masked'} ({kind})": _loaded(folder, model, kind, trusted) for kind in kinds
    }


def with_dense(
    found: Mapping[str, Form], folder: Path, network: Network, trusted: Iterable[str]
) -> Iterator[tuple[str, Form]]:
    """Yield the forms, before each that another runtime runs the dense `network` in that runtime, as `dense (onnx)`.

    The files of the dense network in `folder` are needed until the forms were timed.
    """
    for name, form in found.items():
        if form.runtime != "torch":
            (folder / form.runtime).mkdir()
            FORMATS[form.runtime].save(folder / form.runtime, network)
            yield f"dense ({form.runtime})", _loaded(folder / form.runtime, network.model, form.runtime, trusted)
        yield name, form


def _loaded(folder: Path, model: nn.Module, kind: str, trusted: Iterable[str]) -> Form:
    format = FORMATS[kind]
    shipped = [name for name in format.files if name != MASKS]  # the masks are for pruning it further
    files = tuple(path for name in shipped if (path := folder / name).is_file())
    load = partial(format.load, folder.resolve(), finished_run.builder(trusted))
    return Form(load(), files, model if format.graph else None, format.runtime, load)

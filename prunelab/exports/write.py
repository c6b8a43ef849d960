"""Making files and proving them: each is loaded in a fresh process and compared before it is called done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from prunelab.config.schema import ConfigError
from prunelab.costs.latency import Run
from prunelab.data.dataset import Split
from prunelab.exports import fresh_process as fresh
from prunelab.exports.checkpoint import MASKS, Network, write_all
from prunelab.exports.formats import FORMATS
from prunelab.pruning import masks

RANDOM, IMAGES = 64, 256


class Exported(NamedTuple):
    """One kind of export that is done; `_asdict` of it is plain data.

    Attributes:
        kind: one of `FORMATS`.
        files: names, in the run folder.
        largest_difference: of outputs in a fresh process from those that they must be, absolute, on all inputs.
        same_classes: on all inputs; always true, since other files are not done.
        inputs: random ones and test examples.
    """

    kind: str
    files: tuple[str, ...]
    largest_difference: float
    same_classes: bool
    inputs: int


def make(
    folder: Path,
    model: nn.Module,
    config: DictConfig,
    test: Split,
    kinds: Sequence[str],
    on_error: Callable[[ConfigError], object] | None = None,
    compact: nn.Module | None = None,
) -> list[Exported]:
    """Writes a finished network into its run folder in one or more kinds.

    A file is written aside, loaded in a fresh process, compared on random inputs and 256 test examples, and only then
    put into the folder.

    Args:
        folder: has `masks.safetensors`, from `write`.
        model: with its masks or their zeros; stays as it is.
        test: nothing is chosen by it.
        kinds: of `FORMATS`.
        on_error: gets what is wrong with a kind, and the next one is made; None: it is raised.
        compact: the compact network: graphs are made of it. Other files are loaded into the config's own model, which
            has all of its layers.

    Raises:
        ConfigError: for an unknown kind, a package that is missing, or a file that does not agree.
        StorageError: if nothing can be written.
    """
    check(kinds)
    kept = from_bytes((folder / MASKS).read_bytes())
    network = Network(masks.plain_copy(model).cpu().eval(), kept, config)
    small = network if compact is None else Network(masks.plain_copy(compact).cpu().eval(), kept, config)
    inputs = examples(test)
    done: list[Exported] = []
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder) as aside:
        for kind in kinds:
            work = Path(aside) / kind
            work.mkdir()
            try:
                done.append(_make(kind, small if FORMATS[kind].graph else network, inputs, work))
            except ConfigError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            write_all(folder, {name: (work / name).read_bytes() for name in done[-1].files})
    return done


def check(kinds: Iterable[str]) -> None:
    """Raises ConfigError for a kind that there is not."""
    for kind in kinds:
        if kind not in FORMATS:
            raise ConfigError(f"export={kind}: must be of {', '.join(FORMATS)}")


def examples(test: Split) -> dict[str, Tensor]:
    """What files are compared on: `random`, [64, …], and `test`, the first 256 test examples; on the CPU."""
    images = test.batch(slice(0, IMAGES))[0].cpu()
    generator = torch.Generator().manual_seed(0)
    return {"random": torch.randn((RANDOM, *images.shape[1:]), generator=generator).to(images.dtype), "test": images}


def _make(kind: str, network: Network, inputs: dict[str, Tensor], work: Path) -> Exported:
    """Writes one kind into `work` and compares it."""
    format = FORMATS[kind]
    made = format.save(work, network)
    found = fresh.outputs(kind, work, inputs, work, tuple(network.config.trusted))
    difference, same = compare(network.model if made is None else made, inputs, found)
    if not (difference <= format.tolerance and same):
        raise ConfigError(
            f"export={kind}: is not done: outputs differ by {difference:.3g} (at most {format.tolerance:g}), "
            f"{'the same' if same else 'other'} classes"
        )
    return Exported(kind, format.files, difference, same, sum(map(len, inputs.values())))


@torch.no_grad()
def compare(run: Run, inputs: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[float, bool]:
    """The largest absolute difference of outputs (infinite for NaN or another shape), and whether all classes agree."""
    difference, same = 0.0, True
    for name, x in inputs.items():
        expected = run(x)
        if found[name].shape != expected.shape:
            return float("inf"), False
        apart = (expected - found[name]).abs().nan_to_num(nan=float("inf"))
        difference = max(difference, float(apart.max()))
        same = same and bool((expected.argmax(1) == found[name].argmax(1)).all())
    return difference, same


def table(rows: Sequence[Exported]) -> str:
    """What a person reads."""
    lines = [f"{'file, loaded again':<32}{'difference':>12}{'classes':>9}{'inputs':>8}"]
    for row in rows:
        classes = "same" if row.same_classes else "OTHER"
        lines.append(f"{row.files[0]:<32}{row.largest_difference:>12.2g}{classes:>9}{row.inputs:>8}")
    return "\n".join(lines)

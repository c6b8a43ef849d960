"""Making files and proving them: each is loaded in a fresh process and compared before it is called done."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from prunelab import masks
from prunelab.config import ConfigError
from prunelab.data import Split
from prunelab.export import fresh
from prunelab.export.formats import FORMATS
from prunelab.export.portable import MASKS, Network, write_all
from prunelab.export.timing import BATCHES, LEAST, Run, race

RANDOM, IMAGES = 64, 256


class Exported(NamedTuple):
    """One kind of export that is done; `_asdict` of it is plain data.

    Attributes:
        kind: one of `FORMATS`.
        files: names, in the run folder.
        bytes, gzipped: of all of them together.
        largest_difference: of outputs in a fresh process from the network's, absolute, on all inputs.
        same_classes: on all inputs; always true, since other files are not done.
        inputs: random ones and test examples.
        speedup: time of the dense network ÷ its own, by batch size; None: not measured.
        threads: of all times.
    """

    kind: str
    files: tuple[str, ...]
    bytes: int
    gzipped: int
    largest_difference: float
    same_classes: bool
    inputs: int
    speedup: dict[int, float] | None
    threads: int


def make(
    folder: Path,
    model: nn.Module,
    config: DictConfig,
    test: Split,
    kinds: Sequence[str],
    measure: bool = True,
    on_error: Callable[[ConfigError], object] | None = None,
) -> list[Exported]:
    """Writes a finished network into its run folder in one or more kinds.

    A file is written aside, loaded in a fresh process, compared on random inputs and 256 test examples, and only then
    put into the folder.

    Args:
        folder: has `masks.safetensors`, from `write`.
        model: with its masks or their zeros; stays as it is.
        test: nothing is chosen by it.
        kinds: of `FORMATS`.
        measure: whether to time them against the dense network, which takes up to 10 s for each batch size.
        on_error: gets what is wrong with a kind, and the next one is made; None: it is raised.

    Raises:
        ConfigError: for an unknown kind, a package that is missing, or a file that does not agree.
        StorageError: if nothing can be written.
    """
    check(kinds)
    kept = from_bytes((folder / MASKS).read_bytes())
    network = Network(masks.plain_copy(model).cpu().eval(), kept, config)
    inputs = examples(test)
    done: list[Exported] = []
    runs: dict[str, Run] = {"dense": network.model}
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder) as aside:
        for kind in kinds:
            work = Path(aside) / kind
            work.mkdir()
            try:
                done.append(_make(kind, network, inputs, work))
            except ConfigError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            write_all(folder, {name: (work / name).read_bytes() for name in done[-1].files})
            runs[kind] = FORMATS[kind].load(folder, tuple(config.trusted))
    return _timed(done, runs, inputs["test"]) if measure and done else done


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
    format.save(work, network)
    found = fresh.outputs(kind, work, inputs, work, tuple(network.config.trusted))
    difference, same = compare(network.model, inputs, found)
    if not (difference <= format.tolerance and same):
        raise ConfigError(
            f"export={kind}: is not done: outputs differ by {difference:.3g} (at most {format.tolerance:g}), "
            f"{'the same' if same else 'other'} classes"
        )
    content = [(work / name).read_bytes() for name in format.files]
    return Exported(
        kind,
        format.files,
        sum(map(len, content)),
        sum(len(gzip.compress(data)) for data in content),
        difference,
        same,
        sum(map(len, inputs.values())),
        None,
        torch.get_num_threads(),
    )


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


def _timed(rows: list[Exported], runs: dict[str, Run], images: Tensor) -> list[Exported]:
    """The same rows, with times; all networks take turns."""
    images = images.repeat(-(-max(BATCHES) // len(images)), *[1] * (images.dim() - 1))
    raced = {n: race(runs, images[:n], "dense") for n in BATCHES}
    return [row._replace(speedup={n: raced[n][row.kind].speedup.median for n in BATCHES}) for row in rows]


def table(rows: Sequence[Exported]) -> str:
    """What a person reads."""
    head = f"{'file':<24}{'bytes':>10}{'gzipped':>10}{'difference':>12}{'classes':>9}"
    timed = rows and rows[0].speedup
    lines = [head + "".join(f"{f'speed at {n}':>14}" for n in BATCHES if timed)]
    for row in rows:
        name = row.files[0]
        classes = "same" if row.same_classes else "OTHER"
        line = f"{name:<24}{row.bytes:>10,}{row.gzipped:>10,}{row.largest_difference:>12.2g}{classes:>9}"
        lines.append(line + "".join(f"{value:>13.2f}×" for value in (row.speedup or {}).values()))
    if timed:
        lines += [f"speed: time of the dense network ÷ its own, median of turns, {rows[0].threads} thread(s)"]
        for row in rows:
            slow = [str(n) for n, value in (row.speedup or {}).items() if value < LEAST]
            if slow:
                lines.append(f"{row.kind}: no speed-up at batch {' and '.join(slow)}: {FORMATS[row.kind].why}")
    return "\n".join(lines)

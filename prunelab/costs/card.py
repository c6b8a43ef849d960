"""The cost card: several forms of a network (dense, compact, ONNX …), counted and timed side by side."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prunelab.costs import counts
from prunelab.costs.counts import NonzeroWeights
from prunelab.costs.form_cost import FormCost
from prunelab.costs.fresh_times import Timeable, time_fresh
from prunelab.costs.latency import BATCHES, LEAST, Run, batch
from prunelab.costs.memory import peak_bytes
from prunelab.costs.stored_tensors import contiguous, stored
from prunelab.pruning import skipping

GZIP_LEVEL = 6  # gzip's own default
WHOLE = 2**24  # bytes of the largest file that is compressed whole
BLOCKS, BLOCK = 64, 2**16  # of a larger one: so many blocks of so many bytes, evenly spaced


@dataclass(frozen=True)
class Form:
    """One form of a network.

    Attributes:
        run: the network: inputs [n, …] → outputs.
        files: paths of its files; empty: its state is measured as a safetensors file.
        counted: the module whose parameters and multiply-adds it has; None: `run`, which must then be a module.
        runtime: what runs it. A form is compared with the first form of the same runtime, the dense network.
        load: loads `run` in another process; None: it is pickled.
    """

    run: Run
    files: tuple[Path, ...] = ()
    counted: nn.Module | None = None
    runtime: str = "torch"
    load: Callable[[], Run] | None = None


def cost_card(forms: Mapping[str, Form | nn.Module], inputs: Tensor, measure: bool = True) -> list[FormCost]:
    """Count and time several forms of a network.

    Args:
        forms: by name, such as `dense (torch)`, `compact (torch)`, `dense (onnx)`, `compact (onnx)`; all on the CPU, in
            eval mode. Each is compared with the first one of its runtime.
        inputs: examples to run, [n, …]; they are repeated up to a batch of 256.
        measure: whether to time the forms, in turns, in a fresh process, for up to 11 s per batch size. A batch size
            for which that is not enough is left out.

    Raises:
        ValueError: for a form whose `run` is no module and that has no `counted`.
    """
    given = {name: form if isinstance(form, Form) else Form(form) for name, form in forms.items()}
    first: dict[str, str] = {}
    for name, form in given.items():
        first.setdefault(form.runtime, name)
    references = {name: first[form.runtime] for name, form in given.items()}
    rows = {name: count_form(name, form, inputs) for name, form in given.items()}
    if measure:
        timed = time_fresh({name: Timeable(form.run, form.load) for name, form in given.items()}, inputs, references)
        for name, row in rows.items():
            times, default = ({n: found[name] for n, found in some.items()} for some in (timed.times, timed.default))
            rows[name] = replace(row, latency=times, default_malloc=default, timed_in=timed.where)
    for name, other in references.items():
        if other != name:
            module = given[name].counted or given[name].run
            assert isinstance(module, nn.Module)
            why = why_no_faster(rows[name], rows[other], module, module is given[name].run)
            rows[name] = replace(rows[name], against=other, why_no_faster=why)
    return list(rows.values())


def count_form(name: str, form: Form, inputs: Tensor) -> FormCost:
    """Count one form, without timing it. Layers that are left out of the forward pass do no multiply-adds."""
    model = form.counted or form.run
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name}: is no torch.nn.Module; must say what is counted")
    x = batch(inputs, 3)
    macs, macs_nonzero = counts.macs(counts.layers(model, x[:1], removed=False))
    # A graph in another runtime does not contain the layers that are left out.
    gone = () if isinstance(form.run, nn.Module) else tuple(f"{layer}." for layer in skipping.skipped(model))
    tensors = (value for key, value in model.named_parameters() if not key.startswith(gone))
    nonzero, parameters = counts.nonzeros(tensors)
    size, gzipped = file_sizes(model, form.files)
    if isinstance(form.run, nn.Module):
        peak = peak_bytes(form.run, x, (value for _, value in stored(form.run)), max(BATCHES))
        unknown = None if peak is not None else "it runs other operations on 2 examples than on 3"
    else:
        peak, unknown = None, "another runtime allocates it, and torch cannot see that"
    return FormCost(
        form=name,
        runtime=form.runtime,
        parameters=parameters,
        nonzero=nonzero,
        macs=macs,
        macs_nonzero=macs_nonzero,
        bytes=size,
        gzipped=gzipped,
        peak_bytes=peak,
        why_no_peak=unknown,
        threads=torch.get_num_threads(),
    )


def file_sizes(model: nn.Module, files: Sequence[Path]) -> tuple[int, int]:
    """Return the bytes of the files, and after gzip; without files, of the model's state as a safetensors file."""
    if files:
        return sum(path.stat().st_size for path in files), sum(map(gzipped_bytes, files))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(contiguous(dict(stored(model))), path)
        return path.stat().st_size, gzipped_bytes(path)


def gzipped_bytes(path: Path) -> int:
    """Return the size of a file after gzip.

    Of a file beyond 16 MiB, 64 evenly spaced blocks of 64 KiB are compressed, and their ratio is taken for the whole
    file: 100 MB would take 4 s. The estimate is within a few per cent.
    """
    size = path.stat().st_size
    if size <= WHOLE:
        return len(gzip.compress(path.read_bytes(), GZIP_LEVEL))
    step, sample = (size - BLOCK) // (BLOCKS - 1), bytearray()
    with path.open("rb") as file:
        for n in range(BLOCKS):
            file.seek(n * step)
            sample += file.read(BLOCK)
    return round(len(gzip.compress(sample, GZIP_LEVEL)) * size / len(sample))


def why_no_faster(row: FormCost, first: FormCost, module: nn.Module, plain: bool) -> str | None:
    """Return a sentence for a form that is not clearly faster than the first one; None for a faster or untimed one.

    A module that does as many multiply-adds as the first form, some on zeros, is no faster: it need not be timed, if
    torch runs the module itself (`plain`), not another runtime a file made from it.
    """
    slow: dict[str, list[str]] = {}
    for n, latency in row.latency.items():
        if latency.speedup.median < LEAST:
            words = "hardly faster" if latency.speedup.low > 1 else "no speed-up"
            slow.setdefault(words, []).append(str(n))
    if slow:
        said = ", ".join(f"{words} at batch {' and '.join(batches)}" for words, batches in slow.items())
        return f"{said}: {reason(row, first, module)}"
    sure = plain and not _is_sparse(module) and row.macs >= first.macs and row.macs_nonzero < row.macs
    return f"no speed-up: {reason(row, first, module)}" if sure and not row.latency else None


def reason(row: FormCost, first: FormCost, module: nn.Module) -> str:
    """Return the likely cause, from what the form computes compared with the first one."""
    saved = 1 - row.macs / first.macs if first.macs else 0.0
    if saved >= 0.5 and _is_sparse(module):
        return "looking up the columns of sparse rows costs about as much time as the skipped multiplications save"
    if not first.macs:
        return "its layers are of types whose multiply-adds are not counted, so it is not known what was saved"
    if row.macs >= first.macs:
        zeros = row.macs_nonzero < row.macs
        said = "those on zeros too" if zeros else "none of them on zeros: nothing is left to skip"
        return f"the same multiply-adds are done, {said}"
    return f"{saved:.0%} of the multiply-adds are gone, but most of the time is spent elsewhere"


def _is_sparse(module: nn.Module) -> bool:
    return any(isinstance(part, NonzeroWeights) for part in module.modules())

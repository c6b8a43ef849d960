"""The cost card: what each form of a network costs, counted and timed side by side, and why one is no faster."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.costs import counts as metrics
from prunelab.costs import latency as timing
from prunelab.costs.latency import BATCHES, LEAST, Run, race
from prunelab.costs.memory import peak_bytes
from prunelab.exports import int8 as quantizing
from prunelab.exports.csr import CSRLinear
from prunelab.pruning import masks, skipping

Row = dict[str, Any]
LEVEL = 6  # of compression: what gzip does unless told otherwise


class Form(NamedTuple):
    """One form of a network.

    Attributes:
        run: inputs [n, …] → logits [n, classes].
        files: paths of what is stored of it; none: its state as a safetensors file would be.
        counted: the module whose parameters and multiply-adds it has; None: `run`, which must be a module then.
    """

    run: Run
    files: tuple[Path, ...] = ()
    counted: nn.Module | None = None


def cost_card(forms: Mapping[str, Form | nn.Module], inputs: Tensor, measure: bool = True) -> list[Row]:
    """What each form of a network costs, one row a form, all timed in turns in one run.

    Args:
        forms: by names such as dense, masked, compact, csr, onnx, int8_weight; all on the CPU, in eval mode. The first
            is what the others are compared with.
        inputs: [n, …], examples to time with; they are repeated to a batch of 256.
        measure: whether to time them, which takes up to 7 s for each batch size.

    Returns:
        Plain data: `form`, `parameters`, `nonzero`, `macs`, `macs_nonzero` (of one example; on Conv, Linear, recurrent
        and attention weights), `bytes`, `gzipped`, `peak_bytes` (of a forward pass at batch 256; None where it is not
        known, and then `why_no_peak` says why), `threads`, `why_no_faster`, one sentence or None, and, if measured,
        `latency_1_ms`, `latency_256_ms` (median, low and high of its 95% interval), `speedup_1`, `speedup_256` (the
        same, against the first form). A batch size that is too slow for 7 s is left out.

    Raises:
        ValueError: if a form without a module does not say what is counted.
    """
    whole = {name: form if isinstance(form, Form) else Form(form) for name, form in forms.items()}
    rows = {name: _counted(name, form, _batch(inputs, 3)) for name, form in whole.items()}
    first = next(iter(rows.values()))
    for n in BATCHES if measure else ():
        if first.get("latency_1_ms", [0.0])[0] * n > 1000 * timing.SECONDS:
            continue  # not even one pass; and so much may not fit into memory
        runs = {name: form.run for name, form in whole.items()}
        for name, found in race(runs, _batch(inputs, n), first["form"]).items():
            rows[name] |= {f"latency_{n}_ms": list(found.ms), f"speedup_{n}": list(found.speedup)}
    for name, row in rows.items():
        row["why_no_faster"] = None if row is first else _why(row, first, whole[name])
    return list(rows.values())


def _batch(inputs: Tensor, n: int) -> Tensor:
    """n examples, the same ones again if there are fewer."""
    return inputs.repeat(-(-n // len(inputs)), *[1] * (inputs.dim() - 1))[:n]


def _counted(name: str, form: Form, x: Tensor) -> Row:
    model = form.counted or form.run
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name}: is no torch.nn.Module; must say what is counted")
    gone = _skipped(model) if not isinstance(form.run, nn.Module) else ()  # other runtimes' files have nothing of them
    tensors = list(_parameters(model, gone))
    macs, macs_nonzero = _macs(model, x[:1])
    stored = [path.read_bytes() for path in form.files] or [to_bytes(quantizing.flat(model))]
    return {
        "form": name,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "nonzero": sum(int(torch.count_nonzero(tensor)) for tensor in tensors),
        "macs": macs,
        "macs_nonzero": macs_nonzero,
        "bytes": sum(map(len, stored)),
        "gzipped": sum(len(gzip.compress(data, LEVEL)) for data in stored),
        **_peak(form.run, x),
        "threads": torch.get_num_threads(),
    }


def _peak(run: Run, x: Tensor) -> Row:
    """The peak, or why it is not known."""
    if not isinstance(run, nn.Module):
        return {"peak_bytes": None, "why_no_peak": "another runtime allocates it, out of sight"}
    found = peak_bytes(run, x, (piece for _, piece in quantizing.pieces(run)), max(BATCHES))
    why = "2 examples and 3 take different operations, which say nothing about 256"
    return {"peak_bytes": found, "why_no_peak": why if found is None else None}


def _parameters(model: nn.Module, gone: tuple[str, ...] = ()) -> Iterator[Tensor]:
    """As the network computes with them: masks multiplied in, quantised ones as numbers; without layers `gone`."""
    effective = {(item.module, item.parameter): item.effective for item in masks.masked(model)}
    for name, module in model.named_modules():
        for key, value in module.named_parameters(recurse=False) if not _inside(name, gone) else ():
            yield effective.get((module, key.removesuffix("_orig")), quantizing.plain(value))


def _macs(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """Multiply-adds of one example that are done, and those on nonzero weights; CSR layers do no others.

    What is inside of a skipped layer is not done.
    """
    rows: dict[nn.Module, int] = {}
    gone = _skipped(model)

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows[module] = rows.get(module, 0) + output.numel() // output.shape[-1]

    sparse_layers = [m for name, m in model.named_modules() if isinstance(m, CSRLinear) and not _inside(name, gone)]
    hooks = [module.register_forward_hook(record) for module in sparse_layers]
    try:
        layers = [layer for layer in metrics.layers(model, example) if not _inside(layer.name, gone)]
    finally:
        for hook in hooks:
            hook.remove()
    sparse = sum(len(module.values) * rows.get(module, 0) for module in sparse_layers)
    effective = {(item.module, item.parameter): item.effective for item in masks.masked(model)}
    done = nonzero = sparse
    for layer in layers:
        used = (layer.module, layer.parameter)
        weight = effective[used][layer.rows] if used in effective else quantizing.plain(layer.weight)
        done += weight.numel() * layer.positions
        nonzero += int(torch.count_nonzero(weight)) * layer.positions
    return done, nonzero


def _skipped(model: nn.Module) -> tuple[str, ...]:
    return tuple(f"{name}." for name in skipping.skipped(model))


def _inside(name: str, layers: tuple[str, ...]) -> bool:
    return f"{name}.".startswith(layers)


def _why(row: Row, dense: Row, form: Form) -> str | None:
    """One sentence for a form that is not clearly faster at a batch size; None for one that is, or was not timed.

    Masks need no timing for theirs, unless whole layers are skipped.
    """
    timed = [n for n in BATCHES if f"speedup_{n}" in row]
    slow: dict[str, list[str]] = {}
    for n in timed:
        median, low, _ = row[f"speedup_{n}"]
        if median < LEAST:
            slow.setdefault("hardly faster" if low > 1 else "no speed-up", []).append(str(n))
    if slow:
        said = ", ".join(f"{words} at batch {' and '.join(batches)}" for words, batches in slow.items())
        return f"{said}: {_reason(row, dense, form)}"
    sure = _masked(form) and row["macs"] >= dense["macs"]
    return f"no speed-up: {_reason(row, dense, form)}" if sure and not timed else None


def _module(form: Form) -> nn.Module:
    model = form.counted or form.run
    assert isinstance(model, nn.Module)
    return model


def _masked(form: Form) -> bool:
    return any(True for _ in masks.masked(_module(form)))


def _reason(row: Row, dense: Row, form: Form) -> str:
    if _masked(form):
        all_run = row["macs"] >= dense["macs"]  # the masks of whole layers say that these are skipped
        return f"masks are multiplied in, {'nothing is skipped' if all_run else 'in all layers that are left'}"
    saved = 1 - row["macs"] / dense["macs"] if dense["macs"] else 0.0
    if saved >= 0.5 and any(isinstance(module, CSRLinear) for module in _module(form).modules()):
        return "looking rows up costs about as much as the skipped multiplications save there"
    if any(quantizing.is_quantized(p) for p in _module(form).parameters()):
        return "8-bit weights save bytes; making floats of them, or rounding activations, at every call costs time"
    if not dense["macs"]:
        return "it has no layers whose multiply-adds are counted, so what was saved is not known"
    if row["macs"] >= dense["macs"]:
        zeros = row["macs_nonzero"] < row["macs"]
        said = "those on zeros too" if zeros else "none of them on zeros: nothing is left to skip"
        return f"the same multiply-adds are done, {said}"
    return f"{saved:.0%} of the multiply-adds are gone, but they are not what takes the time there"

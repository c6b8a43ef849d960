"""The cost card: what each form of a network costs, counted and timed side by side, and why one is no faster."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab import masks, metrics
from prunelab.export import quantizing
from prunelab.export.csr import CSRLinear
from prunelab.export.peak import peak_bytes
from prunelab.export.timing import BATCHES, LEAST, Interval, Latency, Run, race

Row = dict[str, Any]


class Form(NamedTuple):
    """One form of a network.

    Attributes:
        run: inputs [n, …] → logits [n, classes].
        files: paths of what is stored of it; none: its state as a safetensors file would be.
        counted: the module whose parameters and multiply-adds it has; None: `run`, which must be a module then.
        why: one sentence for where it is no faster; None: one that follows from its counts.
    """

    run: Run
    files: tuple[Path, ...] = ()
    counted: nn.Module | None = None
    why: str | None = None


def cost_card(
    forms: Mapping[str, Form | nn.Module], inputs: Tensor, reference: str = "dense", measure: bool = True
) -> list[Row]:
    """What each form of a network costs, one row a form, all timed in turns in one run.

    Args:
        forms: by names such as dense, masked, compact, csr, onnx, int8_weight; all on the CPU, in eval mode.
        inputs: [n, …], examples to time with; they are repeated to a batch of 256.
        reference: the name of the form that the others are compared with.
        measure: whether to time them, which takes up to 10 s for each batch size.

    Returns:
        Plain data: `form`, `parameters`, `nonzero`, `macs`, `macs_nonzero` (of one example; on Conv, Linear, recurrent
        and attention weights), `bytes`, `gzipped`, `peak_bytes` (of a forward pass at batch 256; None where it cannot
        be seen), `threads`, and, if measured, `latency_1_ms`, `latency_256_ms` (median, low and high of its 95%
        interval), `speedup_1`, `speedup_256` (the same, against the reference), and `why_no_faster`, one sentence or
        None.

    Raises:
        ValueError: if there is no such reference, or a form without a module does not say what is counted.
    """
    if reference not in forms:
        raise ValueError(f"reference={reference}: must be one of {', '.join(forms)}")
    whole = {name: form if isinstance(form, Form) else Form(form) for name, form in forms.items()}
    repeated = inputs.repeat(-(-max(BATCHES) // len(inputs)), *[1] * (inputs.dim() - 1))[: max(BATCHES)]
    rows = {name: _counted(name, form, repeated) for name, form in whole.items()}
    if measure:
        for n in BATCHES:
            for name, latency in race({k: form.run for k, form in whole.items()}, repeated[:n], reference).items():
                rows[name] |= _timed(n, latency)
        for name, row in rows.items():
            row["why_no_faster"] = None if name == reference else _why(row, rows[reference], whole[name])
    return list(rows.values())


def _counted(name: str, form: Form, x: Tensor) -> Row:
    model = form.counted or form.run
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name}: is no torch.nn.Module; must say what is counted")
    runs = model is form.run  # what another runtime allocates cannot be seen from here
    tensors = list(_parameters(model))
    macs, macs_nonzero = _macs(model, x[:1])
    stored = [path.read_bytes() for path in form.files] or [to_bytes(quantizing.flat(model))]
    return {
        "form": name,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "nonzero": sum(int(torch.count_nonzero(tensor)) for tensor in tensors),
        "macs": macs,
        "macs_nonzero": macs_nonzero,
        "bytes": sum(map(len, stored)),
        "gzipped": sum(len(gzip.compress(data)) for data in stored),
        "peak_bytes": peak_bytes(model, x, (piece for _, piece in quantizing.pieces(model))) if runs else None,
        "threads": torch.get_num_threads(),
    }


def _parameters(model: nn.Module) -> Iterator[Tensor]:
    """As the network computes with them: masks multiplied in, quantised ones as numbers."""
    effective = {(item.module, item.parameter): item.effective for item in masks.masked(model)}
    for module in model.modules():
        for key, value in module.named_parameters(recurse=False):
            yield effective.get((module, key.removesuffix("_orig")), quantizing.plain(value))


def _macs(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """Multiply-adds of one example that are done, and those on nonzero weights; CSR layers do no others."""
    rows: dict[nn.Module, int] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows[module] = rows.get(module, 0) + output.numel() // output.shape[-1]

    hooks = [module.register_forward_hook(record) for module in model.modules() if isinstance(module, CSRLinear)]
    try:
        layers = metrics.layers(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    sparse = sum(len(module.values) * n for module, n in rows.items() if isinstance(module, CSRLinear))
    effective = {(item.module, item.parameter): item.effective for item in masks.masked(model)}
    done = nonzero = sparse
    for layer in layers:
        used = (layer.module, layer.parameter)
        weight = effective[used][layer.rows] if used in effective else quantizing.plain(layer.weight)
        done += weight.numel() * layer.positions
        nonzero += int(torch.count_nonzero(weight)) * layer.positions
    return done, nonzero


def _timed(n: int, latency: Latency) -> Row:
    return {f"latency_{n}_ms": list(latency.ms), f"speedup_{n}": list(latency.speedup)}


def _why(row: Row, dense: Row, form: Form) -> str | None:
    """One sentence for a form that is not clearly faster at one of the batch sizes; None for one that is at both."""
    slow = [str(n) for n in BATCHES if row[f"speedup_{n}"][0] < LEAST]
    if not slow:
        return None
    return f"no speed-up at batch {' and '.join(slow)}: {form.why or _reason(row, dense, form)}"


def _reason(row: Row, dense: Row, form: Form) -> str:
    model = form.counted or form.run
    assert isinstance(model, nn.Module)
    if any(True for _ in masks.masked(model)):
        return "masks are multiplied in, nothing is skipped"
    saved = 1 - row["macs"] / dense["macs"]
    if saved >= 0.5 and any(isinstance(module, CSRLinear) for module in model.modules()):
        return "looking rows up costs as much as the skipped multiplications save there"
    if any(quantizing.is_quantized(p) for p in model.parameters()):
        return "8-bit weights save bytes; making floats of them, or rounding activations, at every call costs time"
    if row["macs"] >= dense["macs"]:
        return "the same multiply-adds are done, those on zeros too"
    return f"{saved:.0%} of the multiply-adds are gone, but they are not what takes the time there"


def table(rows: list[Row]) -> str:
    """What a person reads; then one sentence for each form that is no faster."""
    timed = bool(rows) and f"latency_{BATCHES[0]}_ms" in rows[0]
    head = f"{'':<14}{'parameters':>12}{'nonzero':>12}{'MACs':>13}{'nonzero MACs':>14}"
    head += f"{'bytes':>12}{'gzipped':>12}{'peak kB':>9}"
    lines = [head + "".join(f"{f'ms at {n}':>26}{'speed':>8}" for n in BATCHES if timed)]
    for row in rows:
        line = f"{row['form']:<14}{row['parameters']:>12,}{row['nonzero']:>12,}{row['macs']:>13,}"
        line += f"{row['macs_nonzero']:>14,}{row['bytes']:>12,}{row['gzipped']:>12,}"
        line += f"{'–' if row['peak_bytes'] is None else format(row['peak_bytes'] // 1000, ','):>9}"
        for n in BATCHES if timed else ():
            line += f"{_interval(Interval(*row[f'latency_{n}_ms'])):>26}{row[f'speedup_{n}'][0]:>7.2f}×"
        lines.append(line)
    if timed:
        lines.append(
            f"median and its 95% interval of interleaved turns after a warm-up, {rows[0]['threads']} thread(s)"
        )
        lines += [f"{row['form']}: {row['why_no_faster']}" for row in rows if row["why_no_faster"]]
    return "\n".join(lines)


def _interval(found: Interval) -> str:
    return f"{found.median:.3f} [{found.low:.3f}, {found.high:.3f}]"

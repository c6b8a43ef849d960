"""Why a form of a network is not faster than the dense network in the same runtime: one sentence."""

from __future__ import annotations

from torch import nn

from prunelab.costs.counts import NonzeroWeights
from prunelab.costs.form_cost import FormCost
from prunelab.costs.latency import LEAST


def why_no_faster(row: FormCost, first: FormCost, module: nn.Module, plain: bool) -> str | None:
    """Return a sentence for a form that is not clearly faster than the first one; None for a faster or untimed one.

    A module that does as many multiply-adds as the first form, some on zeros, is no faster: it need not be timed.

    Args:
        module: whose layers the form runs.
        plain: whether torch runs the module itself, not another runtime a file made from it.
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

"""Masks of a model that is sparse already: its zeros are kept as pruned weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.pruning.masks import Masks, named
from prunelab.pruning.prunable import is_prunable
from prunelab.pruning.rules import Group


@dataclass(frozen=True)
class AdoptedZeros:
    """What `adopt_zeros` found."""

    zeros: Mapping[str, tuple[int, int]]  # for each tensor that got a mask, the number of its zeros and of its weights
    empty: Sequence[str]  # prunable tensors that are all zero and not adopted: it is rather their initial value


@torch.no_grad()
def adopt_zeros(masks: Masks, groups: Sequence[Group], known: Mapping[str, Tensor] | None = None) -> AdoptedZeros:
    """Give prunable tensors that have zeros a mask of their nonzero weights.

    These are the tensors of the groups, and those that are prunable by default, which stay as sparse as they are even
    where they are excluded. With granularity=channel, a bias stays zero if its channel is. Other zeros, such as those
    of new biases and norms, and tensors that are all zero, do not count as pruned.

    Args:
        known: masks by parameter name, read from a file; for these tensors they decide instead of the zeros.
    """
    known, seen, zeros, empty = known or {}, set[int](), dict[str, tuple[int, int]](), list[str]()
    chosen = {id(item.parameter) for group in groups for item in group.items}
    for name, module, key, parameter in named(masks.model):
        kept = parameter != 0 if name not in known else known[name].to(parameter.device) != 0
        if id(parameter) in seen or (name not in known and not (id(parameter) in chosen or is_prunable(module, key))):
            continue
        seen.add(id(parameter))
        if name not in known and not bool(kept.any()):
            empty.append(name)
        elif not bool(kept.all()):
            masks.add([(module, key)])
            masks.of([(module, key)])[0].set(kept)
            zeros[name] = parameter.numel() - int(kept.sum()), parameter.numel()
    for group in groups:
        group.prune_followers(masks, only_zeros=True)
    masks.apply()
    return AdoptedZeros(zeros, empty)

"""What a lottery ticket is compared with: the same training from another start, under the ticket's masks or others.

A control shares with its ticket what it does not change: seeds, order of the data, initial weights, masks, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunelab.pruning import masks


def apply(control: str, model: nn.Module, fresh: nn.Module, origin: Mapping[str, Tensor]) -> None:
    """Puts a control's weights and masks into a model that carries the ticket's masks.

    Args:
        control: `reinit`: other initial weights under the ticket's masks (Frankle & Carbin 2019, arXiv 1803.03635).
            `random_masks`: the ticket's weights under masks drawn anew, each tensor as sparse as the ticket's.
            `shuffled_masks`: the same, but each output unit keeps as many inputs as it has in the ticket.
            `signs`: of the ticket's weights only the signs, times the tensor's standard deviation at initialisation
            (Zhou et al. 2019, arXiv 1905.01067, §4).
        fresh: the same model with other initial weights.
        origin: the weights that the ticket is rewound to.

    Draws from torch's generator.
    """
    masks.restore(model, masks.snapshot(fresh)[0] if control == "reinit" else origin)
    for item in masks.masked(model):
        if control == "random_masks":
            item.mask.copy_(_permuted(item.mask.reshape(1, -1)).view_as(item.mask))
        elif control == "shuffled_masks" and item.mask.dim() > 1:
            item.mask.copy_(_permuted(item.mask.flatten(1)).view_as(item.mask))
        elif control == "signs":
            item.original.detach().copy_(signed(origin[item.name]))
    masks.refresh(model)


def signed(weight: Tensor) -> Tensor:
    """The signs of a tensor times its standard deviation."""
    return weight.sign() * weight.std() if weight.numel() > 1 else weight.sign() * weight.abs()


def _permuted(rows: Tensor) -> Tensor:
    """Each row of a matrix in an order of its own, drawn on the CPU."""
    order = torch.rand(rows.shape).argsort(1).to(rows.device)
    return rows.gather(1, order)

"""Controls of lottery tickets: the same training from other weights or under other masks; all else is bit-identical."""

import torch
from torch import Tensor, nn

from prunelab.experiment.bench import Bench, Tensors


@torch.no_grad()
def apply(control: str, bench: Bench, fresh: nn.Module | None, origin: Tensors) -> None:
    """Set the control's weights and masks in a model that has the ticket's masks. Draws from torch's generator.

    Args:
        control: `reinit`: other initial weights under the ticket's masks (Frankle & Carbin 2019, arXiv 1803.03635).
            `random_masks`: the ticket's weights under random masks, each tensor as sparse as the ticket's.
            `shuffled_masks`: the same, but each output unit keeps as many inputs as it has in the ticket.
            `signs`: of the ticket's weights only the signs, times the tensor's standard deviation at initialisation
            (Zhou et al. 2019, arXiv 1905.01067, section 4).
        fresh: the same model with other initial weights, for `reinit`.
        origin: the weights that the ticket is rewound to.
    """
    for item in bench.masks:
        if control == "random_masks":
            item.set(_permuted(item.mask.reshape(1, -1)).view_as(item.mask))
        elif control == "shuffled_masks" and item.mask.dim() > 1:
            item.set(_permuted(item.mask.flatten(1)).view_as(item.mask))
    bench.restore(origin if fresh is None else dict(fresh.state_dict()))
    if control == "signs":
        for item in bench.masks:
            item.parameter.copy_(signed(origin[item.name]))
    bench.masks.apply()


def signed(weight: Tensor) -> Tensor:
    """Return the signs of a tensor times its standard deviation."""
    return weight.sign() * weight.std() if weight.numel() > 1 else weight.sign() * weight.abs()


def _permuted(rows: Tensor) -> Tensor:
    """Return a matrix with each row in a random order of its own, drawn on the CPU."""
    order = torch.rand(rows.shape).argsort(1).to(rows.device)
    return rows.gather(1, order)

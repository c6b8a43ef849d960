"""The same fraction of every row: of the units that belong to one output."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.pruning.units import Allocation, Count, Units, fraction, number, smallest


class Row(Allocation):
    """Prune the same fraction of each row: round(amount · n) of the n units of each index of dimension 0.

    A row never loses its last unit.

    Use it with `wanda`, whose scores can be compared within one output only.

    Source: Sun et al. 2024, "A simple and effective pruning approach for large language models" (Wanda), section 3,
        arXiv 2306.11695.
    """

    evenly = True

    def check(self, name: str, units: tuple[int, ...]) -> None:
        """Raise ConfigError for units in one dimension, such as channels: each row would be a single unit."""
        if len(units) < 2:
            raise ConfigError(
                f"allocation=row: {name} has one unit in each row; needs granularity=weight, block or kernel"
            )

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the units with the smallest scores of each row; of equal ones the first."""
        return [_of_rows(u, fraction(amount)) for u in units]

    def left(self, counts: Sequence[Count], amount: float | None) -> list[int]:
        """Return the number of units that each tensor keeps; the rows of a tensor have equally many."""
        rows = [count.units[0] for count in counts]
        return [r * (c.alive // r - number(amount, c.alive // r)) for c, r in zip(counts, rows, strict=True)]


def _of_rows(units: Units, amount: float) -> Tensor:
    smallest([units.scores], [units.alive], 0)  # refuses scores that are not finite and ≥ 0
    living = units.alive.flatten(1)  # [rows, units of a row]
    scores = units.scores.flatten(1)
    # Units that are alive first, by score. The sort is stable: of equal scores the first is pruned first.
    order = torch.where(living, scores, torch.inf).sort(dim=1, stable=True).indices
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).to(order).expand_as(order))
    count = living.sum(1).cpu().double()  # torch.round goes to the even neighbour of a half, as Python's round does
    goes = torch.minimum(torch.round(amount * count), (count - 1).clamp(min=0)).long().to(order.device)
    return ((place < goes[:, None]) & living).view(units.alive.shape)

"""A Lightning callback that prunes a LightningModule while a Trainer trains it."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from prunelab.integrations.timetable import Timetable
from prunelab.pruning.pruner import Pruner


class PruningCallback(Callback):
    """Prune before the epochs `start`, `start + every`, …, counted from 0, and log the sparsity.

    Checkpoints contain the masks, and `Trainer.fit(ckpt_path=…)` restores them.

    Args:
        amounts: one per pruning, such as `prunelab.schedules.cubic(sparsity=0.8, rounds=5)`.
        every: epochs between two prunings, ≥ 1.
        start: epochs before the first pruning, ≥ 0.
        options: keyword arguments of `prunelab.Pruner`. With several processes the criterion must read the weights
            alone, since each process scores on its own.

    Attributes:
        pruner: the pruner, once training has begun; its masks stay in force until `pruner.detach()`.
    """

    def __init__(self, amounts: Iterable[float | None], every: int = 1, start: int = 0, **options: Any) -> None:
        self.timetable, self.options = Timetable(amounts, every, start), options
        self.pruner: Pruner | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the module its masks, before a checkpoint is loaded."""
        if stage == "fit" and (self.pruner is None or self.pruner.model is not pl_module):
            self.timetable.check(-1 if trainer.max_epochs is None else trainer.max_epochs, "epochs")
            self.pruner = Pruner(pl_module, **self.options)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prune if it is time."""
        assert self.pruner is not None
        self.timetable.prune(self.pruner, trainer.current_epoch)
        pl_module.log("sparsity", self.pruner.masks.sparsity())

    def state_dict(self) -> dict[str, Any]:
        """Return the masks."""
        return {} if self.pruner is None else self.pruner.masks.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the masks."""
        if self.pruner is not None:
            self.pruner.masks.load(state_dict)
            self.pruner.masks.apply()

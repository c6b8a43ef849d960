"""A callback for the Trainer of Transformers that prunes its model during training."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prunelab.errors import ConfigError
from prunelab.integrations.timetable import Timetable
from prunelab.pruning.pruner import Pruner

FILE = "pruning_masks.safetensors"  # in each checkpoint folder


class PruningCallback(TrainerCallback):
    """Prune before the optimizer steps `start`, `start + every`, …, counted from 0.

    Each checkpoint folder gets a file of masks, and `Trainer.train(resume_from_checkpoint=True)` restores them.

    Args:
        amounts: one per pruning, such as `prunelab.schedules.cubic(sparsity=0.8, rounds=5)`.
        every: optimizer steps between two prunings, ≥ 1.
        start: optimizer steps before the first pruning, ≥ 0.
        options: keyword arguments of `prunelab.Pruner`. With several processes the criterion must read the weights
            alone, since each process scores on its own.

    Attributes:
        pruner: the pruner, once training has begun; its masks stay in force until `pruner.detach()`.
    """

    def __init__(self, amounts: Iterable[float | None], every: int, start: int = 0, **options: Any) -> None:
        self.timetable, self.options = Timetable(amounts, every, start), options
        self.pruner: Pruner | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the model its masks; when training resumes, those of the checkpoint.

        Raises:
            ConfigError: if training ends before the last pruning, or the checkpoint has no masks.
        """
        self.timetable.check(state.max_steps, "steps")
        model: nn.Module = kwargs["model"]
        if self.pruner is None or self.pruner.model is not model:
            self.pruner = Pruner(model, **self.options)
        if state.global_step:
            file = _file(args, state)
            if not file.exists():
                raise ConfigError(f"resume_from_checkpoint: {file} is missing; must be a checkpoint of a pruned model")
            self.pruner.masks.load(load_file(file))
            self.pruner.masks.apply()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Prune if it is time."""
        if self.pruner is not None:
            self.timetable.prune(self.pruner, state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the masks into the checkpoint's folder."""
        if self.pruner is not None and state.is_world_process_zero:
            save_file(self.pruner.masks.state(), _file(args, state))


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}" / FILE

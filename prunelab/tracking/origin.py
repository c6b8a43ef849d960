"""How a run was started: its command, its name in TensorBoard, its live objects."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """How a run was started.

    Attributes:
        command: the command that repeats it; empty for a run from Python.
        telling: overrides that distinguish the run from others, for TensorBoard's hparams; None: all keys are compared.
        name: name of the TensorBoard run inside the folder; empty: the folder itself.
        quiet: print nothing but warnings.
        live: digest of the live model and data; empty without them.
    """

    command: str = ""
    telling: Sequence[str] | None = None
    name: str = ""
    quiet: bool = False
    live: str = ""

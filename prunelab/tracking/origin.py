"""How a run was started: its command, its name in TensorBoard, its live objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prunelab.config.digest import NEVER_COMPARED
from prunelab.config.spec import Spec


@dataclass(frozen=True)
class Origin:
    """How a run was started.

    Attributes:
        command: the command that repeats it; empty for a run from Python.
        telling: overrides that distinguish the run from others, for TensorBoard's hparams; None: all keys are compared.
        name: name of the TensorBoard run inside the folder; empty: the folder itself.
        quiet: print nothing but warnings.
        live: digest of the live model and data; empty without them.
        live_names: what reports call the live `model` and `data`, by these words.
    """

    command: str = ""
    telling: Sequence[str] | None = None
    name: str = ""
    quiet: bool = False
    live: str = ""
    live_names: Mapping[str, str] = field(default_factory=dict)

    def choices(self, spec: Spec) -> dict[str, str | int]:
        """Return the run's seed, its strategy, and the values of the overrides that distinguish it, by their keys."""
        pairs = (item.lstrip("+").partition("=")[::2] for item in self.telling or ())
        told = {k: v for k, v in pairs if v and k not in NEVER_COMPARED and not k.startswith(("hydra.", "hydra/"))}
        own: dict[str, str | int] = {"seed": spec.seed, "strategy": spec.strategy.name}
        return {**own, **told, **own}

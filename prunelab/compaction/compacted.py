"""The result of compaction: the smaller network, what was removed, what stays and why, and the proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from prunelab.compaction.attention_heads import Heads
from prunelab.compaction.constant_layer import Constant
from prunelab.compaction.proof import Proof

SIZES = {"out_channels": "channels", "out_features": "neurons", "hidden_size": "hidden units", "num_heads": "heads"}


@dataclass(frozen=True)
class Compacted:
    """A smaller network that computes the same function; `print` shows what was removed and the proof.

    Attributes:
        model: the smaller network, in eval mode; shares no tensor with the one that it was made from.
        removed: one sentence per layer that became smaller.
        kept_because: sentences on what has no weights and is still there.
        proof: how far the outputs of both networks are apart, on random inputs; of a run, on the test set too.
    """

    model: nn.Module
    removed: list[str]
    kept_because: list[str]
    proof: Proof

    def __str__(self) -> str:
        """The proof, then what was removed, then what stays and why."""
        lines = [str(self.proof)]
        for title, sentences in (("removed", self.removed), ("stays", self.kept_because)):
            lines += ["", title, *(f"  {sentence}" for sentence in sentences or ["nothing"])]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return everything but the network, as plain data."""
        return {
            "removed": self.removed,
            "kept_because": self.kept_because,
            "largest_difference": self.proof.largest_difference,
            "largest_difference_float64": self.proof.in_float64,
            "same_classes": self.proof.same_classes,
            "agree": self.proof.agree,
            "inputs": self.proof.inputs,
        }


def describe(dense: nn.Module, small: nn.Module, not_run: Mapping[str, str]) -> list[str]:
    """Return what became of the layers, one sentence each: `conv1: 3 of 6 channels`.

    Args:
        not_run: names of layers that the dense network does not run, and why.
    """
    found = []
    kept = dict(small.named_modules())
    for name, before in dense.named_modules():
        after = kept.get(name)
        if after is None:
            continue  # it was inside a layer that was replaced
        if isinstance(after, Constant):
            found.append(f"{name}: the whole layer, since its output never changes")
        elif isinstance(after, nn.Identity) and name in not_run:
            found.append(f"{name}: the whole layer, since {not_run[name]}")
        else:
            for size, units in SIZES.items():
                was = getattr(before, size, None)
                now = after.heads if isinstance(after, Heads) else getattr(after, size, None)
                if isinstance(was, int) and isinstance(now, int) and now < was:
                    found.append(f"{name}: {was - now} of {was} {units}")
    return found

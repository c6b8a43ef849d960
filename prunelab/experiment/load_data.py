"""Loading the data of an experiment onto its device."""

import json

import torch

from prunelab.config.network import dataset
from prunelab.config.spec import Spec
from prunelab.data.dataset import Dataset
from prunelab.data.options import augmented, hold_out, scaled, with_label_noise
from prunelab.experiment import live_identity
from prunelab.runtime import turns
from prunelab.runtime.seeding import seeded


def load(spec: Spec, live: Dataset | None, device: torch.device) -> tuple[Dataset, dict[str, str] | None]:
    """Return the data on the device, and digests of their content where they are the user's own.

    Jobs of one process share them.

    Args:
        live: a data set that replaces the spec's.
    """

    def make() -> tuple[Dataset, dict[str, str] | None]:
        with seeded(spec.seed, "data"):
            data = live if live is not None else dataset(spec.data)
        limit = None if live is not None else spec.data.options.get("limit")
        data = hold_out(data, spec.validation, limit)
        data = scaled(with_label_noise(data, spec.label_noise, spec.seed), spec.scale)
        content = live_identity.content(data) if users else None
        return augmented(data, spec.shift, spec.flip).to(device), content

    users = live is not None or spec.data.source is not None
    seed = spec.seed if users or spec.label_noise else None  # the user's code may draw by it
    name = [spec.data.identity, spec.validation, spec.label_noise, spec.scale, spec.shift, spec.flip, seed]
    return turns.shared(json.dumps([*name, str(device)]), make)

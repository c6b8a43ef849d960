"""Wrong labels in the training split."""

from dataclasses import replace

import torch

from prunelab.data.dataset import Dataset
from prunelab.runtime.seeding import derive


def with_label_noise(data: Dataset, share: float | None, seed: int) -> Dataset:
    """Return a data set with round(share · n) of the n training labels replaced by another class, each as likely.

    Validation and test labels stay as they are.

    Args:
        share: in (0, 1]; None: none are replaced.
        seed: determines which labels are replaced, and by what.

    Source: the symmetric noise of He et al. 2022, "Sparse double descent", arXiv 2206.08684, section 3.
    """
    if share is None:
        return data
    labels, generator = data.train.labels.clone(), torch.Generator().manual_seed(derive(seed, "label_noise"))
    classes = 1 + max(int(split.labels.max()) for split in (data.train, data.validation, data.test))
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, max(classes, 2), (len(chosen),), generator=generator)
    labels[chosen] = (labels[chosen] + shift) % classes
    return replace(data, train=replace(data.train, labels=labels))

"""LeNets for 28 × 28 grey images: a small convolutional one and the fully connected LeNet-300-100."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """conv 1→6 3×3, pool, conv 6→16 3×3, pool, 400→120→84→10: 59,838 weights, 60,074 parameters with biases.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition"; ReLU and max-pool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 28, 28] → logits [n, 10]. Pool and ReLU commute; this order is the faster one."""
        x = x.to(memory_format=torch.channels_last)  # pooling is a fifth faster that way
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # [n, 6, 13, 13]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [n, 16, 5, 5]
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet300100(nn.Module):
    """784→300→100→10, fully connected: 266,200 weights.

    Source: LeCun et al. 1998; the small network of Frankle & Carbin 2019, arXiv 1803.03635.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 28, 28] → logits [n, 10]."""
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

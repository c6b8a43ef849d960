"""Conv-2, Conv-4 and Conv-6: the small VGGs of the lottery ticket paper."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (64, 128, 256)


class Conv(nn.Module):
    """Pairs of 3×3 convolutions, each pair followed by max-pooling, then Linear layers of 256, 256 and `classes`.

    On 3 × 32 × 32, Conv-2 has 4.3 million weights, Conv-4 2.4 and Conv-6 2.3. (The paper's table says 1.7 for
    Conv-6, but the layers that it lists have 2.3.)

    Args:
        pairs: 1, 2 or 3: Conv-2, Conv-4 or Conv-6; the pairs have 64, 128 and 256 channels.
        shape: shape of one example, [channels, height, width]; height and width at least 2 ** pairs.
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if `pairs` is another number, or the image is too small.

    Source: Frankle & Carbin 2019, arXiv 1803.03635, figure 2; Glorot-normal initialisation as there.
    """

    def __init__(self, pairs: int = 1, *, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> None:
        super().__init__()
        if pairs not in (1, 2, 3):
            raise ValueError(f"pairs={pairs}: must be 1, 2 or 3")
        channels, height, width = shape
        if min(height, width) < 2**pairs:
            raise ValueError(f"shape={list(shape)}: height and width must be at least {2**pairs} for pairs={pairs}")
        widths = [width for width in CHANNELS[:pairs] for _ in range(2)]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.fc1 = nn.Linear(widths[-1] * (height >> pairs) * (width >> pairs), 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc3 = nn.Linear(256, classes)
        for layer in (*self.convs, self.fc1, self.fc2, self.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, classes] for images [n, *shape]."""
        for number, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if number % 2:
                x = F.max_pool2d(x, 2)  # for 28 × 28: [n, 64, 14, 14], [n, 128, 7, 7], [n, 256, 3, 3]
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

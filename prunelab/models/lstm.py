"""A recurrent network that reads an image row by row."""

from collections.abc import Sequence

from torch import Tensor, nn


class LSTM(nn.Module):
    """An LSTM over the rows of an image, and a Linear layer on its last hidden state (sequential MNIST by rows).

    Args:
        hidden: width of the hidden state, ≥ 1.
        layers: number of stacked LSTM layers, ≥ 1.
        embedding: width of a Linear layer that each row goes through first, ≥ 1; None: no such layer.
        shape: shape of one example, [channels, height, width].
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if a value is outside its range.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory"; Le, Jaitly & Hinton 2015,
    arXiv 1504.00941, who read images pixel by pixel.
    """

    def __init__(
        self,
        hidden: int = 128,
        layers: int = 1,
        embedding: int | None = None,
        *,
        shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
    ) -> None:
        super().__init__()
        for key, value in (("hidden", hidden), ("layers", layers), ("embedding", embedding)):
            if value is not None and value < 1:
                raise ValueError(f"{key}={value}: must be a whole number ≥ 1")
        channels, _, width = shape
        size = channels * width
        self.embedding = None if embedding is None else nn.Linear(size, embedding)
        self.lstm = nn.LSTM(embedding or size, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, classes] for images [n, *shape]."""
        rows = x.transpose(1, 2).flatten(2)  # [n, height, channels · width]
        rows = rows if self.embedding is None else self.embedding(rows)
        states, _ = self.lstm(rows)  # [n, height, hidden]
        return self.fc(states[:, -1])

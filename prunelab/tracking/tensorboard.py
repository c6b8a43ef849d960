"""TensorBoard: curves by epoch and by round, accuracy over sparsity, masks as images; one run, no sub-runs."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from prunelab.config.digest import NEVER_COMPARED
from prunelab.costs import form_cost
from prunelab.costs.form_cost import FormCost
from prunelab.pruning.masks import MaskedTensor, Masks
from prunelab.records import EpochRecord, LayerRecord, RoundRecord, flat, tags
from prunelab.tracking.accuracy_figure import OVER_SPARSITY, Dot, accuracy_figure, axes, dense_levels

ALWAYS_COMPARED = ("seed", "strategy", "amount")  # TensorBoard shows the first five, in alphabetical order
SHOWN = ("round", "amount", "sparsity", "nonzero", "compression_ratio", "val_accuracy", "test_accuracy", "seconds")
MOST_VALUES = 2**18  # of a tensor in a histogram
MOST_PIXELS = 2**18  # of an image that is not reduced
REDUCED_SIDE = 128
METRICS = ("test_accuracy", "sparsity", "compression_ratio", "theoretical_speedup")


class TensorBoard:
    """Write one run. Steps are integers: epochs since the beginning, rounds, or basis points of sparsity.

    Args:
        config: the whole config, written as text.
        overrides: overrides that distinguish the run: hparams, beside those always shown. None: all keys are hparams.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], overrides: Sequence[str] | None = None) -> None:
        self.writer = SummaryWriter(str(folder))
        self.epochs = 0
        text = json.dumps(config, indent=2)
        self.writer.add_text("config", f"```json\n{text}\n```")
        # add_hparams would split the run in two; the same summaries, written here, do not.
        compared = _compared(config, overrides)
        values = {key: v if isinstance(v, (str, float, int)) else json.dumps(v) for key, v in compared.items()}
        experiment, start, self.end = hparams(values, dict.fromkeys((f"final/{name}" for name in METRICS), 0.0))
        self.events = cast(Any, self.writer.file_writer)
        for summary in (experiment, start):
            self.events.add_summary(summary)

    def epoch(self, row: EpochRecord) -> None:
        """Write training curves, by epochs since the beginning."""
        self.epochs += 1
        for key, meaning in tags(EpochRecord).items():
            self._scalar(f"epoch/{key}", getattr(row, key), self.epochs, f"{meaning}, over epochs since the beginning")

    def round(self, row: RoundRecord, layers: Iterable[LayerRecord], masks: Masks) -> None:
        """Write everything about a finished round."""
        step = row.round
        for key, meaning in tags(RoundRecord).items():
            if (value := getattr(row, key)) is not None:
                self._scalar(f"round/{key}", value, step, f"{meaning}, over rounds; 0 is the dense network")
        for key in OVER_SPARSITY:
            self._scalar(f"over_sparsity/{key}", getattr(row, key), round(row.sparsity * 10_000), axes(key))
        for layer in layers:
            self._scalar(f"layer_sparsity/{layer.tensor}", layer.sparsity, step, "Zeros ÷ weights, over rounds")
        for item in masks:
            kind = "" if item.mask.dim() > 1 else "_of_vectors"  # which TensorBoard shows after the weights
            surviving = surviving_weights(item)
            if surviving.numel():  # a removed layer has none
                values = surviving.abs() if surviving.is_complex() else surviving
                self.writer.add_histogram(f"surviving{kind}/{item.name}", values, step)
            self.events.add_summary(Summary(value=[_picture(f"mask{kind}/{item.name}", mask_image(item.mask))]), step)

    def cost(self, rows: Sequence[FormCost]) -> None:
        """Write the cost card as text."""
        self.writer.add_text("cost", form_cost.markdown(rows))

    def finish(
        self, rounds: Sequence[RoundRecord], final: int, longer: RoundRecord | None = None, *, picture: bool = True
    ) -> None:
        """Write the table of rounds as text, and the numbers of the `final` one for the hparams page.

        With `picture`, accuracy over sparsity is drawn, with the dense network that was trained as long (`longer`).
        """
        dots = [Dot(row.sparsity, row.test_accuracy) for row in rounds]
        if picture and (drawn := accuracy_figure({"this run": dots}, dense_levels(rounds[0], longer))):
            self.events.add_summary(Summary(value=[drawn]))
        self.writer.add_text("rounds", markdown(rounds))
        for name in METRICS:
            self.writer.add_scalar(f"final/{name}", getattr(rounds[final], name), 0)
        self.events.add_summary(self.end)

    def _scalar(self, tag: str, value: float, step: int, description: str) -> None:
        metadata = SummaryMetadata(summary_description=description)
        self.events.add_summary(Summary(value=[Summary.Value(tag=tag, simple_value=value, metadata=metadata)]), step)

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()


def _compared(config: Mapping[str, Any], overrides: Sequence[str] | None) -> dict[str, Any]:
    """Return the hparams: keys and values, of a component its name, such as `strategy: l1`."""
    keys = {key: value for key, value in flat(config).items() if key not in NEVER_COMPARED}
    parts = {key.removesuffix("._target_").replace("strategy.name", "strategy"): value for key, value in keys.items()}
    named = {key: v.rpartition(".")[2] if f"{key}._target_" in keys else v for key, v in parts.items()}
    if overrides is None:
        return named
    pairs = (item.lstrip("+").partition("=")[::2] for item in overrides)
    given = {key: value for key, value in pairs if key not in NEVER_COMPARED}
    exact = {key: named[key] for key in given if key in named and not isinstance(config.get(key), Mapping)}
    return {key: named[key] for key in ALWAYS_COMPARED} | given | exact


def surviving_weights(item: MaskedTensor) -> Tensor:
    """Return the weights that are kept; of tensors with more than 2¹⁸ weights, every k-th weight is taken."""
    k = -(-item.mask.numel() // MOST_VALUES)
    return item.parameter.detach().flatten()[::k][item.mask.flatten()[::k] != 0]


def _picture(tag: str, pixels: Tensor) -> Summary.Value:
    """Return a grey picture, uint8 [height, width]. TensorBoard's writer would store each value three times."""
    file = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(file, "png", compress_level=1)
    height, width = pixels.shape
    image = Summary.Image(height=height, width=width, colorspace=1, encoded_image_string=file.getvalue())
    return Summary.Value(tag=tag, image=image)


def mask_image(mask: Tensor) -> Tensor:
    """Return a mask as an image, uint8 [height, width]: kept white, pruned black, gaps grey.

    A filter bank [out, in, …] becomes a grid of kernels with one row per output channel, or with all filters in one row
    if there is one input channel. A matrix [out, in] has a pixel per weight, a vector is a single row. Small images are
    enlarged. An image of more than 2¹⁸ pixels is reduced to one pixel per kernel, and to at most 128 × 128, where the
    grey is the share of kept weights.
    """
    if mask.numel() > MOST_PIXELS or (mask.dim() > 2 and _pixels(mask) > MOST_PIXELS):
        return _reduced(mask)
    bits = torch.atleast_2d(mask.detach().bool().cpu().to(torch.uint8) * 255)
    if bits.dim() < 3:
        return _enlarged(bits, 256 // max(bits.shape))
    kernels = bits.flatten(3) if bits.dim() > 3 else bits.unsqueeze(2)  # [out, in, kh, kw…]
    kernels = kernels.transpose(0, 1) if kernels.shape[1] == 1 else kernels
    rows, columns, height, width = kernels.shape
    scale = max(1, 256 // max(rows * height, columns * width))
    kernels = _enlarged(kernels, scale)
    gap = max(1, scale // 4)
    padded = nn.functional.pad(kernels, (0, gap, 0, gap), value=96)  # [rows, columns, height + gap, width + gap]
    grid = padded.permute(0, 2, 1, 3).reshape(rows * padded.shape[2], columns * padded.shape[3])
    return grid[:-gap, :-gap]


def _pixels(mask: Tensor) -> int:
    """Return the number of pixels of a filter bank's image, kernels one pixel apart."""
    rows, columns, height, *width = mask.shape
    return rows * columns * (height + 1) * (prod(width) + 1)


def _reduced(mask: Tensor) -> Tensor:
    """Return a mask as an image of at most 128 × 128 shares of kept weights."""
    shares = (mask.detach() != 0).float().cpu()
    shares = torch.atleast_2d(shares if shares.dim() < 3 else shares.flatten(2).mean(2))
    height, width = (min(length, REDUCED_SIDE) for length in shares.shape)
    return (nn.functional.adaptive_avg_pool2d(shares[None], (height, width))[0] * 255).round().to(torch.uint8)


def _enlarged(images: Tensor, scale: int) -> Tensor:
    return images.repeat_interleave(max(1, scale), -2).repeat_interleave(max(1, scale), -1)


def markdown(rows: Iterable[RoundRecord]) -> str:
    """Return the rounds as a Markdown table."""
    lines = [" | ".join(SHOWN), " | ".join("---" for _ in SHOWN)]
    lines += [" | ".join(_digits(getattr(row, name)) for name in SHOWN) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _digits(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)

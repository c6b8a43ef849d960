"""python -m prunelab.export RUN [kind ...]: a finished run's network as files for elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from prunelab.compaction import files as storing
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.costs.card import cost_card
from prunelab.exports import checkpoint as portable
from prunelab.exports import forms
from prunelab.exports import write as making
from prunelab.exports.formats import FORMATS
from prunelab.runtime import device as hardware
from prunelab.tracking import cost_table as cost

EPILOG = """\
Each file is loaded again in a fresh process and compared on random inputs and test examples before it is called done.
The graphs, onnx and torch_export, are of the compact network, if the run has one; the others have all layers.

safetensors   model.json beside model.safetensors: prunelab.load(folder) needs neither the run nor pickle
onnx          any batch size, checked in onnxruntime; needs prunelab[onnx]
csr           Linear layers of which 90% or more are zero, without their zeros
torch_export  a graph for torch.export.load
int8_weight   Linear layers in 8 bits, compared with the network that was so rounded; needs prunelab[quantize]
int8_dynamic  the same, and activations are rounded too"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Exit status: 0, 1 for whatever failed; the other kinds are made nevertheless."""
    options = _parser().parse_args(arguments)
    kinds = options.kinds or list(FORMATS)
    try:
        making.check(kinds)
        network = portable.read(options.folder, options.trusted, stale=True)
        config = network.config
        torch.set_num_threads(hardware.threads(config))
        test = building.bind(config, "data")().test
        wrong: list[ConfigError] = []
        small = storing.of_run(options.folder, options.trusted) if (options.folder / storing.SHAPES).is_file() else None
        done = making.make(options.folder, network.model, config, test, kinds, wrong.append, small)
    except (ConfigError, OSError) as error:
        return _say(error)
    if done:
        print(making.table(done))
        given = {"pruned": network.model} | ({"compact": small} if small else {})
        named = forms.exported(options.folder, small or network.model, [row.kind for row in done], options.trusted)
        rows = cost_card({**given, **named}, making.examples(test)["test"], not options.no_timing)
        print(f"\n{cost.table(rows)}")
    return max(map(_say, wrong), default=0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prunelab.export",
        description="Writes the network of a finished run into its folder, in one or more kinds of files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"{', '.join(FORMATS)}; all of them by default")
    parser.add_argument("--trusted", action="append", default=[], metavar="PACKAGE", help="of yours, with the model")
    parser.add_argument("--no-timing", action="store_true", help="leave the times out")
    return parser


def _say(error: Exception) -> int:
    print(f"prunelab: {error}", file=sys.stderr)
    return 1

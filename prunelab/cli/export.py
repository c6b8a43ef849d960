"""`prunelab export RUN [KIND ...]`: write a finished run's network in file formats for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prunelab.config.schema import ConfigError

EPILOG = """\
kinds:
  safetensors   model.json beside model.safetensors: prunelab.load(folder) needs neither the run nor pickle
  onnx          for any batch size, checked in onnxruntime; needs prunelab[onnx]
  csr           Linear layers with at least 90% zeros, stored without their zeros
  torch_export  a graph for torch.export.load
  int8_weight   Linear layers with 8-bit weights, compared with the network rounded in the same way; needs
                prunelab[quantize]
  int8_dynamic  8-bit weights and 8-bit activations; needs prunelab[quantize]

A file counts as written when a fresh process has loaded it and its outputs agree on random inputs and test examples.
onnx and torch_export hold the compact network if the run has one; the other kinds hold the network with all layers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 if a kind failed; the other kinds are written all the same."""
    options = _parser().parse_args(arguments)
    import torch

    from prunelab.compaction import files as storing
    from prunelab.config import build as building
    from prunelab.costs.card import cost_card
    from prunelab.exports import checkpoint as portable
    from prunelab.exports import forms
    from prunelab.exports import write as making
    from prunelab.exports.formats import FORMATS
    from prunelab.runtime import device as hardware
    from prunelab.tracking import cost_table as cost

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
        prog="prunelab export",
        description="Writes the network of a finished run into its folder, in one or more kinds of files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="what to write, see below; by default all kinds")
    parser.add_argument(
        "--trusted", action="append", default=[], metavar="PACKAGE", help="your package that the model comes from"
    )
    parser.add_argument("--no-timing", action="store_true", help="do not measure how long each form takes")
    return parser


def _say(error: Exception) -> int:
    print(f"prunelab: {error}", file=sys.stderr)
    return 1

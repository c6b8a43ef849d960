"""`prunelab export RUN [KIND ...]`: write a finished run's network in file formats for other programs."""

from collections.abc import Sequence

from prunelab.cli.arguments import failed, run_parser
from prunelab.errors import ConfigError
from prunelab.runtime.streams import say

DESCRIPTION = "Writes the network of a finished run into its folder, in one or more kinds of files."
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
    parser = run_parser("export", DESCRIPTION, EPILOG)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="what to write, see below; by default all kinds")
    parser.add_argument("--no-timing", action="store_true", help="do not measure how long each form takes")
    options = parser.parse_args(arguments)
    import torch

    from prunelab.compaction import compact_files
    from prunelab.costs import form_cost
    from prunelab.costs.card import cost_card
    from prunelab.exports import cost_forms, export_files, finished_run
    from prunelab.exports.formats import FORMATS
    from prunelab.runtime import device
    from prunelab.tracking import run_lock

    kinds, folder, trusted = options.kinds or list(FORMATS), options.folder, options.trusted
    try:
        export_files.check(kinds)
        network = finished_run.read(folder, trusted, stale=True)
        config = network.config or {}
        torch.set_num_threads(device.threads(finished_run.threads(network)))
        test = finished_run.test_split(network)
        wrong: list[Exception] = []
        small = compact_files.of_run(folder, trusted) if (folder / compact_files.SHAPES).is_file() else None
        with run_lock.locked(folder):
            done = export_files.make(folder, network.model, config, test, kinds, wrong.append, small)
    except (ConfigError, OSError) as error:
        return failed(error)
    if done:
        say(export_files.table(done))
        given = {"masked (torch)": network.model} | ({"compact (torch)": small} if small else {})
        kinds, model = [row.kind for row in done], small or network.model
        named = cost_forms.exported(folder, model, kinds, trusted, compact=small is not None)
        rows = cost_card({**given, **named}, export_files.examples(test)["test"], not options.no_timing)
        say(f"\n{form_cost.table(rows)}")
    return max(map(failed, wrong), default=0)

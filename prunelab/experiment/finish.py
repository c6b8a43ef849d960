"""The end of an experiment: the network in every form that is asked for, what each of them costs, and the proof."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from prunelab import exports
from prunelab.compaction import finish as compaction
from prunelab.config.spec import Finish
from prunelab.costs.card import Form, cost_card
from prunelab.errors import need
from prunelab.experiment import proof
from prunelab.experiment.bench import Bench
from prunelab.exports import cost_forms, fingerprint, int8
from prunelab.exports.checkpoint import WEIGHTS
from prunelab.exports.network_files import Network
from prunelab.records import RoundRecord, plain
from prunelab.tracking.run_folder import RunFolder
from prunelab.training.callbacks import gate_savings

DENSE, MASKED, COMPACT = "dense (torch)", "masked (torch)", "compact (torch)"  # forms of the cost card


def need_packages(wanted: Finish) -> None:
    """Raise ConfigError if a package that the end of the run needs is not installed."""
    if "onnx" in wanted.export:
        need("onnx", "onnx", "onnxscript", "onnxruntime", caller="export=[onnx]")
    if wanted.quantize is not None:
        need("quantize", "torchao", caller=f"quantize={wanted.quantize}")


def finish(bench: Bench, report: RunFolder, result: RoundRecord) -> nn.Module:
    """Write the network in every form that the spec asks for, with its cost, and prove that the files hold it.

    A part that fails becomes a problem of the run, and the others are made all the same. Return the compact or the
    pruned network.

    Raises:
        StorageError: if the network cannot be saved.
    """
    report.conclude(result.round)
    exports.write(report.folder, bench.model, bench.masks)
    pruned = model = bench.copy()
    found = _pruned(bench, report, pruned)
    if bench.spec.finish.compact:
        with report.problems.part("compact=true"):
            compacted = compaction.finish(pruned, bench.data.test, report.folder, bench.spec.finish.round_to)
            report.tell("compact", compacted.as_json(), str(compacted))
            found[COMPACT], model = compaction.form(compacted, report.folder), compacted.model
    bench.hooks.interrupt()
    found |= _export(bench, report, pruned, model)
    bench.hooks.interrupt()
    with report.problems.part("cost"):
        _count(bench, report, found)
    bench.hooks.interrupt()
    report.save()
    with report.problems.part("proof", decisive=True):
        proof.prove(bench, report.folder, result, COMPACT in found)
    return model


def _pruned(bench: Bench, report: RunFolder, pruned: nn.Module) -> dict[str, Form]:
    """Note the fingerprint of the pruned network and what its gates save; return it and the dense one as forms."""
    test, found = bench.data.test, dict[str, Form]()
    on_cpu = pruned if bench.device.type == "cpu" else bench.copy().cpu()
    with report.problems.part("fingerprint"):
        report.note(fingerprint=fingerprint.of(on_cpu, exports.examples(test)["random"]))
    with report.problems.part("cost"):
        masked = Form(on_cpu.eval(), (report.folder / WEIGHTS,))
        found = {DENSE: Form(bench.dense_network().cpu()), MASKED: masked}
    with report.problems.part("gates"):
        report.gates(gate_savings.measure(pruned, test))
    return found


def _export(bench: Bench, report: RunFolder, pruned: nn.Module, model: nn.Module) -> dict[str, Form]:
    """Write the files of other formats; return those that were made, as forms for the cost card."""
    spec, wanted, test, found = bench.spec, bench.spec.finish, bench.data.test, dict[str, Form]()
    kinds = [*wanted.export, *([wanted.quantize] if wanted.quantize else [])]
    if kinds:
        with report.problems.part(f"export=[{','.join(kinds)}]"):
            rows = exports.make(report.folder, pruned, spec.plain, test, kinds, report.problems.add, compact=model)
            report.tell("export", list(map(plain, rows)), exports.table(rows))
            made, small = [row.kind for row in rows], deepcopy(model).cpu().eval()
            found = cost_forms.exported(report.folder, small, made, spec.trusted, compact=model is not pruned)
    if wanted.quantize is not None:
        with report.problems.part(f"quantize={wanted.quantize}"):
            quantized = int8.quantize(pruned, wanted.quantize, test)
            report.tell("quantized", quantized.as_json(), str(quantized))
    return found


def _count(bench: Bench, report: RunFolder, found: Mapping[str, Form]) -> None:
    """Report what each form costs, and whether the compact one meets `schedule.macs`."""
    spec, inputs, forms = bench.spec, exports.examples(bench.data.test)["test"], dict(found)
    others = any(name not in (DENSE, MASKED) for name in found)
    wanted = others if spec.finish.latency is None else spec.finish.latency
    with TemporaryDirectory(prefix=".dense.", dir=report.folder) as folder:
        if wanted and DENSE in found:
            with report.problems.part("the dense network in other runtimes"):
                dense = Network(bench.dense_network().cpu(), inputs, {}, dict(spec.plain))
                forms = dict(cost_forms.with_dense(found, Path(folder), dense, spec.trusted))
        card = cost_card(forms, inputs, wanted)
    report.cost(card)
    macs = {row.form: row.macs for row in card}
    if spec.macs is not None and COMPACT in macs:
        report.macs(spec.macs, macs[COMPACT] / macs[DENSE])

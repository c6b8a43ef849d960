"""The end of an experiment: the network in every form that is asked for, and what each of them costs."""

import importlib.util
from copy import deepcopy

from torch import nn

from prunelab import exports
from prunelab.compaction import finish as compaction
from prunelab.config.spec import Finish
from prunelab.costs.card import Form, cost_card
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.exports import cost_forms, int8
from prunelab.tracking.run_folder import RunFolder
from prunelab.training.callbacks import gate_savings


def need_packages(wanted: Finish) -> None:
    """Raise ConfigError if a package that the end of the run needs is not installed."""
    for extra, packages, asked in (
        ("onnx", ("onnx", "onnxscript", "onnxruntime"), "export=[onnx]" if "onnx" in wanted.export else ""),
        ("quantize", ("torchao",), f"quantize={wanted.quantize}" if wanted.quantize is not None else ""),
    ):
        for package in packages if asked else ():
            if importlib.util.find_spec(package) is None:
                raise ConfigError(f"{asked}: needs {package}; pip install 'prunelab[{extra}]'")


def finish(bench: Bench, report: RunFolder) -> nn.Module:
    """Write the network in every form that the spec asks for, with its cost; return the compact or the pruned one."""
    spec, folder, test = bench.spec, report.folder, bench.data.test
    wanted = spec.finish
    exports.write(folder, bench.model, bench.masks)
    pruned = model = bench.copy()
    found: dict[str, Form | nn.Module] = {
        "dense": Form(bench.dense_network().cpu()),
        "masked": cost_forms.masked(pruned if bench.device.type == "cpu" else bench.copy(), folder),
    }
    report.gates(gate_savings.measure(pruned, test))
    if wanted.compact:
        compacted = compaction.finish(pruned, test, folder, wanted.round_to)
        report.tell("compact", compacted.as_json(), str(compacted))
        found["compact"], model = compaction.form(compacted, folder), compacted.model
    kinds = [*wanted.export, *([wanted.quantize] if wanted.quantize else [])]
    if kinds:
        bench.hooks.interrupt()
        rows = exports.make(folder, pruned, spec.plain, test, kinds, compact=model)
        report.tell("export", [row.as_json() for row in rows], exports.table(rows))
        found |= cost_forms.exported(folder, deepcopy(model).cpu().eval(), kinds, spec.trusted)
    if wanted.quantize is not None:
        quantized = int8.quantize(pruned, wanted.quantize, test)
        report.tell("quantized", quantized.as_json(), str(quantized))
    bench.hooks.interrupt()
    others = bool(wanted.compact or kinds)
    card = cost_card(found, exports.examples(test)["test"], others if wanted.latency is None else wanted.latency)
    report.cost(card)
    if spec.macs is not None:
        macs = {row.form: row.macs for row in card}
        report.macs(spec.macs, macs["compact"] / macs["dense"])
    return model

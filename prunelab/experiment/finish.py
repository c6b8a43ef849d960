"""The end of an experiment: the network in every form that is asked for, and what each of them costs."""

from __future__ import annotations

import importlib.util

from omegaconf import DictConfig
from torch import nn

from prunelab import exports as export
from prunelab.compaction import finish as compact
from prunelab.compaction.channel_groups import need_torch_pruning
from prunelab.config.schema import ConfigError
from prunelab.costs.card import Form, cost_card
from prunelab.experiment.lab import Lab
from prunelab.exports import forms
from prunelab.exports import int8 as quantizing
from prunelab.pruning import masks
from prunelab.runtime.seeding import seeded
from prunelab.tracking.run_folder import RunFolder
from prunelab.training.callbacks import gate_savings


def need_packages(config: DictConfig) -> None:
    """Raises ConfigError for what the config asks for at the end of the run and is not installed, now."""
    if config.compact:
        need_torch_pruning()
    for extra, packages, asked in (
        ("onnx", ("onnx", "onnxscript", "onnxruntime"), "onnx" in config.export and "export=[onnx]"),
        ("quantize", ("torchao",), config.quantize is not None and f"quantize={config.quantize}"),
    ):
        for package in packages if asked else ():
            if importlib.util.find_spec(package) is None:
                raise ConfigError(f"{asked}: needs {package}; pip install 'prunelab[{extra}]'")


def finish(lab: Lab, report: RunFolder) -> nn.Module:
    """Writes the network in every form that the config asks for, and what each costs; the one that is the result."""
    config, folder, test = lab.config, report.folder, lab.data.test
    found = {"dense": Form(lab.dense_network().cpu()), "masked": forms.masked(_as_it_is(lab), folder)}
    pruned = model = export.write(folder, lab.model)
    report.gates(gate_savings.cost(model, test))
    if config.compact:
        compacted, facts = compact.finish(pruned, test, folder)
        report.tell("compact", facts, compact.table(facts))
        found["compact"], model = compact.form(compacted, folder), compacted.model
    kinds = [*config.export, *([config.quantize] if config.quantize else [])]
    if kinds:
        lab.interrupt()
        rows = export.make(folder, pruned, config, test, kinds, compact=model)
        report.tell("export", [row._asdict() for row in rows], export.table(rows))
        found |= forms.exported(folder, masks.plain_copy(model).cpu().eval(), kinds, config.trusted)
    if config.quantize is not None:
        quantized = quantizing.quantize(pruned, config.quantize, test)
        report.tell("quantized", quantized.facts, quantizing.text(quantized))
    lab.interrupt()
    others = bool(config.compact or kinds)
    card = cost_card(found, export.examples(test)["test"], others if config.latency is None else config.latency)
    report.cost(card)
    target = config.schedule.get("macs")
    if target is not None:
        macs = {row["form"]: row["macs"] for row in card}
        report.macs(target, macs["compact"] / macs["dense"])
    return model


def _as_it_is(lab: Lab) -> nn.Module:
    """A second network with the same weights and masks: the first is baked, and a user's may refuse to be copied."""
    with seeded("finish"):
        model, _ = lab.new_model()
    masks.restore(model, *masks.snapshot(lab.model))
    return model

"""The text that `benchmark.py` prints: medians, ratios, the loop's steps, the sweep and the start-up."""

from __future__ import annotations

from statistics import median
from typing import Any

TIMES = {"whole": "whole process", "processor": "processor", "loop": "loop"}
Figures = dict[str, Any]


def report(figures: Figures) -> str:
    """Return the figures as text."""
    facts, runs = figures["facts"], figures["runs"]
    lines = [
        f"LeNet on MNIST, {facts['experiment']}",
        f"torch {facts['torch']}, processor only, threads: {facts['threads']}, repeats: {facts['repeats']}, in turn; "
        f"load average before: {facts['load']}",
        "",
        f"{'medians':<22}{'whole process':>15}{'processor':>12}{'loop':>12}{'test accuracy':>16}{'sparsity':>10}",
    ]
    for name, each in runs.items():
        *times, accuracy = (median(run[key] for run in each) for key in (*TIMES, "test_accuracy"))
        cells = "".join(f"{value:>{width}.2f} s" for value, width in zip(times, (13, 10, 10), strict=True))
        lines.append(f"{name:<22}{cells}{accuracy:>16.2%}{each[0]['sparsity']:>10.1%}")
    lines.append("")
    for what, name in TIMES.items():
        found = figures["ratios"][what]
        lines.append(f"ratio, {name + ':':<15}{found['ratio']:.2f} ({found['least']:.2f} to {found['most']:.2f})")
    lines += [
        "    (time of the faster baseline ÷ time of prunelab; smallest and largest of the repeats)",
        "processor: user and system time of the process and its workers; a busy machine changes it less.",
        "loop: all epochs, training and validation. The whole process also has start-up, tests and storage.",
        "",
        *bookkeeping_lines(figures["bookkeeping"]),
    ]
    lines += ["", f"{'milliseconds per step, one thread':<36}{'time':>8}{'÷ bare loop':>14}"]
    for model, each in figures["loops"].items():
        lines += [
            f"{f'{model}, {name}':<36}{1000 * took:>8.3f}{took / each['bare']:>14.2f}" for name, took in each.items()
        ]
    if "sweep" in figures:
        took = figures["sweep"]
        lines += ["", f"sweep of {took['jobs']} jobs, all cores, one thread each: {took['pool']:.1f} s"]
        lines += [
            f"ratio, {name + ':':<34}{took[kind] / took['pool']:.2f} ({took[kind]:.1f} s)"
            for kind, name in {"basic": "one after the other, all threads", "plain": "as many plain scripts"}.items()
        ]
    if "startup" in figures:
        lines += ["", f"start-up, medians of {facts['tries']}"]
        lines += [f"  {name:<34}{seconds:>6.2f} s" for name, seconds in figures["startup"].items()]
    return "\n".join(lines)


def bookkeeping_lines(took: Figures) -> list[str]:
    """Return lines on the time that is not training."""
    both = took["tracking"] + took["storage"]
    return [
        f"bookkeeping: {both / took['loop']:.1%} of the loop's {took['loop']:.2f} s (measured in a separate run)",
        f"  tracking   {took['tracking']:.2f} s  tables, TensorBoard, summary, log, screen",
        f"  storage    {took['storage']:.2f} s  checkpoints, stages, digests, final model",
        f"  and once   {took['tensorboard_start']:.2f} s  TensorBoard's import and opening, not in the share",
    ]

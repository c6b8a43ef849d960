"""A contract for every YAML of a choice: it lists the options of its target, with the target's own defaults."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from prunelab.config.allow_list import locate
from prunelab.config.conf_folder import choices, content
from prunelab.config.keys import shared

GROUPS = (
    "criterion",
    "granularity",
    "allocation",
    "schedule",
    "data",
    "model",
    "lr_schedule",
    "regularizer",
    "sparse_training",
)
# Arguments that prunelab gives, and keys that only say that a choice does not use them.
GIVEN = {
    "criterion": {"evidence"},
    "schedule": {"amount", "tolerance", "sparsity"},
    "model": {"shape", "classes"},
    "lr_schedule": {"progress", "iterations", "per_epoch"},
    "regularizer": {"phase"},
    "sparse_training": {"phase"},
}
NODES = {(group, choice): content(group, choice)[group] for group in GROUPS for choice in choices(group)}
TARGETS = Counter(node["_target_"] for node in NODES.values())


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("group", "choice"), NODES, ids="/".join)
def test_a_choice_lists_the_options_of_its_target_with_their_defaults(group, choice):
    node = NODES[group, choice]
    target = locate(node["_target_"], f"{group}._target_")
    given = GIVEN.get(group, set())
    options = {name: p for name, p in inspect.signature(target).parameters.items() if name not in given}
    listed = {name: value for name, value in node.items() if name not in ("_target_", *shared(group), *given)}
    assert set(listed) == set(options)
    if TARGETS[node["_target_"]] > 1:
        return  # one of several choices of one target, which differ by these values
    for name, value in listed.items():
        default = options[name].default
        assert default is inspect.Parameter.empty or plain(default) == value


@pytest.mark.parametrize(("group", "choice"), NODES, ids="/".join)
def test_a_choice_is_called_as_the_file_of_its_target(group, choice):
    node = NODES[group, choice]
    if group in ("criterion", "granularity", "allocation", "schedule", "lr_schedule"):
        assert node["_target_"].split(".")[-2].rstrip("_") == choice

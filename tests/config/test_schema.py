"""The schema is the single source of keys: each has a meaning and a range, and config.yaml holds no values."""

from __future__ import annotations

import yaml

import prunelab
from prunelab.config import help_table
from prunelab.config.check import select
from prunelab.config.conf_folder import folder
from prunelab.config.schema import allowed, keys


def test_every_key_is_described_once():
    names = [key.name for key in keys()]
    assert len(names) == len(set(names))
    assert {"seed", "train.epochs", "finetune.distill.alpha", "strategy.rules", "schedule.rounds"} <= set(names)
    for key in keys():
        assert key.meaning
        assert key.allowed
        assert "\n" not in key.meaning + key.allowed


def test_config_yaml_holds_no_values():
    assert set(yaml.safe_load((folder() / "config.yaml").read_text())) == {"defaults", "hydra"}


def test_the_composed_config_has_the_schemas_defaults():
    config = prunelab.compose()
    set_by_choices = help_table.defaults()
    for key in keys():
        expected = set_by_choices.get(key.name, key.default)
        if key.name not in ("data", "model", "criterion", "granularity", "allocation", "schedule", "optimizer"):
            assert key.name == "lr_schedule" or select(config, key.name) == expected, key.name


def test_the_table_of_help_has_ranges_meanings_and_the_real_defaults():
    lines = help_table.table().splitlines()
    first = [line.split()[0] for line in lines]  # a long row takes several lines
    assert [word for word in first if word in help_table.SHOWN] == list(help_table.SHOWN)
    assert max(map(len, lines)) <= 122
    text = "\n".join(lines)
    for part in ("[0, 1)", "≥ 1", "> 0", "default 0.2", "default 5", "default 0.001", "default 64"):
        assert part in text
    assert allowed("amount") == "a fraction in [0, 1), of the units still there"

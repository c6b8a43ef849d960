"""Every preset in conf/experiment/papers is whole, composes, and runs with the overrides of --quick."""

import itertools

import pytest
import torch

import prunelab
from prunelab.cli import reproduce
from prunelab.config.conf_folder import content
from prunelab.config.resolve import resolve
from prunelab.report.run_folders import read_run
from prunelab.reproduce.reference import GROUP, presets, reference
from prunelab.reproduce.verdict import measure

every_preset = pytest.mark.parametrize("name", presets())


def choices(name):
    """The overrides of each key of a preset's sweep, without seeds."""
    params = content(GROUP, name).get("hydra", {}).get("sweeper", {}).get("params", {})
    return [[f"{key}={value}" for value in str(values).split(",")] for key, values in params.items()]


def jobs(name):
    """The overrides of each job."""
    return list(itertools.product(*choices(name)))


@every_preset
def test_a_preset_names_its_paper_and_every_value_names_jobs_that_there_are(name):
    known = reference(name)
    assert known.paper
    assert known.claim
    assert known.values
    assert known.minutes > 0
    for value in known.values:
        assert (value.published is None) != (value.more_than is None)
        for point in filter(None, (value.point, value.against)):
            assert any(set(point.when) <= set(job) for job in jobs(name)), point


@every_preset
def test_a_whole_preset_composes(name):
    """With every value of each key."""
    found = choices(name)
    for number in range(max(map(len, found), default=1)):
        resolve(prunelab.compose(f"experiment=papers/{name}", *(values[number % len(values)] for values in found)))


@every_preset
def test_a_preset_runs_quickly_and_is_measured(name, tmp_path):
    torch.set_num_threads(1)
    known, job = reference(name), jobs(name)[0]
    config = prunelab.compose(
        f"experiment=papers/{name}", *known.quick, *job, f"outputs={tmp_path}", "data.limit=100", "threads=1"
    )
    run = read_run(prunelab.run(config).folder)
    assert run.status == "completed"
    object.__setattr__(run, "overrides", job)
    row = next(row for row in measure(known, [run]) if set(row.value.point.when) <= set(job))
    assert row.mean is not None
    assert row.seeds == 1


def test_without_a_name_the_presets_are_listed(capsys):
    assert reproduce.main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in presets())


@pytest.mark.parametrize("words", [["lth"], ["snip_lenet300", "--seeds", "0"]])
def test_a_mistake_is_answered_in_one_line(words, capsys):
    assert reproduce.main(words) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "must be" in said

"""Which job of a sweep starts next, on sweeps whose stages are written down here."""

from __future__ import annotations

import pytest

from prunelab.sweeps.order import Job, next_job


def jobs(*lines: str) -> list[Job]:
    return [Job(number, tuple(line.split())) for number, line in enumerate(lines)]


def started(sweep: list[Job], at_once: int) -> list[int]:
    """The numbers in the order of their starts, where the job that started first always ends first."""
    waiting, running, ended = list(sweep), list[Job](), list[Job]()
    while waiting:
        if len(running) == at_once:
            ended.append(running.pop(0))
        running.append(next_job(waiting, running, ended))
        waiting.remove(running[-1])
    return [job.number for job in (*ended, *running)]


ONE_SEED_AFTER_THE_OTHER = jobs(
    *(f"seed={seed} strategy={name}" for seed in range(2) for name in ("l1", "global", "erk"))
)


def test_two_workers_begin_with_two_dense_networks():
    assert started(ONE_SEED_AFTER_THE_OTHER, 2) == [0, 3, 1, 2, 4, 5]


def test_one_worker_begins_what_others_need_first_too():
    assert started(ONE_SEED_AFTER_THE_OTHER, 1) == [0, 3, 1, 2, 4, 5]


def test_jobs_with_nothing_in_common_keep_their_order():
    assert started(jobs(*(f"seed={seed}" for seed in range(5))), 2) == [0, 1, 2, 3, 4]


def test_a_job_that_needs_the_rounds_of_a_running_one_comes_after_those_that_do_not():
    sweep = jobs("amount=0.1 compact=true", "amount=0.1 compact=false", "amount=0.2 compact=true", "amount=0.3")
    assert started(sweep, 2) == [0, 2, 1, 3]


def test_a_worker_takes_a_job_that_has_to_wait_rather_than_none():
    sweep = jobs("amount=0.1", "amount=0.2")
    assert next_job(sweep[1:], sweep[:1], []).number == 1


@pytest.mark.parametrize(
    "key", ["seed", "train.epochs", "model", "+model.hidden", "optimizer.lr", "data.limit", "threads"]
)
def test_what_changes_the_dense_network(key):
    first, second = jobs(f"{key}=1 amount=0.1", f"{key}=2 amount=0.1")
    assert first.clash([second], []) == 0


@pytest.mark.parametrize("key", ["amount", "strategy", "criterion.batches", "finetune.epochs", "rewind", "allocation"])
def test_what_changes_only_the_rounds(key):
    first, second = jobs(f"{key}=1 seed=0", f"{key}=2 seed=0")
    assert first.clash([second], []) == 1
    assert first.clash([second], [first.dense]) == 0


@pytest.mark.parametrize("key", ["compact", "export", "control", "baseline", "schedule.rounds", "latency"])
def test_what_changes_no_round(key):
    first, second = jobs(f"{key}=1 seed=0", f"{key}=2 seed=0")
    assert first.clash([second], [first.dense]) == 2

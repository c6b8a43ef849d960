"""The order of a sweep's jobs: first those that need no stage which another job is computing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Config keys that change nothing of a dense network, and those that change nothing of a round either. Only the order
# of the jobs depends on these lists: stages have exact names, and locks.
ROUND = (
    "prune",
    "strategy",
    "criterion",
    "granularity",
    "allocation",
    "amount",
    "finetune",
    "sparse_training",
    "rewind",
)
NO_STAGE = (
    "schedule",
    "tolerance",
    "control",
    "baseline",
    "compact",
    "export",
    "quantize",
    "latency",
    "outputs",
    "reuse",
)


@dataclass(frozen=True)
class Job:
    """A job of a sweep: its number and its overrides."""

    number: int
    overrides: Sequence[str]

    @property
    def dense(self) -> frozenset[str]:
        """The overrides that tell its dense network from those of other jobs."""
        return self._without(*ROUND, *NO_STAGE)

    def clash(self, running: Collection[Job], dense_done: Collection[frozenset[str]]) -> int:
        """Return 2 if a running job computes the same rounds, 1 if it computes the same dense network, else 0."""
        if any(self._without(*NO_STAGE) == other._without(*NO_STAGE) for other in running):
            return 2
        return int(self.dense not in dense_done and any(self.dense == other.dense for other in running))

    def _without(self, *keys: str) -> frozenset[str]:
        heads = {item: item.lstrip("+~").partition("=")[0].partition(".")[0] for item in self.overrides}
        return frozenset(item for item, head in heads.items() if head not in keys)


def next_job(waiting: Sequence[Job], running: Collection[Job], ended: Collection[Job]) -> Job:
    """Return the job to start now.

    A job that would wait for a stage of a running one comes last. Of the others, those come first whose dense network
    no job has begun, since more jobs can start when it is there.
    """
    done = {job.dense for job in ended}
    begun = done | {job.dense for job in running}
    return min(waiting, key=lambda job: (job.clash(running, done), job.dense in begun, job.number))

"""Many first starts at once, on an empty cache and one outputs/: all end well, and nothing is trained twice."""

import csv

import pytest
from forked import PATIENCE
from harness import is_full, record, result, settings, sizes, start


@pytest.mark.parametrize("repeats", sizes(1, 20))
def test_simultaneous_first_starts(repeats, tmp_path, request):
    processes = 50 if is_full(request) else 6
    for repeat in range(repeats):
        home = tmp_path / str(repeat)
        overrides = settings(home / "outputs", "schedule.rounds=1")
        runs = [(home / f"run-{n}", [*overrides, f"strategy={'l1' if n % 2 else 'global'}"]) for n in range(processes)]
        started = [(folder, start(how, folder, PRUNELAB_CACHE=str(home / "cache"))) for folder, how in runs]
        for folder, process in started:
            process.join(600 * PATIENCE)
            assert process.exitcode == 0, folder.with_name(f"{folder.name}.log").read_text()
        for first, same in ((0, range(2, processes, 2)), (1, range(3, processes, 2))):
            expected = result(home / f"run-{first}")
            assert all(result(home / f"run-{n}") == expected for n in same)
        assert computed(home, "0") == 1  # the dense network, by one process for all
        assert computed(home, "1") == 2  # one pruned network for each strategy
        assert sorted(path.name for path in (home / "cache").iterdir()) == ["mnist.lock", "mnist.safetensors"]
        if is_full(request):
            record("starts", repeats=repeat + 1, processes=processes, failed=0, trained_twice=0)


def computed(home, number):
    rows = [row for path in home.glob("run-*/rounds.csv") for row in csv.DictReader(path.read_text().splitlines())]
    return sum(row["round"] == number and row["reused"] == "false" for row in rows)

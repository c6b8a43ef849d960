"""What a run prints: one table of rounds, row by row, and a link whose port is free."""

import re
import socket
import urllib.parse
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from prunelab.records import RoundRecord
from prunelab.tracking.console import FIRST_PORT, Console, rounds_table, where


def a_round(number, **how):
    numbers = {item.name: 1 for item in fields(RoundRecord) if item.default is MISSING and item.name != "losses"}
    return RoundRecord(**{**numbers, "round": number, "sparsity": 0.5, **how})


def ports(said):
    return {int(port) for port in re.findall(r"(?:--port |localhost:)(\d+)", said)}


def test_a_folder_with_a_space_is_quoted_in_the_command():
    assert "tensorboard --logdir '/my runs/1'" in where(Path("/my runs/1"))


def test_a_port_that_is_taken_is_not_printed():
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", FIRST_PORT))
        except OSError:
            pytest.skip("something listens there already")
        taken.listen()
        (port,) = ports(where(Path("run")))
    assert FIRST_PORT < port < FIRST_PORT + 100


def test_the_link_of_a_sweep_opens_on_the_means():
    for means, group in ((True, "mean_over_sparsity"), (False, "over_sparsity")):
        link = urllib.parse.urlparse(where(Path("run"), means=means).split()[-1])
        asked = urllib.parse.parse_qs(link.query)
        assert asked["smoothing"] == ["0"]
        assert f'"{group}/test_accuracy"' in asked["pinnedCards"][0]
        assert (asked.get("runFilter") == ["^summary/"]) == means
        assert (not means) or re.search(asked["tagFilter"][0], f"{group}/test_accuracy")


def test_each_round_is_a_line_of_one_table(capsys):
    rows = [a_round(0, nonzero=60_074), replace(a_round(1, nonzero=123_456_789), reused=True)]
    console, expected = Console(), rounds_table(rows).splitlines()
    for number, row in enumerate(rows):
        console.round(row, first=number == 0)
        assert capsys.readouterr().out.splitlines() == [expected[:3], expected[3:]][number]
    assert max(map(len, expected)) <= 120
    console.explain("")
    assert "zeros ÷ weights" in capsys.readouterr().out

"""Seeds within a context: of all generators, those of a GPU too, and nobody else's afterwards."""

import pytest
import torch

from prunelab.runtime.seeding import derive, seed_all, seeded, seeded_by


def test_what_is_drawn_is_a_function_of_the_parts_and_the_generator_goes_on():
    torch.manual_seed(1)
    expected = torch.rand(3), torch.rand(3)
    torch.manual_seed(1)
    first = torch.rand(3)
    with seeded(0, "a"):
        one = torch.rand(3)
    assert torch.equal(first, expected[0])
    assert torch.equal(torch.rand(3), expected[1])
    with seeded(0, "a"):
        assert torch.equal(torch.rand(3), one)
    with seeded(0, "b"):
        assert not torch.equal(torch.rand(3), one)


def test_all_is_seeded_as_torch_does_it():
    seed_all(3, "x")
    drawn = torch.rand(3)
    torch.manual_seed(derive(3, "x"))
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.gpu
def test_a_gpus_generator_goes_on_too():
    torch.manual_seed(1)
    expected = torch.rand(3, device="cuda"), torch.rand(3, device="cuda")
    torch.manual_seed(1)
    first = torch.rand(3, device="cuda")
    with seeded_by(5):
        one = torch.rand(3, device="cuda")
    assert torch.equal(first, expected[0])
    assert torch.equal(torch.rand(3, device="cuda"), expected[1])
    with seeded_by(5):
        assert torch.equal(torch.rand(3, device="cuda"), one)


@pytest.mark.gpu
def test_a_run_on_the_cpu_leaves_the_gpu_alone(python, tmp_path):
    code = (
        "import prunelab, torch\n"
        "prunelab.run(prunelab.compose('device=cpu', 'data.limit=100', 'train.epochs=1', 'schedule.rounds=1'))\n"
        "print(torch.cuda.is_initialized())"
    )
    done = python(code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "False", done.stderr

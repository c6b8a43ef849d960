"""The notebooks run from top to bottom, and are stored with the outputs of a real run, without a path of a machine."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("nbclient")

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {
    "first_network": {"examples": 300, "rounds": 2},
    "fair_comparison": {"examples": 300, "seeds": [0, 1]},
    "smaller_and_faster": {"examples": 300, "timed": False},
}


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_each_notebook_has_its_small_sizes():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.fixture(scope="module")
def notebooks():
    """The script that executes and stores them."""
    spec = importlib.util.spec_from_file_location("scripts_notebooks", ROOT / "scripts" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
for cell in {cells!r}:
    shell.run_cell(cell).raise_error()
"""


@each
def test_the_cells_of_a_notebook_run(path, notebooks, warm_python, tmp_path):
    cells = [cell.source for cell in notebooks.read(path, SMALL[path.stem]).cells if cell.cell_type == "code"]
    env = {"IPYTHONDIR": str(tmp_path / ".ipython"), "MPLBACKEND": "agg"}
    done = warm_python(CELLS.format(cells=cells), cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.slow
@each
def test_a_notebook_is_executed_with_its_outputs(path, notebooks, tmp_path):
    done = notebooks.executed(path, tmp_path, SMALL[path.stem])
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [out for cell in code for out in cell.outputs if out.get("name") == "stderr"]


@each
def test_a_notebook_has_outputs_and_no_path_of_a_machine(path):
    text = path.read_text()
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) >= len(code) - 3
    assert not [out for cell in code for out in cell["outputs"] if out.get("name") == "stderr"]
    assert not re.findall(r"(?<![\w.])/(?:root|home|tmp|Users|work|usr)/\S*", text)

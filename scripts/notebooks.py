"""Execute the notebooks of docs/notebooks and store their outputs: python scripts/notebooks.py [NAME ...].

The cell with the tag `parameters` holds their sizes; the tests replace it. Needs `pip install -e ".[test]"`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"


def executed(path: Path, folder: Path, parameters: Mapping[str, object] | None = None) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its execution in a folder, which is the kernel's current folder."""
    notebook = read(path, parameters)
    sockets = Config(KernelManager={"transport": "ipc", "ip": str(folder / ".kernel")})  # instead of TCP ports
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, config=sockets, timeout=3600, startup_timeout=300, resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def read(path: Path, parameters: Mapping[str, object] | None = None) -> nbformat.NotebookNode:
    """Return a notebook; `parameters` are values that replace those of the cell with the tag `parameters`."""
    notebook = nbformat.read(path, as_version=4)
    if parameters is not None:
        (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        unknown = [name for name in parameters if f"{name} =" not in cell.source]
        assert not unknown, f"{path.name} has no parameter {', '.join(unknown)}"
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    return notebook


def main(*names: str) -> None:
    """Execute and write these notebooks; without names, all."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])

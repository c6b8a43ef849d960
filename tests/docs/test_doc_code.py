"""The Python of every page below docs/ runs, page by page; test_readme.py runs that of docs/ itself and docs/guide/."""

import importlib.util
import re
import shlex
import sys
import warnings
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text("utf-8") for path in sorted(DOCS.glob("*/*.md"))}
PAGES = {page: text for page, text in PAGES.items() if not page.startswith("guide/")}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)  # one with a title is another tool's and does not run here
SHELL = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
NEEDED = {"lightning": "lightning", "torch_pruning": "torch_pruning", "to_frame": "pandas"}  # word: package
QUICK = ["data.limit=300", "train.epochs=1", "finetune.epochs=1", "latency=false"]


def files_and_code(page, folder):
    """Write the blocks that begin with `# name.py` as files; return the other ones, in order."""
    code = []
    for block in BLOCK.findall(PAGES[page]):
        if name := re.match(r"# (\w+\.py)\n", block):
            (folder / name[1]).write_text(block, "utf-8")
        else:
            code.append(block)
    return code


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(PAGES[page])])
def test_python(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = "".join(files_and_code(page, tmp_path))
    for word, package in NEEDED.items():
        if word in code and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    there, names = set(sys.modules), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, about workers and devices
        exec(code, names)
    for name in set(sys.modules) - there:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


COMMANDS = [
    (page, line)
    for page, text in PAGES.items()
    for block in SHELL.findall(text)
    for line in block.splitlines()
    if line.startswith("prunelab ") and "RUN" not in line and not page.startswith("results/")
]


def test_every_coming_from_page_has_lines_of_both_tools():
    pages = [text for page, text in PAGES.items() if page.startswith("coming_from/")]
    assert len(pages) == 7
    assert all("import prunelab" in text or "from prunelab" in text for text in pages)
    assert all("Ours" in text and "| prunelab" in text for text in pages)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}))
def test_commands(page, tmp_path):
    """One after the other, as somebody who reads the page gives them."""
    files_and_code(page, tmp_path)
    (tmp_path / "lenet.pt").write_bytes(b"")
    if "lenet.pt" in PAGES[page]:
        import torch

        from prunelab.models.lenet import LeNet

        torch.save(LeNet().state_dict(), tmp_path / "lenet.pt")
    assert forked.run(*QUICK, "schedule.rounds=1", cwd=tmp_path).returncode == 0
    for where, line in COMMANDS:
        if where == page:
            done = forked.run(*shlex.split(line)[1:], *more(line), cwd=tmp_path, timeout=240)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


def more(line):
    """Overrides that make a command a matter of seconds."""
    words = line.split()
    if words[1] == "search":
        return [*QUICK, "--trials", "2"]
    if words[1] == "reproduce" and len(words) > 2:
        return ["threads=1"] if "--quick" in words else ["--quick"]
    if "=" not in line:
        return []
    every = ["schedule.every=1"] if "schedule=gradual" in line else []
    return [*(item for item in QUICK if item.split("=")[0] not in line), *every]

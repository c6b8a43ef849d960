"""The Python of every page below docs/ runs, page by page; test_readme.py runs that of docs/ itself and docs/guide/."""

import importlib.util
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import forked
import pytest
import torch

from prunelab.models.lenet import LeNet

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
    """One after the other, as somebody who reads the page gives them, in a folder with a sweep and a checkpoint."""
    files_and_code(page, tmp_path)
    torch.save(LeNet().state_dict(), tmp_path / "lenet.pt")
    assert forked.run("-m", "hydra/launcher=basic", "seed=0,1", *QUICK, cwd=tmp_path).returncode == 0
    for where, line in COMMANDS:
        if where == page and "--seeds" not in line:
            done = forked.run(*shortened(line), cwd=tmp_path, timeout=240)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


def shortened(line):
    """A command with overrides that make it a matter of seconds."""
    words = shlex.split(line)[1:]
    if "=" not in line:
        return words
    more = [item for item in QUICK if item.split("=")[0] not in line]
    if words[0] == "search":
        more += ["--trials", "2"]
    if "data._target_" in line:
        more.remove("data.limit=300")
    if "rewind=500it" in line:
        more.append("rewind=2it")
    if "schedule=gradual" in line:
        more += ["finetune.epochs=40it", "schedule.every=1"]
        more.remove("finetune.epochs=1")
    named = {item.split("=")[0] for item in more}
    return [word for word in words if word.split("=")[0] not in named] + more


def commands():
    """Every command that a page, the help or a command's own page shows."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("**/*.md")):
        text = path.read_text("utf-8")
        yield from SHELL.findall(text)
        yield from re.findall(r"(?<!`)`((?:prunelab|python|pip) [^`\n]+)`(?!`)", text)
    for path in (ROOT / "conf/hydra/help/prunelab.yaml", *(ROOT / "prunelab/cli").glob("*.py")):
        shown = re.findall(r"^ +(prunelab .*)", path.read_text("utf-8"), re.M)
        yield from (line for line in shown if "   " not in line)  # which would be words on a form of the command


def test_a_shell_takes_every_command_as_it_stands():
    """`seed=range(5)` without quotes is a syntax error."""
    script = "\n".join(commands())
    assert script.count("\nprunelab ") > 60
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)

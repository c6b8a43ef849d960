"""The pages that are made from the code: one for every choice, found by discovery, with all that its docstring has."""

import re
import shutil
from pathlib import Path

import pytest
import site_choices
import site_markdown
import site_notebooks
import site_pages
import site_results

import prunelab
from prunelab.cli.main import COMMANDS
from prunelab.config import conf_folder

ROOT = Path(__file__).parent.parent.parent
GROUPS = ("criterion", "granularity", "allocation", "schedule", "strategy", "regularizer", "sparse_training")


@pytest.fixture(scope="module")
def pages():
    return site_pages.pages()


def test_every_file_of_a_group_has_a_page_and_a_line_in_the_lists(pages):
    for group in (*GROUPS, "model", "data", "optimizer", "lr_schedule"):
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"methods/{group}/{file.stem}.md" in pages
            assert f"({file.stem}.md)" in pages[f"methods/{group}/index.md"]
            assert f"({group}/{file.stem}.md)" in pages["methods/index.md"]


def test_every_callback_has_a_page_under_its_name_or_under_that_of_its_yaml(pages):
    files = {file.stem: file.read_text("utf-8") for file in (ROOT / "prunelab/training/callbacks").glob("[a-z]*.py")}
    classes = [
        (stem, *pair) for stem, text in files.items() for pair in re.findall(r"^class (\w+)\((\w+)\)", text, re.M)
    ]
    parents = {"Callback", *(name for _, name, base in classes if base == "Callback")}
    leaves = {stem for stem, name, base in classes if base in parents and name not in {one for *_, one in classes}}
    groups = ("methods/regularizer", "methods/sparse_training", "methods/callback")
    there = {page.split("/")[2] for page in pages if page.startswith(groups)}
    assert len(leaves) > 8
    assert {f"{stem.removesuffix('_training')}.md" for stem in leaves} <= there


def test_docstrings_say_what_a_choice_does_when_to_use_it_and_where_it_comes_from():
    """A paragraph that begins with "Use", and one that begins with "Source:"; CONTRIBUTING.md has an example."""
    wrong = []
    for one in site_choices.choices():
        sourced = one.docstring.source or one.group not in ("criterion", "regularizer", "sparse_training", "callback")
        described = one.docstring.body and one.docstring.use and all(row[2] for row in site_choices.keys_of(one))
        if one.group in (*GROUPS, "callback") and not (sourced and described):
            wrong.append(f"{one.group}={one.name}")
    assert wrong == []


def test_the_page_of_snip_has_what_its_docstring_yaml_and_recipes_have(pages):
    page = pages["methods/criterion/snip.md"]
    assert "prunelab criterion=snip" in page
    assert 'prunelab.Pruner(model, criterion="snip")' in page
    assert "|g·w|" in page
    assert "| `criterion.examples` | `1024` | training examples that the criterion sees (a whole number" in page
    assert "| [snip_lenet300](../../results/" in page
    assert "arXiv 1810.02340" in page.partition("## Source")[2]
    assert "Args:" not in page
    assert "Raises:" not in page


def test_what_was_compared_stands_on_the_pages_and_its_overrides_still_compose(pages):
    rows = [
        row for axis in ("criterion", "granularity", "allocation", "schedule") for row in site_results.compared(axis)
    ]
    assert len(rows) > 20
    for row in rows:
        prunelab.compose("model=lenet", *row["overrides"].split())
        shown = f"{float(row['test_accuracy']):.2%} ± {float(row['error']):.2%}"
        assert shown in pages[f"methods/{row['axis']}/{row['choice']}.md"]
        assert f"| [`{row['choice']}`]({row['choice']}.md) |" in pages[f"methods/{row['axis']}/index.md"]
    assert site_results.place("criterion", "mine") == site_results.comparison("model") == []


def test_a_preset_lists_what_it_and_the_presets_below_it_choose(pages):
    page = pages["methods/strategy/channel.md"]  # ln_structured, compacted
    assert "| `granularity` | [`channel`](../granularity/channel.md) |" in page
    assert "| `prune.output_layer` | `false` |" in page
    assert "| `compact` | `true` |" in page


def test_a_new_criterion_has_a_page_without_an_edit(tmp_path, monkeypatch):
    """That of CONTRIBUTING.md, as a file and a YAML file."""
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    code = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "slope.py").write_text(code, "utf-8")
    (conf / "criterion" / "slope.yaml").write_text("_target_: slope.slope\nexamples: 300  # number\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (conf_folder, site_choices):
        monkeypatch.setattr(module, "folder", lambda: conf)
    site_choices.choices.cache_clear()
    try:
        made = site_pages.pages()
    finally:
        site_choices.choices.cache_clear()
    for part in ("# slope", "|∂L/∂w|", "prunelab criterion=slope", "## When to use it", "## Source"):
        assert part in made["methods/criterion/slope.md"]
    assert "| `criterion.examples` | `300` |" in made["methods/criterion/slope.md"]
    assert "(slope.md)" in made["methods/criterion/index.md"]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("regularizer/l0", "92.6 to 92.9% sparse"),
        ("criterion/obs", "| 98% | 22.1% ± 2.6% |"),
        ("callback/distillation", "Here it does not help"),
        ("strategy/lottery_ticket", "98.02% ± 0.02%"),
    ],
)
def test_measured_results_are_taken_from_the_section_that_names_the_choice(pages, page, words):
    assert words in pages[f"methods/{page}.md"].partition("## Measured here")[2]
    assert words in (ROOT / "docs" / "methods.md").read_text("utf-8")


def test_every_section_of_measured_results_is_on_the_page_of_a_choice(pages):
    made = "".join(text for page, text in pages.items() if page.startswith("methods/"))
    for section in (ROOT / "docs" / "methods.md").read_text("utf-8").split("\n## ")[1:]:
        assert section.partition("\n")[2].strip() in made


def test_results_are_those_of_the_result_pages():
    first, *_ = site_results.rows("frontier_lenet300")
    lines = (ROOT / "docs" / "results" / "frontier_lenet300.md").read_text("utf-8").splitlines()
    line = next(one for one in lines if first[0] in one)
    assert [cell.strip() for cell in line.split("|")[1:4]] == list(first[:3])
    assert first[3] in line
    index = site_results.index()
    assert all(f"`{name}`" in index for name in conf_folder.choices("experiment/papers"))


def test_every_command_and_subcommand_is_described(pages):
    page = pages["commands.md"]
    assert all(f"\n## prunelab {command}\n" in page for command in COMMANDS)
    assert "--older-than" in page.partition("## prunelab stages remove")[2]
    assert "/root" not in page
    assert str(Path.home()) not in page


def test_everything_that_prunelab_exports_is_in_the_api(pages):
    import prunelab

    for name in set(prunelab.__all__) - {"__version__"}:
        assert re.search(rf"(^## |heading: )prunelab\.{name}(,|$)", pages["api.md"], re.M), name


def test_docstrings_are_read_into_their_parts():
    doc = site_markdown.parse(
        """Score. Source: Han et al. 2015, "A, b", eq. 1.

        Use it always:
        it is good.

        Args:
            a, b: two
                numbers.
            c: one.

        Raises:
            ConfigError: never.
        """
    )
    assert doc.body == ["Score."]
    assert doc.use == ["Use it always:\nit is good."]
    assert doc.arguments == {"a": "two numbers.", "b": "two numbers.", "c": "one."}
    assert (doc.source, doc.short_source) == ('Han et al. 2015, "A, b", eq. 1.', "Han et al. 2015")


def test_a_notebook_becomes_a_page_with_its_outputs():
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["1\n", "2\n"]},
        {"output_type": "execute_result", "data": {"text/plain": "x", "text/html": ["<table></table>"]}},
        {"output_type": "display_data", "data": {"image/png": "aGk=\n", "text/plain": "<Figure>"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "print(1)\nprint(2)", "outputs": outputs},
    ]
    image = '<img alt="figure" src="data:image/png;base64,aGk=">'
    parts = ["# Title\ntext", "```py\nprint(1)\nprint(2)\n```", "```text\n1\n2\n```", "<table></table>", image]
    assert site_notebooks.page({"cells": cells}) == "\n\n".join(parts) + "\n"


def test_keys_that_every_choice_has_are_on_the_page_of_the_group(pages):
    assert "| `criterion.iterations` | `1` | number of steps of a round" in pages["methods/criterion/index.md"]
    assert "| `schedule.macs` |" in pages["methods/schedule/index.md"]
    assert "## Keys" not in pages["methods/granularity/index.md"]

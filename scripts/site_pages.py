"""The pages of the site that are made from the code: one per choice, the commands, the API, the results."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

import site_results
from site_choices import AXES, Choice, choices, keys_of, keys_of_group
from site_markdown import parse, table

import prunelab
from prunelab.cli.main import COMMANDS, help_page
from prunelab.reproduce.reference import presets

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TITLES = {
    "criterion": ("Criteria", "How important is a weight? The smallest scores are pruned."),
    "granularity": ("Granularities", "What is removed as one?"),
    "allocation": ("Allocations", "How many units go from each tensor?"),
    "schedule": ("Schedules", "How much is pruned, and when?"),
    "strategy": ("Strategies", "Named presets over the four axes; each axis of a preset can be overridden."),
    "regularizer": ("Regularizers", "Callbacks of dense training: they make weights small, or exactly zero."),
    "sparse_training": ("Sparse training", "Callbacks of fine-tuning: the masks move while the network is trained."),
    "callback": ("Other callbacks", "Callbacks of training that a key switches on."),
    "model": ("Models", "The networks that ship; yours is `model._target_=mypackage.MyModel`."),
    "data": ("Data sets", "The data sets that ship."),
    "optimizer": ("Optimizers", "The optimizers that ship."),
    "lr_schedule": (
        "Learning-rate schedules",
        "Functions from the progress of training to a factor of `optimizer.lr`.",
    ),
}
ROOT_FILES = {
    "README.md": "index.md",
    **{f"{name.upper()}.md": f"{name}.md" for name in ("contributing", "changelog", "security")},
}


def pages() -> dict[str, str]:
    """Return the Markdown of every generated page, by its path below docs/."""
    found = {f"methods/{one.group}/{one.name}.md": _choice_page(one) for one in choices()}
    found["methods/index.md"] = _overview()
    for group in groups():
        found[f"methods/{group}/index.md"] = _group_page(group)
    found |= {"commands.md": _commands(), "api.md": _api(), "results/index.md": site_results.index()}
    return found | {page: root_page(name) for name, page in ROOT_FILES.items() if (ROOT / name).exists()}


def groups() -> list[str]:
    """Return the groups of choices, the axes first."""
    there = list(dict.fromkeys(one.group for one in choices()))
    return [*(group for group in TITLES if group in there), *(group for group in there if group not in TITLES)]


def title(group: str) -> str:
    """Return the heading of a group."""
    return TITLES.get(group, (group, ""))[0]


def of(group: str) -> list[Choice]:
    """Return the choices of a group, by name."""
    return sorted((one for one in choices() if one.group == group), key=lambda one: one.name)


def _choice_page(one: Choice) -> str:
    """Return the page of a choice: what it does, when to use it, keys, results, source."""
    doc = one.docstring
    parts = [f"# {one.name}", *([one.summary] if one.summary not in "".join(doc.body[:1]) else [])]
    if example := one.example():
        parts.append(f"```sh\n{example}\n```")
    if call := one.call():
        parts.append(f"```py\n{call}\n```")
    if doc.body:
        parts += ["## What it does", *doc.body]
    if one.presets:
        parts += ["## What it sets", table(("key", "value"), [(f"`{key}`", value) for key, value in _sets(one)])]
    if doc.use:
        parts += ["## When to use it", *doc.use]
    if rows := list(keys_of(one)):
        parts += ["## Keys", table(("key", "default", "meaning"), rows)]
    if measured := [*_measured(one), *site_results.place(one.group, one.name), *_reproduced(one)]:
        parts += ["## Measured here", *measured]
    if doc.source:
        parts += ["## Source", doc.source]
    return "\n\n".join(parts) + "\n"


def _sets(one: Choice) -> Iterator[tuple[str, str]]:
    """Yield what a preset chooses and sets; choices with a link to their page."""
    there = {(other.group, other.name) for other in choices()}
    for key, value in one.presets.items():
        linked = (key, value) in there
        yield key, f"[`{value}`](../{key}/{value}.md)" if linked else f"`{value}`"


def _measured(one: Choice) -> Iterator[str]:
    """Yield the sections of docs/methods.md whose heading names this choice, such as `regularizer=l0`, or its keys."""
    names = {f"{one.group}={one.name}", *(key.strip("`") for key, _, _ in keys_of(one) if one.group == "callback")}
    for section in re.split(r"^## ", (DOCS / "methods.md").read_text("utf-8"), flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        if names & set(re.findall(r"`(.*?)`", heading)):
            yield body.strip()


def _reproduced(one: Choice) -> Iterator[str]:
    """Yield a table of the published results whose recipes make this choice."""
    rows = [
        (f"[{name}](../../results/{'index' if not site_results.has_page(name) else name}.md)", *row)
        for name in presets()
        if one.is_chosen_by("experiment/papers", name)
        for row in site_results.rows(name)
    ]
    if rows and one.group in (*AXES, "strategy", "regularizer", "sparse_training"):
        yield "Published results whose recipe makes this choice, test error in percent:"
        yield table(("preset", "result", "published", "measured", "verdict"), rows)


def _group_page(group: str) -> str:
    """Return the page of a group: a table of its choices, and the options that all of them have."""
    heading, question = TITLES.get(group, (group, ""))
    rows = [[f"[`{one.name}`]({one.name}.md)", one.summary, one.docstring.short_source] for one in of(group)]
    head = ["`" + group + "=`", "what it is", "source"]
    if not any(row[2] for row in rows):
        head, rows = head[:2], [row[:2] for row in rows]
    parts = [f"# {heading}", question, table(head, rows)]
    parts += site_results.comparison(group)
    if common := list(keys_of_group(group)):
        parts += ["## Keys of each of them", table(("key", "default", "meaning"), common)]
    return "\n\n".join(parts) + "\n"


def _overview() -> str:
    """Return the page that lists the groups with links to all choices."""
    linked = {group: ", ".join(f"[`{one.name}`]({group}/{one.name}.md)" for one in of(group)) for group in groups()}
    lines = [f"- [{title(group)}]({group}/index.md): {links}" for group, links in linked.items()]
    text = (
        "A pruning method is one choice on each of four axes: criterion, granularity, allocation, schedule. A strategy "
        "is a named preset over them. Everything else is a choice in the same form: `group=choice` on the command "
        "line. [Measured here](../methods.md) has the results, each of which stands on the page of its choice, too."
    )
    return f"# Methods\n\n{text}\n\n" + "\n".join(lines) + "\n"


def _commands() -> str:
    """Return the page of all commands: what each prints for `--help`."""
    parts = ["# The commands", "What each prints for `--help`. `prunelab` without a command is `prunelab run`."]
    for words in commands():
        same = "The same as `prunelab -m`: one job for every combination of the listed values."
        parts += [f"## prunelab {' '.join(words)}", same if words == ("sweep",) else f"```text\n{help_of(*words)}\n```"]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command; the second is that of a subcommand, such as `stages remove`."""
    for command in COMMANDS:
        yield (command,)
        found = re.search(r"\{([\w,]+)\} \.\.\.", help_of(command))
        yield from ((command, word) for word in (found[1].split(",") if found else ()))


@functools.cache
def help_of(command: str, *words: str) -> str:
    """Return what a command prints for `--help`."""
    if command in ("run", "sweep"):
        return help_page().rstrip()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit), mock.patch.dict(os.environ, COLUMNS="100"):
        import_module(f"prunelab.cli.{command}").main([*words, "--help"])
    return said.getvalue().rstrip()


def _api() -> str:
    """Return the page of what `prunelab` exports, for mkdocstrings to fill in."""
    parts = ["# The API", "What `import prunelab` offers. Everything else may change between versions."]
    for name in sorted(prunelab.__all__, key=str.lower):
        value = getattr(prunelab, name)
        if inspect.ismodule(value):
            parts += [f"## prunelab.{name}", parse(value.__doc__ or "").body[0]]
            functions = [f"{value.__name__}.{one}" for one in value.__all__ if inspect.isfunction(getattr(value, one))]
            parts += [f"::: {where}\n    options: {{heading_level: 3}}" for where in functions]
        elif not name.startswith("__"):
            # Not by prunelab's name: prunelab.compact and prunelab.export are modules, too, for `python -m`.
            options = f"{{heading: prunelab.{name}, toc_label: prunelab.{name}}}"
            parts.append(f"::: {value.__module__}.{name}\n    options: {options}")
    return "\n\n".join(parts) + "\n"


def root_page(name: str) -> str:
    """Return a file of the repository's root as a page: its links lead to pages, or are code where there is none."""
    text = (ROOT / name).read_text("utf-8")

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found["label"], found["target"], found["anchor"] or ""
        page = ROOT_FILES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        return f"[{label}]({page}{anchor})" if page else label

    return re.sub(
        r"(?<!!)\[(?P<label>[^]]*)\]\((?!https?:|#)(?P<target>[^)#]*)(?P<anchor>#[^)]*)?\)", link, text
    ).replace("](docs/", "](")

"""No page of README, docs/ and the site names a key, a choice, a command or an option that does not exist."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import site_pages
from torch.nn.utils import prune

from prunelab.cli.main import COMMANDS
from prunelab.config.compose import compose, folder
from prunelab.config.conf_folder import choices, content
from prunelab.config.schema import OPTIONAL, REQUIRED, keys
from prunelab.config.unknown_key import CHOSEN, RENAMED
from prunelab.records import flat

ROOT = Path(__file__).parent.parent.parent
WRITTEN = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in WRITTEN}
GROUPS = [str(path.relative_to(folder())) for path in folder().rglob("*") if path.is_dir()]
SCHEMA = {key.name: key for key in keys()}
GIVEN = {"model.width", "optimizer.nesterov"}  # arguments that pages give by `+`
PARTS = {*REQUIRED, *OPTIONAL, *(name.partition(".")[0] for name in SCHEMA if "." in name)}
WORD = re.compile(r"^(?P<key>[+~]*[a-z][\w/]*(?:\.\w+)*)=(?P<value>.*)$", re.S)
SUFFIXES = (".csv", ".json", ".log", ".md", ".onnx", ".pt", ".pt2", ".py", ".safetensors", ".svg", ".yaml")
OTHERS = ("hydra", "regularizer._target_", "sparse_training._target_")  # Hydra's own, and what a class of yours takes


def spans(text):
    """Code spans, and the lines of shell fences that are ours; other fences run in a test or belong to another tool."""
    for kind, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.M | re.S):
        yield from (line for line in block.splitlines() if kind == "sh" and line.startswith("prunelab"))
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).replace("\\|", "|"))


def words(span):
    """The words of a span that look like `key=value`; those of Python and of other tools have other signs in them."""
    if " -sc " in span or "(" in span.partition("=")[0] or "--" in span.partition("=")[0]:
        return
    try:
        parts = shlex.split(span)
    except ValueError:
        parts = span.split()
    for part in parts:
        if (found := WORD.match(part)) and not any(sign in span for sign in (" = ", "==", "):")):
            yield found["key"].lstrip("+~"), found["value"].rstrip(",;")


def wrong(key, value):
    """What is wrong about `key=value`; nothing if it can be given."""
    if value.startswith(("../", "glob(")) or key.startswith(OTHERS) or key.endswith("._target_"):
        return ""
    if key in GROUPS:
        names = set(re.findall(r"[\w/]+", value.removeprefix("choice"))) - {"null"}
        unknown = [name for name in names if not (folder() / key / f"{name}.yaml").is_file()]
        return f"no choice {', '.join(unknown)}" if unknown else ""
    if key in SCHEMA:
        number = re.fullmatch(r"-?\d*\.?\d+", value)
        fits = not number or SCHEMA[key].fits(float(value) if "." in value else int(value))
        return "" if fits else f"must be {SCHEMA[key].allowed}"
    return "" if key in options() or key in GIVEN else "no such key"


@functools.cache
def options():
    """The keys that the choices of all groups have."""
    files = [(group, name) for group in (*REQUIRED, *OPTIONAL, "strategy") for name in choices(group)]
    return {key for group, name in files for key in flat(content(group, name))}


@pytest.mark.parametrize("page", PAGES)
def test_every_key_choice_command_and_option_exists(page):
    for span in spans(PAGES[page]):
        check(span)


def test_made_pages_name_what_exists():
    made = site_pages.pages()
    del made["changelog.md"]  # which names what there was
    assert len(made) > 90
    for text in made.values():
        for span in spans(text):
            check(span)
    commands = runs(made)
    assert len(commands) > 60
    for command in commands[::8]:  # tests/config composes every choice
        compose_first(command)


@pytest.mark.parametrize(
    "span",
    [
        *("criterion=snipp", "train.epoch", "train.epoch=1", "amount=1.5", "schedule.rounds=0", "strategy=l1,globl"),
        *("allocation.k=2", "experiment=papers/l1", "prunelab amonut=0.3", "prunelab reprot outputs"),
        "prunelab search amount=0.1 --trails 3",
    ],
)
def test_what_does_not_exist_is_found(span):
    with pytest.raises(AssertionError):
        check(span)


def check(span):
    """Check all words of a code span or of a command."""
    for key, value in words(span):
        if key.split(".")[0] in PARTS or key in SCHEMA or key in GROUPS or span.startswith("prunelab"):
            assert (said := wrong(key, value)) == "", f"`{span}`: {key}={value}: {said}"
    if re.fullmatch(r"[a-z_]+(\.\w+)+", span) and span.partition(".")[0] in PARTS and not span.endswith(SUFFIXES):
        torch_has_it = span.startswith("prune.") and hasattr(prune, span.partition(".")[2])
        known = {*SCHEMA, *options(), *GIVEN, *RENAMED, *CHOSEN}  # and those of 0.1.0, beside their new names
        assert span in known or span.endswith("._target_") or torch_has_it, f"`{span}`: there is no such key"
    if span.startswith("prunelab ") and not {"…", "COMMAND"} & set(span.split()):
        check_command(span)


def check_command(span):
    """Check the name of a subcommand and its options; an experiment has none."""
    command, *rest = shlex.split(span)[1:]
    if "=" not in command and not command.startswith(("-", "+")):
        assert command in COMMANDS, f"`{span}`"
        said = "".join(site_pages.help_of(*one) for one in site_pages.commands() if one[0] == command)
        assert all(word in said for word in rest if word.startswith("--")), f"`{span}`"


def runs(pages):
    """The commands on pages that run experiments, without their comments."""
    lines = {line.partition("#")[0].strip() for text in pages.values() for line in spans(text)}
    return sorted(line for line in lines if re.match(r"prunelab ((run|sweep|-m) )?[^ …]*[a-z_.]=[^…]*$", line))


def compose_first(command):
    """Compose a command; of a sweep the first job."""
    given = [word for word in shlex.split(command)[1:] if word not in ("sweep", "run", "-m")]
    compose(*(first(word) for word in given if not word.startswith(("hydra", "+sweep"))))


def first(word):
    """The first value of a list of values."""
    key, _, value = word.partition("=")
    if value.startswith("range("):
        return f"{key}=0"
    return word if value.startswith(("[", "{")) else f"{key}={value.split(',')[0]}"


BY_HAND = runs(PAGES)


@pytest.mark.parametrize("command", BY_HAND)
def test_a_command_composes(command):
    compose_first(command)


def test_commands_are_found():
    assert len(BY_HAND) > 40

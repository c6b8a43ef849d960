"""Hooks of MkDocs: pages and figures made from the code, and the entries of the navigation that they need."""

from __future__ import annotations

import functools
import re
from typing import Any

import site_notebooks
import site_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

made = functools.cache(lambda: {**site_pages.pages(), **site_notebooks.pages()})

# Files of conf/, which a clone has, and the pages that the site has of them.
CONF = {"": "methods/index.md", r"(\w+)/": r"methods/\2/index.md", r"(\w+)/(\w+)\.yaml": r"methods/\2/\3.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made from the code, then complete the navigation."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
    for path, content in made().items():
        files.append(File.generated(config, path, content=content))
    pages = [file.src_uri for file in files.documentation_pages()]

    def under(folder: str) -> list[str]:
        there = [path for path in pages if path.startswith(f"{folder}/")]
        return sorted(there, key=lambda path: (not path.endswith("/index.md"), path))

    nav: dict[str, list[Any]] = {name: entries for section in config.nav or () for name, entries in section.items()}
    groups = [{site_pages.title(group): under(f"methods/{group}")} for group in site_pages.groups()]
    nav["Start"] += under("notebooks")
    nav["Methods"] += ["methods/index.md", *groups, "methods.md"]
    nav["Reference"] += ["commands.md", "api.md"]
    nav["Results"][:0] = under("results")
    nav["Coming from"] += under("coming_from")
    nav["Inside"] += ["contributing.md", "security.md", "changelog.md"]
    named = set(re.findall(r"[\w/]+\.md", str(nav)))
    nav["How to"] += [path for path in pages if path not in named]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to notebooks, to files of the repository's root, and to those of conf/ to their pages."""
    for name, target in site_pages.ROOT_FILES.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{name}", rf"](\g<1>{target}", markdown)
    for there, target in CONF.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./conf/{there}\)", rf"](\g<1>{target})", markdown)
    return markdown.replace(".ipynb)", ".md)").replace("/results/)", "/results/index.md)")

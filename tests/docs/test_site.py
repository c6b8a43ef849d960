"""The site is built strictly, and a browser that shows it asks no other host for anything."""

import functools
import http.server
import importlib.util
import logging
import re
import threading
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import browser  # noqa: F401

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python", "matplotlib")
LOADED = {"link": "href", "use": "href", **dict.fromkeys(("script", "img", "iframe", "source", "video"), "src")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'the site needs {package}: pip install "prunelab[docs]"')
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def build(folder):
    """Build as `mkdocs build --strict` does; a warning aborts it."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other packages, about themselves
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))


class Loaded(HTMLParser):
    """Collects what a page makes a browser load."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [given[LOADED[tag]] for _ in (1,) if tag in LOADED and given.get(LOADED[tag])]
        self.found += given.get("srcset", "").split(",")


def test_pages_and_styles_load_nothing_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 80
    for page in pages:
        parser = Loaded()
        parser.feed(page.read_text("utf-8"))
        assert parser.found
        assert [address for address in parser.found if re.match(r"\s*(https?:)?//", address)] == [], page
        written = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=\s]+", "", page.read_text("utf-8"))  # any letters
        assert "cdn" not in written.lower(), page
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)'\"]*", style.read_text("utf-8")) == [], style


@pytest.mark.slow
def test_a_browser_asks_for_nothing_else(site, browser):  # noqa: F811
    """With formulas, figures, code and the search, whose index is read by a worker."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home, asked = f"http://127.0.0.1:{server.server_port}/", []
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("", "learn/concepts/", "methods/criterion/snip/"):
            page.goto(home + name)
        page.get_by_label("Search").first.fill("movement")
        page.wait_for_selector(".md-search-result__link")
        page.close()
        server.shutdown()
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


def test_a_wrong_link_or_anchor_is_a_warning_which_aborts_the_build():
    load_config = pytest.importorskip("mkdocs.config", reason="the site needs mkdocs").load_config

    config = load_config(str(ROOT / "mkdocs.yml"))
    assert config.strict
    assert set(config.validation.links.values()) == {logging.WARNING}


def test_figures_are_drawn_by_the_code_and_the_first_page_is_the_readme(site):
    page = (site / "learn" / "concepts" / "index.html").read_text("utf-8")
    named = re.findall(r'src="../../(figures/\w+\.svg)"', page)
    assert len(named) >= 4
    assert all((site / name).read_text("utf-8").startswith("<?xml") for name in named)
    title = (ROOT / "README.md").read_text("utf-8").splitlines()[0].removeprefix("# ")
    assert f"{title}" in (site / "index.html").read_text("utf-8")

"""The digest of a user's source: every file that a class or function comes from, and no other."""

import importlib
import sys
import textwrap
import zipfile

import pytest

from prunelab.config.component import bind
from prunelab.config.source import source_digest

FILES = {  # a package of packages, single modules beside it, a namespace package, an extension, a library
    "mine/__init__.py": "from .nets.small import Small as Exported\n",
    "mine/nets/__init__.py": "",
    "mine/nets/small.py": """
        from .base import Base
        from .. import layers
        from ..layers import *
        import beside
        class Small(Base):
            def forward(self, x):
                from mine.late import scale
                return scale(x)
        """,
    "mine/nets/base.py": "from . import deep\nclass Base: pass\n",
    "mine/nets/deep.py": "try:\n    from . import nothing_there\nexcept ImportError:\n    pass\nimport json, torch\n",
    "mine/layers/__init__.py": "import mine.layers.attention as attention\n",
    "mine/layers/attention.py": "import space.inside.part\n",
    "mine/layers/unused.py": "",
    "mine/late.py": "import importlib\ndef scale(x): return importlib.import_module('.later', __package__).scale(x)\n",
    "mine/later.py": "def scale(x): return x\n",
    "mine/unused.py": "import mine.nets.small\n",
    "mine/stub.pyi": "",
    "beside.py": "def f(): import fast\n",
    "fast.cpython-311-x86_64-linux-gnu.so": "machine code",
    "space/inside/part.py": "",
    "unrelated.py": "",
    "broken.py": "def\n",
    "single.py": "import broken_too, unrelated_but_used\nfrom .x import y\ndef make(): return 1\n",
    "unrelated_but_used.py": "",
    "broken_too.py": "print 'of Python 2'\n",
}
FILES["single.py"] = (
    "try:\n    import broken_too\nexcept SyntaxError: pass\nimport unrelated_but_used\ndef make(): return 1\n"
)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def edited(folder, digest):
    """The files whose edit changes a digest."""
    first, found = digest(), set()
    for name in FILES:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b"\n# edited\n")
        if digest() != first:
            found.add(name)
        (folder / name).write_bytes(before)
    assert digest() == first
    return found


SMALL = {
    *("mine/__init__.py", "mine/nets/__init__.py", "mine/nets/small.py", "mine/nets/base.py", "mine/nets/deep.py"),
    *("mine/layers/__init__.py", "mine/layers/attention.py", "mine/late.py", "mine/later.py", "beside.py"),
    *("space/inside/part.py", "fast.cpython-311-x86_64-linux-gnu.so"),
}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the extension is named after this version")
@pytest.mark.parametrize("name", ["mine.nets.small.Small", "mine.Exported"])
def test_all_that_a_class_comes_from(name, mine):
    assert edited(mine, lambda: bind("model", {"_target_": name}, ["mine"]).source) == SMALL


def test_a_module_beside_a_single_file(mine):
    expected = {"single.py", "unrelated_but_used.py", "broken_too.py"}
    assert edited(mine, lambda: bind("data", {"_target_": "single.make"}, ["single"]).source) == expected


def test_nothing_is_imported_by_looking(mine):
    bind("model", {"_target_": "mine.Exported"}, ["mine"])
    assert {"mine.late", "mine.later", "fast"}.isdisjoint(sys.modules)


@pytest.mark.parametrize(
    "text",
    [
        "import pkgutil\nfor m in pkgutil.iter_modules(__path__): __import__(f'many.{m.name}')\n",
        "def __getattr__(name):\n    from importlib import import_module\n    return import_module('many.' + name)\n",
    ],
)
def test_a_package_that_computes_what_it_imports_counts_whole(text, mine):
    (mine / "many" / "inner").mkdir(parents=True)
    (mine / "many" / "__init__.py").write_text(text)
    (mine / "many" / "one.py").write_text("def make(): return 1\n")
    (mine / "many" / "inner" / "two.py").write_text("")
    part = bind("model", {"_target_": "many.one.make"}, ["many"])
    (mine / "many" / "inner" / "two.py").write_text("X = 1\n")
    assert bind("model", {"_target_": "many.one.make"}, ["many"]).source != part.source


def test_an_installed_package_counts_whole(mine):
    folder = mine / "site-packages" / "bought"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import json, mine\ndef make(): return 1\n")
    (folder / "hidden.py").write_text("")
    sys.path.insert(0, str(folder.parent))
    importlib.invalidate_caches()
    try:
        make = importlib.import_module("bought").make
        before = source_digest(make)
        (folder / "hidden.py").write_text("X = 1\n")
        assert source_digest(make) != before
    finally:
        sys.path.remove(str(folder.parent))


def test_a_zip_file_counts_whole(mine):
    def pack(text):
        with zipfile.ZipFile(mine / "lib.zip", "w") as file:
            file.writestr("zipped.py", "def make(): return 1\n")
            file.writestr("other.py", text)

    pack("")
    sys.path.insert(0, str(mine / "lib.zip"))
    try:
        make = importlib.import_module("zipped").make
        before = source_digest(make)
        pack("X = 1\n")
        assert source_digest(make) != before
    finally:
        sys.path.remove(str(mine / "lib.zip"))


def test_a_class_without_a_file_counts_by_its_code():
    def typed(text):
        space = {"__name__": "__nowhere__"}
        exec(f"class Net:\n    def forward(self, x): return {text}\n", space)
        return source_digest(space["Net"])

    assert typed("x + 1") == typed("x + 1")
    assert len({typed("x + 1"), typed("x + 2"), typed("x.relu()"), typed("x.tanh()"), typed("(lambda y: y)(x)")}) == 5

"""The page of a report: whole, safe, quick, and readable in a browser on a desk, a phone, in the dark and on paper."""

import csv
import html.parser
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from chromium import browser  # noqa: F401
from fake_runs import rounds, row, run, sweep
from PIL import Image

from prunelab.cli.report import main

pytest.importorskip("matplotlib")
from prunelab.report import mask_pictures

HOSTILE = '</style></title><script>alert(1)</script><img src=x onerror=alert(1)>"|```$E=mc^2$'
CSS = (Path(mask_pictures.__file__).parent / "templates" / "page.css").read_text()
SCHEMES = ["light", pytest.param("dark", marks=pytest.mark.slow)]
SECTIONS = ["accuracy", "results", "pareto", "differences", "inside", "failed", "origin"]


def l1(seed, sparsity):
    return 0.88 + 0.001 * seed - 0.01 * sparsity


def noise(seed, sparsity):
    return 0.70 + 0.01 * seed - 0.1 * sparsity


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a sweep of two strategies and three seeds, of which one job is missing."""
    folder = sweep(tmp_path_factory.mktemp("page") / "sweep", {"l1": l1, "global": l1, "random": noise}, masks=True)
    (folder / "8" / "summary.json").unlink()
    main([str(folder)])
    return folder / "report.html"


class Elements(html.parser.HTMLParser):
    """What a browser would make of a file: its tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def elements(text):
    return Elements(text).found


# The files


def test_the_sections_come_in_order_and_the_page_is_whole(page):
    found = elements(page.read_text())
    assert [a["id"] for tag, a in found if tag == "section"] == SECTIONS
    assert not [tag for tag, a in found if tag in ("script", "link", "img", "iframe")]
    links = {a[key] for _, a in found for key in ("src", "href", "xlink:href") if key in a}
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import", page.read_text())
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))


def test_figures_and_tables_can_be_heard(page):
    found = elements(page.read_text())
    pictures = [a for tag, a in found if tag == "svg" and "aria-hidden" not in a]
    assert len(pictures) == 5 + 3
    assert all(a["role"] == "img" and ("aria-label" in a or "aria-labelledby" in a) for a in pictures)
    assert all("scope" in a for tag, a in found if tag == "th")
    ids = {a["id"] for _, a in found if "id" in a}
    assert all(set(a["aria-labelledby"].split()) <= ids for _, a in found if "aria-labelledby" in a)


def test_the_same_tables_lie_beside_the_page(page):
    rows = table(page.parent / "report_results.csv")
    assert [r["group"] for r in rows] == ["dense, 1 epoch (before pruning)", "l1", "global", "random"]
    assert float(rows[1]["test_accuracy"]) == pytest.approx(0.881 - 0.00488)
    markdown = (page.parent / "report.md").read_text()
    heads = [line for line in markdown.splitlines() if "p-values corrected over all" in line]
    assert [head.partition("aired differences")[0] for head in heads] == ["### P", "### Exploratory: p"]
    assert [head.split()[-1] for head in heads] == ["2", "6"]  # l1 and global are equal, which is no test
    assert markdown.count("; the sampling of test images is not in it") == 1
    assert "| l1 | 87.61% ± 0.06% | 3 | 48.8% | 1.78× | 1.49× |" in markdown
    names = {path.stem.removeprefix("report_") for path in page.parent.glob("report_*.csv")}
    assert names == {"results", "pareto", "differences", "differences_all", "layers", "masks", "failed", "runs"}
    assert len(table(page.parent / "report_runs.csv")) == 9


def test_nothing_from_a_run_folder_becomes_markup(tmp_path, capsys):
    folder = tmp_path / "s"
    rows = rounds(0, l1)
    for name, strategy in (("0", "l1"), ("1", HOSTILE)):
        summary = {"device": HOSTILE, "versions": {"torch": HOSTILE}, "started": HOSTILE, "command": HOSTILE}
        summary["cost"] = [{"form": HOSTILE, "bytes": HOSTILE, "why_no_faster": HOSTILE}]
        config = {"model": {"_target_": f"a.{HOSTILE}"}, "seed": 0}
        run(folder / name, [f"strategy={strategy}", "seed=0"], rows, masks=True, config=config, **summary)
        (folder / name / "layers.csv").write_text(f'round,tensor,sparsity\n3,"{HOSTILE.replace(chr(34), "")}",0.5\n')
    run(folder / "2", ["seed=1"], rows, status=HOSTILE, error=HOSTILE)
    (folder / "sweep.json").write_text(json.dumps({"jobs": [["strategy=l1"], [f"strategy={HOSTILE}"], [HOSTILE]]}))
    (folder / "multirun.yaml").write_text(json.dumps({"hydra": {"overrides": {"hydra": [], "task": [HOSTILE]}}}))
    main([str(folder)])
    found = elements((folder / "report.html").read_text())
    assert not [tag for tag, _ in found if tag in ("script", "img")]
    assert not [a for _, a in found if any(key.startswith("on") for key in a)]
    outside, fenced = (folder / "report.md").read_text().split("\n````sh\n")  # longer than what it holds
    assert not re.search(r"(?<!\\)`|<", outside)
    assert (fenced.count("````"), fenced.endswith("\n````\n")) == (1, True)


def test_costs_are_a_section_where_there_are_any(tmp_path, page):
    why = "no speed-up: masks are multiplied in, nothing is skipped"
    sizes = {"parameters": 1000, "nonzero": 512, "macs": 5000, "macs_nonzero": 2560, "bytes": 4321, "gzipped": 1234}
    cost = [{"form": "masked", **sizes, "peak_bytes": 98765, "why_no_faster": why}]
    main([str(sweep(tmp_path / "s", {"l1": l1}, cost=cost))])
    text = (tmp_path / "s" / "report.html").read_text()
    section = text.split('<section id="cost"')[1].split("</section>")[0]
    assert [f for f in ("4,321", "1,234", "98,765", "2,560", why) if f not in section] == [why]
    assert "Nothing was timed. Masks alone are not faster: zeros are multiplied too." in section
    assert "speed-up over" not in section
    assert [a["id"] for tag, a in elements(text) if tag == "section"] == [*SECTIONS[:5], "cost", *SECTIONS[5:]]
    assert table(tmp_path / "s" / "report_cost.csv")[0]["gzipped"] == "1234.0"
    assert not (tmp_path / "s" / "report_times.csv").exists()
    assert "differences_all" not in text
    assert not (page.parent / "report_cost.csv").exists()


def test_both_dense_networks_are_in_figures_legends_and_front(tmp_path):
    """The one before pruning (3 epochs), and the one trained as long as the pruned ones, of each length."""
    for strategy, epochs in (("l1", 8), ("global", 8), ("lottery_ticket", 1)):
        trained = row(3, 0.0, 0.97 + epochs / 1000, 0.97 + epochs / 1000, epochs=epochs)
        rows = [{**one, "epochs": 1 if one["round"] else 3} for one in rounds(0, l1, dense=0.95)]
        run(tmp_path / strategy, [f"strategy={strategy}", "seed=0"], rows, baseline=trained)
    main([str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    names = [
        "dense, 3 epochs (before pruning)",
        "dense, 8 epochs (as global, l1)",
        "dense, 1 epoch (as lottery_ticket)",
    ]
    legend = text.split('<ul class="legend">')[1].split("</ul>")[0]
    assert [name for name in re.findall("<span>(.*?)</span>", legend) if "dense" in name] == names
    figure = text.split('aria-labelledby="sparsity-0-t')[1].split("</figure>")[0]
    assert figure.count('<g class="dense">') == 3
    assert "dense, 8 epochs (as global, l1): 97.80%." in figure
    assert [entry["group"] for entry in table(tmp_path / "report_pareto.csv")][-1] == names[1]
    assert text.split('aria-labelledby="front-0-t')[1].split("</figure>")[0].count('<g class="longer">') == 2


def test_a_front_of_one_point_has_no_line_and_one_sparsity_no_second_table(tmp_path):
    rows = [row(0, 0.0, 0.8, 0.8), row(1, 0.5, 0.9, 0.9)]
    for name in ("l1", "global"):
        for seed in (0, 1):
            run(tmp_path / f"{name}{seed}", [f"strategy={name}", f"seed={seed}"], rows)
    main([str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    assert len(table(tmp_path / "report_pareto.csv")) == 1
    assert "need not rise" not in text
    assert not (tmp_path / "report_differences_all.csv").exists()
    assert text.count("2 seeds: an interval means little; take 5.") == 1


def test_one_curve_more_than_colours_is_one_other(tmp_path):
    """Eight curves have a colour in the first panel, and the ninth in the second."""
    for n in range(9):
        run(tmp_path / str(n), [f"strategy=s{n}", "seed=0"], [row(0, 0.0, 0.9, 0.9), row(2, 0.5, 0.9 - n / 99, 0.5)])
    main([str(tmp_path)])
    text = (tmp_path / "report.html").read_text()
    assert set(re.findall("<span>(. others?)</span>", text)) == {"1 other", "8 others"}


def test_old_runs_without_columns_make_a_page(tmp_path, capsys):
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "rounds.csv").write_text("round,test_accuracy\n0,0.9\n1,0.8\n")
        (tmp_path / str(n) / "summary.json").write_text(json.dumps({"status": "completed", "seed": n}))
    main([str(tmp_path)])
    assert "80.00%" in (tmp_path / "report.md").read_text()
    (tmp_path / "0" / "rounds.csv").write_text("")
    (tmp_path / "1" / "summary.json").unlink()
    main([str(tmp_path)])
    assert "No run completed" in (tmp_path / "report.md").read_text()


LONG = [pytest.param(junk, marks=pytest.mark.slow) for junk in ([], -1, True)]


@pytest.mark.parametrize("junk", [None, "x", {"a": [1]}, float("nan"), *LONG])
def test_no_summary_is_too_odd_for_a_page(tmp_path, junk):
    """What an older, newer or damaged version may have left: every value of one run is something else."""
    folder = sweep(tmp_path / "s", {"l1": l1, "random": noise}, seeds=[0, 1])
    for number, keep in ((0, ("status", "final")), (1, ("status",))):
        summary = json.loads((folder / str(number) / "summary.json").read_text())
        odd = {key: value if key in keep else junk for key, value in summary.items()}
        odd["final"] = dict.fromkeys(summary["final"], junk)
        (folder / str(number) / "summary.json").write_text(json.dumps(odd))
    main([str(folder)])
    assert [a["id"] for tag, a in elements((folder / "report.html").read_text()) if tag == "section"] == SECTIONS


@pytest.mark.parametrize("experiments", [31, pytest.param(250, marks=pytest.mark.slow)])
def test_a_thousand_runs_take_seconds(experiments, tmp_path):
    """Four seeds each: the figures must not grow with them."""
    for n in range(4 * experiments):
        reached = 0.9 - n / 1e4
        rows = [row(r, s, reached, reached) for r, s in enumerate((0.0, 0.2, 0.36, 0.5))]
        run(tmp_path / str(n), ["strategy=l1", f"optimizer.lr={n // 4}", f"seed={n % 4}"], rows)
    start = time.process_time()
    main([str(tmp_path)])
    assert time.process_time() - start < 5 + experiments / 25
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert len(table(tmp_path / "report_results.csv")) == 2 * experiments  # each has its own dense network


# The command line


def command(*arguments, code="from prunelab.cli.report import main; main()"):
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_it_prints_the_path_and_imports_no_torch(page, tmp_path):
    code = "import sys; from prunelab.cli.report import main; main(); print('torch' in sys.modules)"
    done = command(page.parent, "--out", tmp_path / "deep" / "x.html", code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(tmp_path / "deep" / "x.html"), "False"]
    assert {path.name for path in (tmp_path / "deep").iterdir()} >= {"x.html", "x.md", "x_results.csv"}


def test_the_table_of_a_sweep_needs_the_core_install_only():
    """With the summary for TensorBoard, which is written at the end of a sweep too."""
    heavy = {"jinja2", "matplotlib", "numpy", "pandas", "scipy", "torch"}
    code = f"import sys, prunelab.report; print({heavy} & set(sys.modules))"
    assert command(code=code).stdout == "set()\n"
    code = f"import sys, prunelab.report.dashboard; print({heavy - {'numpy'}} & set(sys.modules))"
    assert command(code=code).stdout == "set()\n"


def refusal(capsys, *arguments):
    """What the command says, in this process, of what it cannot do."""
    with pytest.raises(SystemExit, match="1"):
        main(list(map(str, arguments)))
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == ""
    assert line.startswith("prunelab: ")
    return line


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "s").mkdir()
    (tmp_path / "empty").mkdir()
    run(tmp_path / "s" / "0", ["seed=0"], rounds(0, l1))
    for given in ([tmp_path / "nowhere"], [tmp_path / "file"], [tmp_path / "s", tmp_path / "nowhere"]):
        assert "no such folder" in refusal(capsys, *given)
    assert "no runs found" in refusal(capsys, tmp_path / "empty")
    assert "--out chooses another" in refusal(capsys, tmp_path / "s", "--out", tmp_path / "file" / "x.html")


@pytest.mark.parametrize("name", ["jinja2", "matplotlib", "pandas", "scipy"])
def test_a_package_that_is_missing_is_named(name, tmp_path):
    run(tmp_path / "s" / "0", ["seed=0"], rounds(0, l1))
    missing = f"import sys; sys.modules['{name}'] = None; from prunelab.cli.report import main; main()"
    done = command(tmp_path / "s", code=missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f'prunelab: the report needs {name}: pip install "prunelab[report]"\n'


def test_help_is_readable():
    done = command("--help")
    assert done.returncode == 0
    assert "report.html in the first folder" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


# Masks


def area(svg):
    """The cells that a picture fills, weighted by their opacity."""
    paths = re.findall(r'opacity="([\d.]+)" d="([^"]*)"', svg)
    return sum(float(opacity) * sum(map(int, re.findall(r"h(\d+)v", d))) for opacity, d in paths)


@pytest.mark.parametrize("shape", [(5,), (7, 9), (4, 1, 3, 3), (6, 3, 5, 5)])
def test_a_picture_fills_as_many_cells_as_are_kept(shape):
    mask = np.random.default_rng(0).random(shape) < 0.4
    assert area(mask_pictures._drawn(mask_pictures._tiles(mask))[2]) == mask.sum()


def test_an_empty_filter_is_crossed_out():
    mask = np.ones((3, 1, 2, 2), dtype=bool)
    mask[1] = False
    svg = mask_pictures._drawn(mask_pictures._tiles(mask))[2]
    assert (svg.count('class="cross"'), svg.count('class="tile dead"')) == (1, 1)


def test_a_large_matrix_is_shown_by_means_of_blocks():
    mask = np.zeros((128, 640), dtype=bool)
    mask[:64] = True
    (cells,) = mask_pictures._tiles(mask)
    assert cells.shape == (64, 64)
    assert (cells[:32] == 1).all()
    assert (cells[32:] == 0).all()


# Colours: WCAG 2.2, success criteria 1.4.3 and 1.4.11


def schemes():
    blocks = CSS.split("prefers-color-scheme: dark")[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6}|[\d ]+);", block)) for block in blocks)
    return {"light": light, "dark": light | dark}


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if colour[0] == "#" else [int(c) for c in colour.split()]


def contrast(one, two):
    def luminance(colour):
        linear = [c / 3294.6 if c <= 10.31475 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out(scheme):
    colours = schemes()[scheme]
    for paper in ("paper", "card"):
        for text in ("ink", "muted", "link", "bad"):
            assert contrast(rgb(colours[text]), rgb(colours[paper])) >= 4.5, (text, paper)
    for n in range(1, 9):
        assert contrast(rgb(colours[f"s{n}"]), rgb(colours["paper"])) >= 3, n
    (strongest,) = re.findall(r"var\(--v\) \* ([\d.]+)", CSS)
    share = float(strongest)
    hottest = [share * h + (1 - share) * p for h, p in zip(rgb(colours["heat"]), rgb(colours["paper"]), strict=True)]
    assert contrast(rgb(colours["ink"]), hottest) >= 4.5


# The browser


@pytest.fixture
def opened(browser, page):  # noqa: F811
    """Opens the page as `how`; returns it with what it said on the console and asked of the network."""
    contexts = []

    def show(**how):
        contexts.append(browser.new_context(**how))
        tab, said, asked = contexts[-1].new_page(), [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        return tab, said, asked

    yield show
    for context in contexts:
        context.close()


def test_the_figures_are_drawn(opened):
    tab, said, asked = opened(viewport={"width": 1280, "height": 900})
    assert said == []
    assert len(asked) == 1
    figures = tab.locator("#accuracy svg.figure")
    assert figures.count() == 2
    for n, axis in enumerate(
        ("Sparsity of the prunable weights (%)", "Compression ratio: all ÷ nonzero parameters (×")
    ):
        figure = figures.nth(n)
        assert figure.locator(".curve").count() == 3
        assert [figure.locator(".curve").nth(i).locator("use").count() for i in range(3)] == [4, 4, 4]
        assert figure.locator(".band").count() == 3
        assert figure.locator(".dense").count() == 1
        text = figure.text_content()
        assert axis in text
        assert "Test accuracy, last epoch (%)" in text
        assert figure.bounding_box()["height"] > 200
    assert tab.locator("#accuracy .legend li").all_text_contents()[:2] == ["l1n = 3", "globaln = 3"]
    assert tab.locator("#pareto .points use").count() == 12
    assert tab.locator("#inside .trained use").count() == 2 * 3 * 4
    assert tab.locator("#inside .masks .cross").count() == 3
    assert "1 missing" in tab.locator(".counts").inner_text()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(opened, width):
    tab, _, _ = opened(viewport={"width": width, "height": 844})
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def edge(tab, part):
    """The brightness, 0 to 255, of the pixels near the right edge of each box that holds a table, at a part of it."""
    found = {}
    for box in tab.locator("section:not(#failed) > .scroll").all():
        box.evaluate(f"box => box.scrollLeft = box.scrollWidth * {part}")
        pixels = np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("L"), dtype=float)
        wide = box.evaluate("box => box.scrollWidth > box.clientWidth")
        found[box.get_attribute("aria-labelledby")] = wide, np.median(pixels[4:-4, -5]), np.median(pixels[4:-4, -40])
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_table_that_goes_on_beyond_the_edge_shows_it(opened, scheme):
    tab, _, _ = opened(viewport={"width": 400, "height": 844}, color_scheme=scheme)
    before, after = edge(tab, 0), edge(tab, 1)
    assert any(wide for wide, _, _ in before.values())
    for name, (wide, at_edge, inside) in before.items():
        assert (inside - at_edge > 15) == wide, name
        assert after[name][1] == pytest.approx(after[name][2], abs=3), name
    tab, _, _ = opened(viewport={"width": 1280, "height": 844}, color_scheme=scheme)
    assert all(abs(inside - at_edge) < 3 for wide, at_edge, inside in edge(tab, 0).values() if not wide)


LAYOUT = """figure => {
  const box = figure.getBoundingClientRect();
  const inside = part => part.left >= box.left - 1 && part.right <= box.right + 1
    && part.top >= box.top - 1 && part.bottom <= box.bottom + 1;
  const texts = [...figure.querySelectorAll("text")].filter(text => text.textContent.trim())
    .map(text => ({said: text.textContent, box: text.getBoundingClientRect()})).filter(text => text.box.width > 0);
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  return {
    width: box.width, height: box.height, texts: texts.length,
    cut: texts.filter(text => !inside(text.box)).map(text => text.said),
    overlapping: texts.flatMap((a, i) => texts.slice(i + 1).filter(b => over(a.box, b.box)).map(b => [a.said, b.said])),
    small: texts.filter(t => Math.min(t.box.width, t.box.height) < 8 && t.said.length > 1).map(t => t.said),
  };
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [400, 1280])
def test_each_figure_can_be_read(opened, width, scheme):
    """No text is cut off, lies over another, or is too small, and something is drawn in a colour that can be seen."""
    tab, _, _ = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    figures = tab.locator("svg.figure").all()
    assert len(figures) == 5
    for figure in figures:
        found = figure.evaluate(LAYOUT)
        assert (found["cut"], found["overlapping"], found["small"]) == ([], [], []), figure.inner_html()[:300]
        assert found["texts"] > 3
        assert width > found["width"] > min(300, 0.7 * width)
        pixels = np.asarray(Image.open(io.BytesIO(figure.screenshot())).convert("L"), dtype=int)
        paper = int(np.median(pixels))
        assert (abs(pixels - paper) > 60).mean() > 0.005


def test_figures_follow_dark_and_print(opened):
    ink = "getComputedStyle(document.querySelector('#accuracy svg.figure text')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    tab, _, _ = opened(color_scheme="light")
    assert (tab.evaluate(ink), tab.evaluate(paper)) == ("rgb(27, 31, 36)", "rgb(255, 255, 255)")
    tab, _, _ = opened(color_scheme="dark")
    assert (tab.evaluate(ink), tab.evaluate(paper)) == ("rgb(231, 234, 238)", "rgb(20, 23, 27)")
    tab.emulate_media(media="print", color_scheme="dark")
    assert (tab.evaluate(ink), tab.evaluate(paper)) == ("rgb(27, 31, 36)", "rgb(255, 255, 255)")

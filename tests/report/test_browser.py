"""TensorBoard on a real sweep, opened in a browser as a person would: what is listed, what is drawn, no errors."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from chromium import browser  # noqa: F401
from conftest import BASIC, overrides


@pytest.fixture(scope="module")
def sweep(cli, tmp_path_factory):
    """Two strategies, two seeds and two amounts at once: eight jobs. What was printed, and the folder."""
    home = tmp_path_factory.mktemp("browser")
    many = ("strategy=l1,lottery_ticket", "seed=0,1", "amount=0.5,0.8", "schedule=one_shot", "rewind=null")
    done = cli("-m", BASIC, *many, *overrides(home), cwd=home, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (home / "outputs" / "sweeps").iterdir()
    return folder, done.stdout


@pytest.fixture(scope="module")
def address(sweep, tmp_path_factory):
    """A TensorBoard that has read all of it."""
    log = tmp_path_factory.mktemp("log") / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep[0]), "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(240):
            found = re.search(r"http://\S+:(\d+)/", log.read_text())
            if found:
                at = f"http://127.0.0.1:{found[1]}/"
                with opener.open(f"{at}data/runs") as reply:
                    if len(json.loads(reply.read())) >= 10:
                        break
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
        yield at
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def page(browser):  # noqa: F811
    """A tab, in which nothing may fail."""
    tab = browser.new_page(viewport={"width": 1500, "height": 1100})
    errors = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    tab.close()
    assert not [error for error in errors if "favicon" not in error and "fonts" not in error]


def test_the_printed_link_opens_on_the_means_without_smoothing(sweep, address, page):
    _, said = sweep
    (link,) = re.findall(r"then open +http://localhost:\d+/(\S+)", said)
    page.goto(address + link)
    for strategy in ("l1", "lottery_ticket"):
        page.locator("runs-data-table").get_by_text(f"summary/{strategy}").first.wait_for()
    card = page.locator("card-view").filter(has_text="test_accuracy").first
    card.locator("svg path").first.wait_for(state="attached")
    assert card.locator("g.line, path").count() >= 2
    assert page.get_by_text("seed=0").count() == 0  # no single jobs
    assert page.locator("input[type=number]").first.input_value() in ("0", "")
    page.get_by_role("tab", name="Custom Scalars").click()
    page.get_by_text("Matches (2)").first.wait_for()
    assert page.locator("paper-slider").first.evaluate("slider => slider.value") == 0
    page.get_by_text("Matches (8)").first.wait_for()  # the jobs
    assert page.get_by_text("Missing").count() == 0


def test_every_run_has_scalars(address):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found = [json.loads(opener.open(f"{address}data/{at}").read()) for at in ("runs", "plugin/scalars/tags")]
    assert set(found[0]) == {run for run, tags in found[1].items() if tags}


@pytest.mark.slow
def test_a_sweep_of_one_shot_jobs_is_a_curve(sweep, address, page):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"{address}data/plugin/scalars/scalars?tag=mean_over_sparsity%2Ftest_accuracy&run=summary%2Fl1"
    with opener.open(url) as reply:
        points = json.loads(reply.read())
    assert [round(step, -2) for _, step, _ in points] == [0, 5000, 8000]
    page.goto(f"{address}#custom_scalars")
    for title in ("all jobs", "test accuracy over sparsity (basis points), mean"):
        page.get_by_text(title).first.wait_for()
    page.get_by_text("Matches (2)").first.wait_for()  # two means with their bands
    page.get_by_text("Matches (8)").first.wait_for()


@pytest.mark.slow
def test_the_hparams_page_has_a_row_a_job_and_what_was_swept(sweep, address, page):
    page.goto(f"{address}#hparams")
    for word in ("Parallel Coordinates View", "Scatter Plot Matrix View"):
        page.get_by_text(re.compile(word, re.I)).first.wait_for()
    for name in ("amount", "seed", "strategy"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("lottery_ticket", exact=True).first.wait_for()
    assert page.get_by_text(re.compile(r"^\d/strategy")).count() == 8


@pytest.mark.slow
def test_masks_are_pictures(address, page):
    page.goto(f"{address}#images")
    page.get_by_text("mask/conv1.weight").first.wait_for()
    page.locator("tf-image-loader img, img#main-image").first.wait_for()
    page.get_by_text("accuracy_over_sparsity").first.wait_for()

"""Tests of the HTML page: it needs no other files, and works in a browser."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from han_arch.errors import UserError
from han_arch.evaluation import board, page, run
from han_arch.evaluation.board import GalleryOptions
from han_arch.evaluation.score import METRICS, ScoreCache


@pytest.fixture
def page_path(board_options: dict[str, Any], tmp_path: Path, hr_folder: Path) -> Path:
    """The path of a page with two test sets and several crops."""
    pytest.importorskip("plotly", reason="the page needs plotly")
    two = hr_folder.parent / "two"
    two.mkdir()
    for name in "ab":
        shutil.copy(hr_folder / f"{name}.png", two)
    board_options["datasets"] = {"Set14": {"dataroot_gt": str(hr_folder)}, "B100": {"dataroot_gt": str(two)}}
    board_options["gallery"] = {"count": 3, "size": 24}
    checked = board.load(board_options)
    cache = ScoreCache(tmp_path / "cache")
    results = run.run(checked, cache)
    page.write(tmp_path, checked, results, cache)
    return tmp_path / "index.html"


def test_window_is_where_images_differ_most() -> None:
    one = np.full((40, 50, 3), 100, np.uint8)
    other = one.copy()
    other[20:30, 33:43] = 160
    other[2, 2] = 255
    assert page.most_different_window([one, other], 10) == (20, 33, 60.0)
    assert page.most_different_window([one[..., 0], other[..., 0]], 99)[:2] == (0, 0)


def test_the_users_crops_replace_the_choice(board_options: dict[str, Any], tmp_path: Path) -> None:
    board_options["gallery"] = {"size": 16, "crops": [{"set": "Set14", "image": "b", "left": 3, "top": 400}]}
    checked = board.load(board_options)
    crops = page.make_crops(checked.gallery, checked.sets, [], ScoreCache(tmp_path))
    assert [(crop["image"], crop["left"], crop["top"]) for crop in crops] == [
        ("b", 3, 24)
    ]  # the image has 40 rows, so the square is moved into the image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": [{"set": "Set14", "image": "z", "left": 0, "top": 0}]}, "image 'z'.*'Set14'"),
        ({"crops": [{"set": "Set14", "image": "a"}]}, "gallery:crops.*set, image, left, top"),
        ({"size": 2}, "gallery:size.*16.*got 2"),
        ({"sise": 2}, "'sise' of gallery; did you mean size"),
        ([], None),
        (3, "gallery.*mapping.*got 3"),
    ],
)
def test_gallery_options_are_checked(options: Any, message: str | None, board_options: dict[str, Any]) -> None:
    board_options["gallery"] = options
    if message is None:
        assert board.load(board_options).gallery == GalleryOptions()
        return
    with pytest.raises(UserError, match=message):
        board.load(board_options)


def test_page_needs_no_internet_access_and_has_all_rows(page_path: Path) -> None:
    text = page_path.read_text("utf-8")
    without_plotly = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.S)
    assert len(without_plotly) < len(text) / 2  # the first script is plotly.js
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", without_plotly)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert len(data["rows"]) == 6 + 5
    assert all(row["protocol"] and row["date"] and row["device"] for row in data["rows"])
    labels = [version["label"] for version in data["crops"][0]["versions"]]
    assert labels == ["HR", "Bicubic", "HAN", "HAN (self_ensemble)", "EDSR", "EDSR (self_ensemble)"]
    assert [row["psnr_db"] for row in data["published"] if row["method"] == "HAN" and row["set"] == "Set14"] == [34.16]


def test_page_has_the_optional_metrics(measured: tuple[board.Board, list[run.SetResult]]) -> None:
    pytest.importorskip("plotly", reason="the page needs plotly")
    results = [replace(result, perceptual={"niqe": 3.25}) for result in measured[1]]
    text = page.page("small", "EDSR", results, [])
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["perceptual"] == ["niqe"]
    assert data["digits"]["niqe"] == METRICS["niqe"].digits
    assert {row["niqe"] for row in data["rows"]} == {3.25}


def test_a_hostile_name_stays_text(board_options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the page needs plotly")
    bad = "</script><script>alert(1)</script>"
    board_options["models"] = {bad: {"type": "Bicubic"}}
    board_options["baseline"] = bad
    results = run.run(board.load(board_options), ScoreCache(tmp_path / "cache"))
    assert bad not in page.page(bad, bad, results, [])


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium, controlled by chromedriver."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser test needs selenium")
    from selenium.webdriver.chrome.service import Service

    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update", "disable-dev-shm-usage"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


def set_width(browser: Any, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )


def column(browser: Any, index: int) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#results tbody tr')].map(r => r.cells[arguments[0]].textContent)", index
    )


def choose(browser: Any, select: str, value: str) -> None:
    browser.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change'))", select, value,
    )  # fmt: skip


def test_page_in_a_browser(page_path: Path, browser: Any) -> None:
    set_width(browser, 360)
    browser.get(page_path.as_uri())
    find = browser.find_elements

    # A click on a heading sorts by value with empty cells last. The second click reverses the order.
    heads = browser.execute_script("return [...document.querySelectorAll('#results th')].map(h => h.textContent)")
    psnr = heads.index("PSNR, dB")
    assert len(column(browser, psnr)) == 10
    button = find("css selector", "#results th button")[psnr]
    browser.execute_script("arguments[0].click()", button)
    values = [float(text) for text in column(browser, psnr)]
    assert values == sorted(values, reverse=True)
    assert values != sorted(values)
    assert find("css selector", "#results th")[psnr].get_attribute("aria-sort") == "descending"
    browser.execute_script("arguments[0].click()", find("css selector", "#results th button")[psnr])
    assert [float(text) for text in column(browser, psnr)] == sorted(values)
    versus = heads.index("minus EDSR, dB")
    browser.execute_script("arguments[0].click()", find("css selector", "#results th button")[versus])
    assert column(browser, versus)[-2:] == ["", ""]

    # The table can be filtered by words, by test set and by protocol.
    find("id", "filter")[0].send_keys("han self")
    assert set(column(browser, 0)) == {"HAN (self_ensemble)"}
    find("id", "filter")[0].clear()
    browser.execute_script("document.getElementById('filter').dispatchEvent(new Event('input'))")
    choose(browser, "set", "B100")
    assert set(column(browser, 1)) == {"B100"}
    protocols = browser.execute_script("return [...document.getElementById('protocol').options].map(o => o.value)")
    choose(browser, "protocol", next(name for name in protocols if "grey direct" in name))
    assert column(browser, 0) == ["Bicubic"]
    choose(browser, "protocol", protocols[0])

    # The charts have one point per network with multiply-adds, and one point per image.
    points = "return document.querySelectorAll(arguments[0] + ' .scatterlayer .point').length"
    assert browser.execute_script(points, "#by-madds") == 4
    choose(browser, "set", "Set14")
    assert browser.execute_script(points, "#by-time") == 5
    assert browser.execute_script(points, "#per-image") == 3
    assert "HAN has a higher PSNR than EDSR" in find("id", "per-image-note")[0].get_attribute("textContent")

    # The slider moves the edge. A click on a small picture shows this version on the right.
    clip = "return document.querySelector('.stage img:nth-child(2)').style.clipPath"
    assert "50%" in browser.execute_script(clip)
    browser.execute_script(
        "const s = document.querySelector('.stage input'); s.value = 20; s.dispatchEvent(new Event('input'))"
    )
    assert "20%" in browser.execute_script(clip)
    browser.execute_script("document.querySelectorAll('.thumbs button')[0].click()")
    assert find("css selector", ".sides span")[1].get_attribute("textContent") == "HR"

    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.execute_script("return document.images.length") >= 3 * 8
    for width in (360, 820, 1440):
        set_width(browser, width)
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(overflow) <= 0, width

    # The page and the charts use dark colours if the system does.
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 23, 29)"
    paper = "return document.getElementById('per-image').layout.paper_bgcolor"
    wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait(browser, 10)
    wait.until(lambda _: browser.execute_script(paper) == "#12171d")  # drawn after the next frame
    assert browser.get_log("browser") == []

"""The page in a real browser: it opens, shows a run growing, filters, sorts, downloads, by mouse and by keyboard."""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vaegen_ray.results.store import SweepStore

from .conftest import SWEEP, status

WAIT = 600.0


class Page:
    """What a reader sees and does."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address
        browser.get_log("browser")

    def open(self, path: str) -> None:
        self.browser.get(self.address + path)

    def all(self, css: str) -> list[Any]:
        return self.browser.find_elements("css selector", css)

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return self.browser.execute_script(script, css)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Waits until something is so."""
        end = time.monotonic() + WAIT
        while not (found := true()):
            assert time.monotonic() < end, f"not so within {WAIT:.0f} s: {what}; the page says {self.texts('body')}"
            time.sleep(0.05)
        return found

    def points(self) -> list[tuple[str, int]]:
        """The marks and the number of points of each trace of trials."""
        script = """
            const plot = document.querySelector('#figure .js-plotly-plot');
            return plot && plot.data ? plot.data.filter(t => t.customdata).map(t => [t.marker.symbol, t.x.length]) : []
        """
        return [(symbol, count) for symbol, count in self.browser.execute_script(script)]

    def type(self, css: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.all(css)[0].send_keys(Keys.CONTROL + "a", Keys.NULL, text)

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(key).perform()

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


SHOWN = {
    "/": "#sweeps h2",
    "/samples": "#pools p",
    f"/sweep/{SWEEP}": "#figure .point",
    f"/sweep/{SWEEP}/curves": "#curves .point",
    f"/sweep/{SWEEP}/table": "#table tbody tr",
    f"/sweep/{SWEEP}/failed": "#failed h2",
}
"""The pages, and what is seen when one is there."""


@pytest.fixture(scope="module")
def small(browser: Any, serve: Callable[..., str], trained: Path) -> Page:
    """The page over the finished sweep."""
    return Page(browser, serve(trained))


def test_a_run_grows_while_the_page_is_open(browser: Any, serve: Callable[..., str], growing: Any) -> None:
    store: SweepStore
    store, add = growing
    add(0)
    page = Page(browser, serve(store.storage.root))

    def is_running() -> bool:
        store.write_status(status())  # as a driver does every few seconds, however long the browser takes
        return page.texts(".badge") == ["▶ running"]

    store.write_status(status())
    page.open("/")
    page.until(is_running, "the sweep runs")
    page.all("#sweeps a")[0].click()
    page.until(lambda: page.points() == [("circle", 2)], "two VAEs are drawn")
    assert page.texts(".tiles dd")[:4] == ["2 / 6", "2", "0", "120"]
    assert browser.title == f"{SWEEP}: figure – vaegen_ray"
    add(1, ("metrics",))
    page.until(lambda: page.points() == [("circle", 2), ("circle-open", 2)], "two more are under way")
    add(1, ("trials",))
    page.until(lambda: page.points() == [("circle", 4)], "they are done")
    page.until(lambda: page.texts(".tiles dd")[0] == "4 / 6", "four are done")
    add(2)
    store.write_status(status(ended=True))
    page.until(lambda: page.texts(".badge") == ["✓ finished"], "the sweep is finished")
    page.until(lambda: page.points() == [("circle", 6)], "all are drawn")
    store.write_figure("small.png", b"\x89PNG\r\n\x1a\n")  # the driver draws when all is committed
    alt = page.until(lambda: [image.get_attribute("alt") for image in page.all(".pictures img")], "the driver's figure")
    assert alt == [f"figure small of {SWEEP}, drawn from the results"]
    assert page.complaints() == []


def test_every_view_opens_without_a_complaint_and_loads_from_its_server_alone(small: Page) -> None:
    for path, css in SHOWN.items():
        small.open(path)
        small.until(lambda css=css: small.all(css), f"{css} of {path}")
        assert len(small.texts(".tiles dd")) == (5 if path.startswith("/sweep") else 0)
        loaded = small.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert loaded and all(name.startswith((small.address, "data:", "blob:")) for name in loaded), loaded
    assert small.complaints() == []


def test_the_table_filters_sorts_and_downloads_the_rows_of_the_parquet_files(small: Page, trained: Path) -> None:
    small.open(f"/sweep/{SWEEP}/table")
    small.until(lambda: len(small.all("#table tbody tr")) == 6, "six rows")
    small.type("#table-filter", "nc>=2 seed=1")
    small.until(lambda: small.texts("#table-found") == ["2 of 6 VAEs"], "two rows are left")
    head = next(each for each in small.all("#table th") if each.text.startswith("test ELBO"))
    head.find_element("tag name", "button").click()
    small.until(lambda: len(small.all("th[aria-sort=ascending]")) == 1, "the table is sorted")
    small.all("#download")[0].click()
    file = small.browser.downloads / f"{SWEEP}.csv"
    small.until(file.exists, "the file is here")
    got = pd.read_csv(file)
    file.unlink()
    trials = pd.concat(map(pd.read_parquet, (trained / SWEEP / "trials").glob("*.parquet")))
    metrics = pd.concat(map(pd.read_parquet, (trained / SWEEP / "metrics").glob("*.parquet")))
    wanted = trials[(trials["nc"] >= 2) & (trials["seed"] == 1)].merge(
        metrics[metrics["effective_epoch"] == 6].drop(columns="bundle_id"), on="trial_id", suffixes=("", "_metrics")
    )
    wanted = wanted.sort_values("elbo_test")
    for column in ("trial_id", "nc", "elbo_test", "elbo_train", "generalization_gap", "params_total", "spec_json"):
        if column in got:
            assert got[column].tolist() == wanted[column].tolist(), column
    assert {"trial_id", "elbo_test", "wall_seconds", "code_version"} <= set(got)
    small.type("#table-filter", "width=3")
    small.until(lambda: "must be one of" in small.texts("#table-found")[0], "what is wrong with the filter")
    assert small.complaints() == []


def test_chosen_trials_show_their_curves_of_both_sets(small: Page) -> None:
    small.open(f"/sweep/{SWEEP}/table")
    small.until(lambda: len(small.all("td button")) == 6, "six rows")
    small.all("td button")[0].click()
    small.until(lambda: len(small.all("td button[aria-pressed=true]")) == 1, "a trial is chosen")
    small.all("nav.views a")[1].click()
    script = "const p = document.querySelector('#curves .js-plotly-plot'); return p && p.data ? p.data : []"
    lines = small.until(lambda: small.browser.execute_script(script), "the curves")
    assert [line["line"]["dash"] for line in lines] == ["solid", "dash"]
    assert all(line["x"] == [1, 3, 6] for line in lines)
    small.all("#forget")[0].click()
    small.until(lambda: len(small.browser.execute_script(script)) == 6, "one seed of every setting")
    assert small.complaints() == []


def test_a_keyboard_reaches_everything_in_the_order_of_the_page(small: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    small.open(f"/sweep/{SWEEP}")
    small.until(lambda: small.points() == [("circle", 6)], "the figure is drawn")
    small.browser.execute_script("document.activeElement.blur()")
    here = """
        const e = document.activeElement, style = getComputedStyle(e);
        return [e.id || e.innerText.trim(), style.outlineStyle !== 'none' || style.boxShadow !== 'none']
    """
    seen = []
    for _ in range(19):
        small.press(Keys.TAB)
        seen.append(small.browser.execute_script(here))
    head = ["Skip to the content", "vaegen_ray", "All sweeps", "Sampler pools"]
    assert [name for name, _ in seen[:4]] == head and seen[4][0].startswith("Settings")
    assert [name for name, _ in seen[5:9]] == ["Figure", "Curves", "Table", "Failed"]
    assert [name for name, _ in seen[9:12]] == ["x", "y", "colour"]
    assert seen[18][0] == "The same numbers as a table."  # behind the buttons of the figure
    assert all(visible for _, visible in seen), seen
    title = "return document.querySelector('#figure .js-plotly-plot').layout.xaxis.title.text"
    downs = count(1)

    def another_axis() -> bool:
        """Chooses by keys alone, further down each time: the first key may only go to the top of the menu."""
        if not small.all("[role=listbox], .dash-dropdown-content"):
            small.all("#x")[0].send_keys(Keys.ENTER)
        for key in (*[Keys.ARROW_DOWN] * next(downs), Keys.ENTER):
            small.press(key)
        return small.browser.execute_script(title) != "nc"

    small.until(another_axis, "another axis")
    for control in small.all("a, button, input, [role=progressbar], [role=region]"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")
    assert small.complaints() == []


def test_nothing_is_wider_than_a_phone(small: Page) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    small.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for path, css in SHOWN.items():
            small.open(path)
            small.until(lambda css=css: small.all(css), f"{css} of {path}")
            assert small.browser.execute_script("return document.documentElement.scrollWidth") <= 390, path
    finally:
        small.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


WIDTHS = """
    const plot = document.querySelector('.js-plotly-plot'), box = plot && plot.querySelector('.main-svg');
    return box ? [plot.getBoundingClientRect().width, box.getBoundingClientRect().width] : [0, 1]
"""


def test_a_figure_is_drawn_anew_when_its_box_changes(small: Page) -> None:
    """With the window, and inside of a window that stays as it is."""
    size = small.browser.get_window_size()
    for path, css in ((f"/sweep/{SWEEP}", "#figure .point"), (f"/sweep/{SWEEP}/curves", "#curves .point")):
        small.open(path)
        small.until(lambda css=css: small.all(css), f"{css} of {path}")
        before = small.until(lambda: (w := small.browser.execute_script(WIDTHS))[0] == w[1] and w, "it fills its box")
        try:
            small.browser.set_window_size(700, 900)
            small.until(
                lambda: (w := small.browser.execute_script(WIDTHS))[0] == w[1] < before[1] - 300,  # noqa: B023
                "it is as narrow as the window",
            )
            small.browser.execute_script("document.querySelector('main figure').style.width = '400px'")
            small.until(
                lambda: (w := small.browser.execute_script(WIDTHS))[0] == w[1] < 400, "it is as wide as its box"
            )
        finally:
            small.browser.set_window_size(size["width"], size["height"])


def test_behind_a_prefix_the_links_of_the_page_lead_to_it(
    browser: Any, serve: Callable[..., str], trained: Path
) -> None:
    page = Page(browser, serve(trained, prefix="/lab/vaegen"))
    page.open("/")
    page.until(lambda: page.texts("#sweeps h2") == [SWEEP], "the sweep is listed")
    page.all("#sweeps a")[0].click()
    page.until(lambda: page.points() == [("circle", 6)], "its figure is drawn")
    assert browser.current_url == f"{page.address}/sweep/{SWEEP}"
    page.all("nav.views a")[2].click()
    page.until(lambda: len(page.all("#table tbody tr")) == 6, "six rows")
    assert browser.current_url == f"{page.address}/sweep/{SWEEP}/table"
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert all(name.startswith((f"{page.address}/", "data:", "blob:")) for name in loaded), loaded
    assert page.complaints() == []


def test_an_address_without_a_page_says_so(small: Page) -> None:
    small.open("/sweep/absent")
    said = small.until(lambda: "".join(small.texts("#problem")), "what is wrong")
    assert said.startswith("no sweep 'absent' in ")


def test_a_page_whose_server_has_ended_says_so(browser: Any, trained: Path) -> None:
    command = [sys.executable, "-m", "vaegen_ray.cli", "dashboard", "--storage", str(trained)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        page = Page(browser, server.stdout.readline().split()[1])
        page.open("/")
        page.until(lambda: page.texts("#sweeps h2") == [SWEEP], "the sweep is listed")
        assert not page.all("#gone")[0].is_displayed()
        server.kill()
    page.until(lambda: "does not answer" in page.all("#gone")[0].text, "that the server has ended")
    page.browser.get("about:blank")
    page.complaints()  # of connections that were refused

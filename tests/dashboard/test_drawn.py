"""The figures of the paper on the page are those that a run draws at its end."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from vaegen_ray import figures
from vaegen_ray.dashboard import drawn, watch
from vaegen_ray.dashboard.sweeps import Sweeps, WatchedSweep
from vaegen_ray.figures.style import to_bytes
from vaegen_ray.reports.figures import load_tables
from vaegen_ray.results.store import SweepStore

from .conftest import SWEEP


@pytest.fixture(autouse=True)
def look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look reads and draws, to its end."""
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", None)
    monkeypatch.setattr(drawn, "PAUSE", 0.0)


def declare(store: SweepStore, *names: str) -> WatchedSweep:
    """The sweep, which declares these figures."""
    store.write_sweep_json({**store.read_sweep_json(), "figures": list(names)})
    return Sweeps(store.storage)[SWEEP]


def at_the_end(store: SweepStore, name: str) -> dict[str, bytes]:
    """The pictures of a figure as a run draws them."""
    made = figures.draw(name, load_tables(store, figures.FIGURES[name].reads)[0])
    return {stem: to_bytes(part, "png") for stem, part in made.items() if not isinstance(part, str)}


def test_the_page_draws_the_figure_of_the_paper_as_the_sweep_grows(growing: Any) -> None:
    store, add = growing
    watched = declare(store, "double_descent")
    made = watched.figures.get()
    assert made is not None and made.pictures == {} and "at least one completed trial" in made.notes[0]
    pictures = []
    for number in range(3):
        add(number)
        made = watched.figures.get()
        assert made is not None and not any("cannot be drawn" in note for note in made.notes)
        assert made.pictures == at_the_end(store, "double_descent") and "double_descent" in made.pictures
        pictures.append(made.pictures["double_descent"])
    assert len(set(pictures)) == 3


def test_a_figure_over_epochs_has_all_evaluations(growing: Any) -> None:
    store, add = growing
    watched = declare(store, "training_curves")
    add(0)
    made = watched.figures.get()
    assert made is not None and made.pictures == at_the_end(store, "training_curves")


def test_nothing_is_drawn_again_without_something_new(growing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, add = growing
    watched = declare(store, "double_descent")
    add(0)
    made = watched.figures.get()
    monkeypatch.setattr(figures, "draw", None)
    assert watched.figures.get() == made


def test_a_figure_that_cannot_be_drawn_says_why_and_hides_no_other(growing: Any) -> None:
    store, add = growing
    watched = declare(store, "training_curves", "of_a_later_version", "double_descent")
    for number in range(3):
        add(number)
    made = watched.figures.get()
    assert made is not None and "double_descent" in made.pictures and "training_curves" not in made.pictures
    assert any("of_a_later_version" in note for note in made.notes)
    assert any("figure training_curves cannot be drawn: rows of one figure must share" in note for note in made.notes)


def test_a_figure_is_on_the_page_once(serve: Callable[..., str], growing: Any) -> None:
    from .test_page import Page
    from .test_server import get

    store, add = growing
    declare(store, "double_descent")
    add(0)
    store.write_figure("double_descent.png", b"of an earlier run")
    store.write_figure("other.png", b"of somebody else")
    page = Page(serve(store.storage.root))
    assert "are being drawn" in page.opened(f"/sweep/{SWEEP}")
    answer = page.ask("paper.children")["response"]
    words = json.dumps(answer["paper"]["children"])
    assert words.count("/double_descent.png?") == 2  # a link and its picture
    assert f"/drawn/{SWEEP}/double_descent.png?" in words and f"/figures/{SWEEP}/other.png?" in words
    shown = answer["paper-shown"]["data"]
    assert page.ask("paper.children", **{"paper-shown": shown})["response"] == {}  # nothing new
    code, headers, picture = get(f"{page.address}/drawn/{SWEEP}/double_descent.png")
    assert (code, headers["Content-Type"]) == (200, "image/png")
    assert picture == at_the_end(store, "double_descent")["double_descent"]
    for path in (f"{SWEEP}/other", "absent/double_descent"):
        assert get(f"{page.address}/drawn/{path}.png")[0] == 404
    assert f"/drawn/{SWEEP}/double_descent.png?" in page.opened(f"/sweep/{SWEEP}")

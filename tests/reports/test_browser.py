"""Pages in a real browser: nothing fetched, no error, sorting, tooltips, two schemes, phone and desk and print."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import study_pages

from syn2co.reports.evaluation_page import write_evaluation_page
from syn2co.reports.study_page import write_study_page
from syn2co.studies.answers import answer
from syn2co.studies.results import StudyResults

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
RULES = Path(__file__).with_name("accessibility.js")
RESULTS = Path(__file__).parents[2] / "docs" / "results"
COMMITTED = ("enough", "negatives", "ratio")
"""Studies that were run for real, whose pages are examples."""
PICTURE = cv2.imencode(".png", np.full((8, 12, 3), 128, np.uint8))[1].tobytes()
LIGHT, DARK = {"color_scheme": "light"}, {"color_scheme": "dark"}

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A study with a picture, one of which some cells and seeds are missing, an evaluation, and the committed pages."""
    folder, results = tmp_path_factory.mktemp("pages"), study_pages.results()
    cells = [cell for cell in results.cells if cell.levels["real images"] != "8000" or cell.seed == 0]
    return {
        "study": write_study_page(answer(results), folder, pictures={"real beside synthetic": PICTURE}),
        "partial": write_study_page(answer(StudyResults(results.study, tuple(cells))), folder / "partial.html"),
        "evaluation": write_evaluation_page(results.cells[0].report, folder),
        **{name: RESULTS / f"study-{name}" / "study.html" for name in COMMITTED},
    }


@pytest.fixture
def opened(browser: "Browser", pages: dict[str, Path]) -> Iterator[Callable[..., "Page"]]:
    """`opened(name, width, **context)`: a page without network; at the end it must not have asked or complained."""
    contexts, asked, said = [], [], []

    def open_page(name: str = "study", width: int = 1440, **options: Any) -> "Page":
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        file = pages[name].as_uri()
        page.route("**/*", lambda route: route.continue_() if route.request.url == file else route.abort())
        page.on("request", lambda request: asked.append(request.url) if request.url != file else None)
        page.goto(file)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not asked, "the page asked the network"
    assert not said, "the page wrote to the console"


def _column(page: "Page", table: str, column: int) -> list[str]:
    return page.eval_on_selector_all(
        f"{table} tbody tr", "(rows, column) => rows.map((row) => row.cells[column].textContent.trim())", column
    )


def test_a_click_sorts_the_largest_score_to_the_top_and_a_second_one_turns_it(opened: Callable[..., "Page"]) -> None:
    page = opened()
    button = page.locator("#cells th button").nth(2)
    button.click()
    values = [float(text.split("[")[0]) for text in _column(page, "#cells", 2)]
    assert values == sorted(values, reverse=True) and len(values) == 10
    assert page.locator("#cells th").nth(2).get_attribute("aria-sort") == "descending"
    button.click()
    assert [float(text.split("[")[0]) for text in _column(page, "#cells", 2)] == sorted(values)
    assert page.locator("#cells th[aria-sort]").count() == 1


def test_the_keyboard_sorts_too_and_numbers_in_texts_count_as_numbers(opened: Callable[..., "Page"]) -> None:
    page = opened()
    page.locator("#cells th button").nth(1).focus()
    page.keyboard.press("Enter")
    assert _column(page, "#cells", 1) == ["500"] * 3 + ["2000"] * 4 + ["8000"] * 3


def test_numbers_with_thousands_commas_sort_as_numbers(opened: Callable[..., "Page"]) -> None:
    page = opened()
    commas = """(rows) => rows.forEach((row) => {
        row.cells[1].textContent = Number(row.cells[1].textContent).toLocaleString("en");
    })"""
    page.eval_on_selector_all("#cells tbody tr", commas)
    button = page.locator("#cells th button").nth(1)
    button.click()
    assert _column(page, "#cells", 1) == ["500"] * 3 + ["2,000"] * 4 + ["8,000"] * 3
    button.click()
    assert _column(page, "#cells", 1) == ["8,000"] * 3 + ["2,000"] * 4 + ["500"] * 3


@pytest.mark.parametrize(
    ("title", "text"), [("p (Holm)", "not tested"), ("P(better)", "–"), ("smallest resolvable", "not known")]
)
def test_texts_without_a_value_sort_last_in_both_directions(
    opened: Callable[..., "Page"], title: str, text: str
) -> None:
    page = opened("partial")
    titles = page.locator("#contrasts .scroll").first.locator("th button").all_inner_texts()
    column = titles.index(title)
    button = page.locator("#contrasts .scroll").first.locator("th button").nth(column)
    for _ in range(2):
        button.click()
        texts = page.locator("#contrasts .scroll").first.locator(f"tbody tr td:nth-child({column + 1})")
        shown = texts.all_inner_texts()
        assert len(shown) == 4 and [one == text for one in shown] == [False, False, False, True]


def test_the_mouse_shows_a_tooltip_within_the_window_and_takes_it_away(opened: Callable[..., "Page"]) -> None:
    page = opened()
    point = page.locator("#figure .wide .point").nth(1)
    point.scroll_into_view_if_needed()
    point.locator(".hit").hover()
    tip = page.locator("#tip")
    assert tip.is_visible() and "real images: " in tip.inner_text() and "%" in tip.inner_text()
    box = tip.bounding_box()
    assert box and box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= 1440
    page.locator("h2").first.hover()
    assert not tip.is_visible()


def test_arrow_keys_read_every_point_of_a_chart(opened: Callable[..., "Page"]) -> None:
    page = opened()
    page.locator("#content").evaluate("(main) => main.querySelector('#figure').scrollIntoView()")
    page.locator("nav a").last.focus()
    page.keyboard.press("Tab")
    tip = page.locator("#tip")
    read = [tip.inner_text()]
    for _ in range(9):
        page.keyboard.press("ArrowRight")
        read.append(tip.inner_text())
    assert len(set(read)) == 10  # three curves of three points and the random encoder
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == read[0]
    page.keyboard.press("Escape")
    assert not tip.is_visible()


@pytest.mark.parametrize("name", ["study", "partial", "evaluation", *COMMITTED])
def test_the_page_is_never_wider_than_the_window(opened: Callable[..., "Page"], name: str) -> None:
    page = opened(name)
    page.eval_on_selector_all("details", "(several) => several.forEach((one) => { one.open = true; })")
    for width in (1440, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".box.wide").first.is_visible() == (width > 740)
        assert page.locator(".box.narrow").first.is_visible() == (width <= 740)


@pytest.mark.parametrize("name", ["study", "partial", "evaluation", *COMMITTED])
def test_everybody_can_read_it(opened: Callable[..., "Page"], name: str) -> None:
    page = opened(name, **LIGHT)
    page.eval_on_selector_all("details", "(several) => several.forEach((one) => { one.open = true; })")
    for width, scheme in ((1440, LIGHT), (1440, DARK), (390, LIGHT), (390, DARK)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(**scheme)
        assert page.evaluate(RULES.read_text(encoding="utf-8")) == [], (width, scheme)
        if axe := _axe():
            page.evaluate(axe.read_text(encoding="utf-8"))
            result = page.evaluate("axe.run()")
            assert [(one["id"], one["nodes"][0]["html"]) for one in result["violations"]] == []


def _axe() -> Path | None:
    """Return axe.min.js of $SYN2CO_AXE or of a node_modules folder above, None where there is none."""
    named = os.environ.get("SYN2CO_AXE")
    folders = (parent / "node_modules" / "axe-core" / "axe.min.js" for parent in Path(__file__).parents)
    return Path(named) if named else next((path for path in folders if path.is_file()), None)


def test_the_own_rules_see_what_they_are_for(opened: Callable[..., "Page"]) -> None:
    page = opened()
    page.evaluate(
        """() => {
            document.querySelector(".sentence").style.color = "#999";
            document.querySelector("svg desc").textContent = "";
            document.querySelector("h2").outerHTML = "<h4>deep</h4>";
        }"""
    )
    complaints = " ".join(page.evaluate(RULES.read_text(encoding="utf-8")))
    assert "contrast 2." in complaints and "no title or description" in complaints and "skips a level" in complaints


def test_dark_and_light_differ_and_print_is_light(opened: Callable[..., "Page"]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened(**LIGHT).evaluate(background) == "rgb(255, 255, 255)"
    page = opened(**DARK)
    assert page.evaluate(background) == "rgb(15, 20, 25)"
    page.emulate_media(media="print")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()


def test_everything_is_printed(opened: Callable[..., "Page"]) -> None:
    page = opened(color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")

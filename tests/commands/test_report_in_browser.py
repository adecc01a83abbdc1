"""A report as a person meets it: in a real browser, walked through by pointer and keyboard, in both themes, wide and narrow."""

import json
import shutil
from importlib import resources
from importlib.util import find_spec

import pytest

from headstart.experiments.report.write_report import write_report

from .test_report import CHROMIUM, hostile
from .test_report_recipe import page_that_shows

FIXTURES = (hostile,)  # of that module, used here, too
if find_spec("playwright") is None:
    pytest.skip("playwright is not installed (pip install 'headstart[browser]')", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("no chromium is installed, in which the page would be opened", allow_module_level=True)

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page and all that it complained of or asked for."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.readyState === 'complete'")

    def __enter__(self):
        return self.page

    def __exit__(self, kind, error, trace):
        outside = [url for url in self.requests[1:] if not url.startswith("data:")]
        self.context.close()
        if kind is None:
            assert (self.complaints, outside) == ([], [])


@pytest.fixture(scope="module")
def path(trained):
    return write_report("best", trained).path


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_a_pointer_over_the_map_shows_an_image_and_a_lasso_opens_a_grid(browser, path):
    with Opened(browser, path) as page:
        page.locator("#points").scroll_into_view_if_needed()
        box = page.locator("#points").bounding_box()
        seen = ""
        for row in range(1, 30):
            for column in range(1, 40):
                page.mouse.move(box["x"] + column * box["width"] / 40, box["y"] + row * box["height"] / 30)
                if page.locator("#tip").is_visible():
                    seen = page.locator("#tip").inner_text()
                    break
            if seen:
                break
        assert ".png" in seen
        corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
        page.mouse.move(box["x"] + 0.01 * box["width"], box["y"] + 0.01 * box["height"])
        page.mouse.down()
        for x, y in corners:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        page.mouse.up()
        assert page.locator("dialog#grid").is_visible()
        assert page.locator("#grid-title").inner_text().startswith("Selected: ")
        assert page.locator("#tiles li").count() > 10
        page.keyboard.press("Escape")
        assert not page.locator("dialog#grid").is_visible()


def test_a_cell_of_the_confusions_opens_its_images(browser, path):
    with Opened(browser, path) as page:
        cell = page.locator("button[data-true]").first
        count = int(cell.inner_text())
        cell.click()
        assert page.locator("#tiles li").count() == count
        page.locator("#grid-close").click()
        assert not page.locator("dialog#grid").is_visible()
        assert page.evaluate("document.activeElement.dataset.true !== undefined")  # back where one was


def test_the_theme_switches_and_is_remembered_by_nothing_outside_the_page(browser, path):
    with Opened(browser, path) as page:
        before = background(page)
        page.locator("#theme").click()
        assert background(page) != before


def test_everything_is_reached_by_keyboard_alone(browser, path):
    with Opened(browser, path) as page:
        reached = set()
        for _ in range(120):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("(e => e.id || e.dataset.true && 'cell' || e.tagName)(document.activeElement)"))
            if page.evaluate("document.activeElement.id") == "points":
                page.keyboard.press("ArrowRight")
                page.keyboard.press("ArrowDown")
                assert "sure" in page.locator("#said").inner_text()
                page.keyboard.press("Enter")
                assert page.locator("dialog#grid").is_visible()
                page.keyboard.press("Escape")
                assert page.evaluate("document.activeElement.id") == "points"
        assert {"A", "theme", "layout", "by", "points", "cell"} <= reached


def test_it_prints(browser, path):
    with Opened(browser, path, scheme="dark") as page:
        assert page.pdf(format="A4").startswith(b"%PDF")
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert page.locator("h1").is_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways_and_axe_finds_no_violation(browser, path, width, scheme):
    if find_spec("axe_playwright_python") is None:
        pytest.skip("axe-core is not installed (pip install 'headstart[browser]')")
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with Opened(browser, path, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.evaluate(axe)
        found = page.evaluate(
            "axe.run().then(result => result.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))]))"
        )
        assert found == []


def test_names_that_are_markup_do_nothing_in_a_browser(browser, hostile):
    with Opened(browser, hostile.path) as page:
        assert page.title() != "hit"
        assert page.locator("img[src=x]").count() == 0
        page.locator("button[data-true]").first.click()
        assert page.locator("#tiles li").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_without_a_script_the_page_still_says_the_answer(browser, path, tmp_path):
    shutil.copy(path, tmp_path / "page.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert "%" in page.locator(".big").inner_text()
    assert page.locator("h2").count() > 4
    context.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of a recipe that wrote two texts at two biases beforehand."""
    folder = tmp_path_factory.mktemp("written")
    one = {"hand": "any", "strokes": [[[0, 0], [5, 5]], [[9, 0]]]}
    lines = [{**one, "text": text, "bias": bias} for text in ("Hello there", "and <b>more</b>") for bias in ("0", "2")]
    lines[-1]["strokes"] = [[[n, n % 7] for n in range(200)]]
    show = f"\n\ndef show(model, batches):\n    yield 'strokes.json', {json.dumps({'lines': lines})!r}.encode()\n"
    return page_that_shows(folder, show)


def test_a_line_is_found_by_a_part_of_its_text_and_drawn_stroke_by_stroke(browser, written):
    with Opened(browser, written) as page:
        page.wait_for_selector("#paper path[d$='h.01']", state="attached")  # the dot comes last
        assert page.locator("#paper path").count() == 2
        page.evaluate(
            "const seen = window.seen = new Set(); new MutationObserver((all) => all.forEach((one) => "
            "one.target.tagName === 'path' && seen.add(one.target.getAttribute('d').split('L').length)))"
            ".observe(document.getElementById('paper'), {attributes: true, attributeFilter: ['d'], subtree: true})"
        )
        page.locator("#pen-text").fill("MORE")
        page.locator("#pen-bias").select_option("2")
        assert page.locator("#pen-said").inner_text() == "and <b>more</b>"
        page.wait_for_selector("#paper path[d$='199,3']", state="attached")
        counts = page.evaluate("[...window.seen]")
        assert len(counts) > 2, counts  # not all at once
        assert max(counts) == 200
        page.locator("#pen-text").fill("something else")
        page.locator("#pen-write").click()
        assert "headstart sample" in page.locator("#pen-said").inner_text()
        assert not page.locator("#paper").is_visible()


def test_who_wants_no_motion_sees_the_whole_line_at_once(browser, written):
    with Opened(browser, written) as page:
        page.emulate_media(reduced_motion="reduce")
        page.locator("#pen-text").fill("and")
        page.locator("#pen-bias").select_option("2")
        assert page.evaluate("document.querySelector('#paper path').getAttribute('d').split('L').length") == 200

"""`headstart report`: a page that says what the numbers say, needs nothing else, and does nothing but be read."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headstart.experiments.config import TrainingOptions
from headstart.experiments.report.write_report import _trained_for, write_report
from headstart.pipeline.doors.records import seal
from tests.jobs.extraction import enqueue, work

from .calling import call
from .conftest import draw

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>document.title='hit'</script>"


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        self._open = f"{tag} {dict(attrs).get('id') or ''}".strip()

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        self.inside[self._open] = self.inside.get(self._open, "") + data


@pytest.fixture(scope="module")
def page(trained):
    written = write_report("best", trained)
    return written, written.path.read_text()


def test_the_page_has_the_verdict_and_the_score_that_training_noted(page, trained):
    written, content = page
    metrics = json.loads((written.path.parent.parent / "metrics.json").read_text())
    chosen = next(entry for entry in metrics["heads"] + metrics["baselines"] if metrics["selected"] in entry.values())
    assert f"{chosen['test']['accuracy'] * 100:.1f} %" in content
    assert f"<b>{metrics['selected']}</b>" in content
    assert written.verdict.startswith(f"{metrics['selected']}")


def test_the_page_says_what_to_type_next(page):
    written, content = page
    number = json.loads((written.path.parent.parent / "runs.json").read_text())[written.verdict.split(",")[0].split()[0]]
    assert f"<code>headstart predict IMAGES --run {number}</code>" in content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(TrainingOptions(steps=3000), "at most 200, 128, 0", id="so many steps of a small set"),
        pytest.param(TrainingOptions(epochs=7), "7, 128, 0", id="so many epochs"),
    ],
)
def test_the_epochs_that_the_page_tells_are_those_that_heads_were_given(options, words):
    assert ", ".join(_trained_for(options, rows=1443).values()) == words


def test_the_page_tells_them(page):
    written, content = page
    folder = written.path.parent.parent
    options = TrainingOptions(**json.loads((folder / "experiment.json").read_text())["options"])
    rows = json.loads((folder / "metrics.json").read_text())["rows"]["train"]
    for name, value in _trained_for(options, rows).items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in content


def test_each_mistake_has_a_picture_of_what_spoke_for_it(page):
    _, content = page
    shown = content.split('<ul class="mistakes three">')[1].split("</ul>")[0]
    assert shown.count("<li>") == shown.count('alt="what spoke for it: ') > 0


def test_without_a_map_to_explain_by_the_page_says_the_rest_and_the_reason_is_told(own, monkeypatch):
    from headstart.experiments.report import mistakes_seen
    from headstart.pipeline.errors import HeadstartError

    def refuse(*arguments):
        raise HeadstartError("it cannot be explained")

    monkeypatch.setattr(mistakes_seen, "open_with_pooled_map", refuse)
    said = []
    content = write_report("best", own, said.append).path.read_text()
    assert '<ul class="mistakes">' in content
    assert "in orange" not in content
    assert any("it cannot be explained" in line for line in said)


def test_each_figure_lies_beside_with_its_numbers(page):
    written, _ = page
    names = {path.name for path in written.figures}
    pictures = {Path(name).stem for name in names if not name.endswith(".json")}
    assert {"standings", "classes", "reliability", "jobs", "map_pca"} <= pictures
    assert all(f"{stem}.json" in names for stem in pictures)
    for path in written.figures:
        if path.suffix == ".json":
            assert json.loads(path.read_text())["numbers"]


def test_the_same_again_is_the_same_page(page, trained):
    assert write_report("best", trained).path.read_text() == page[1]


def test_nothing_is_fetched_and_only_its_own_script_and_style_may_run(page):
    elements = Elements(page[1])
    policy = next(attributes["content"] for tag, attributes in elements.all if attributes.get("http-equiv"))
    for kind, name in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(elements.inside[name].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes in elements.all:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action"):
            assert re.match(r"(data:|#|$)", attributes.get(name) or ""), (tag, attributes)


def test_scripts_beside_its_own_are_data(page):
    kinds = [attributes.get("type") for tag, attributes in Elements(page[1]).all if tag == "script"]
    assert kinds.count(None) == 1
    assert set(kinds) == {None, "application/json", "text/plain"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Names of classes and files that are markup, quotes, controls or very long."""
    folder = tmp_path_factory.mktemp("hostile")
    # A path cannot hold '/', so the element that ends one is in the table's label.
    labels = [HOSTILE, "'\"><img src=x onerror=alert(1)>", "right\u202eleft" + "x" * 4900]
    lines = ["path,label"]
    for number in range(60):
        name = f"{number:03d} <b>&amp;\u202e'.png"
        draw(folder / "data" / name, number, 0.6 + 0.3 * (number % 3))
        quoted = labels[number % 3].replace('"', '""')
        lines.append(f'"{name}","{quoted}"')
    (folder / "data" / "table.csv").write_text("\n".join(lines) + "\n")
    workspace = enqueue(folder / "data" / "table.csv", folder / "w")
    work(workspace)
    assert call("train-head", "--epochs", "2", "-w", workspace.root).status == 0
    assert call("audit", "-w", workspace.root).status == 0
    return write_report("best", workspace)


def test_names_that_are_markup_are_text(hostile):
    content = hostile.path.read_text()
    elements = Elements(content)
    assert [tag for tag, attributes in elements.all if tag == "script" and "type" not in attributes] == ["script"]
    assert not [tag for tag, attributes in elements.all if attributes.get("src") == "x"]
    assert "\u202e" not in content
    assert "&lt;script&gt;document.title=" in content
    assert 'id="doubts"' in content


def test_a_class_of_5000_characters_leaves_the_page_small(hostile):
    assert hostile.bytes < 1_000_000


def test_numbers_have_a_page_too(measured):
    written = write_report("best", measured)
    content = written.path.read_text()
    assert "said against true" in content
    assert "Within" in content
    assert {"predicted_light.svg", "residuals_dark.svg"} <= {path.name for path in written.figures}


def test_a_run_is_shown_by_its_number_and_an_experiment_by_its_name(trained):
    done = call("report", "1", "--json", "-w", trained.root)
    assert done.status == 0
    assert done.json["verdict"].startswith("linear")
    by_name = call("report", "ablation", "--json", "-w", trained.root)
    assert by_name.json["page"] == done.json["page"]
    assert by_name.json["verdict"] == call("report", "exp_0001_ablation", "--json", "-w", trained.root).json["verdict"]


BAD = {
    "no such run": (["99"], "there is no finished run '99'"),
    "no such experiment": (["nothing"], "there is no experiment 'nothing'; the newest are: exp_0001_ablation"),
}


@pytest.mark.parametrize(("arguments", "reason"), BAD.values(), ids=BAD)
def test_what_is_not_there_is_said_in_one_line(trained, arguments, reason):
    done = call("report", *arguments, "-w", trained.root)
    assert done.status == 1
    assert reason in done.errors


def test_an_experiment_without_an_answer_is_said_in_one_line(own):
    (own.root / "experiments" / "exp_0001_ablation" / "metrics.json").unlink()
    done = call("report", "ablation", "-w", own.root)
    assert done.status == 1
    assert "is not finished" in done.reason


def test_pictures_that_are_gone_are_grey_and_counted(own, tmp_path):
    manifest = next(own.manifests.glob("*/dataset.json"))
    facts = json.loads(manifest.read_text())
    del facts["seal"]
    (tmp_path / "empty").mkdir()
    manifest.write_bytes(seal({**facts, "root": str(tmp_path / "empty")}))
    written = write_report("best", own)
    assert written.missing > 0
    assert written.path.exists()


# What a person does with the page, done by a script that its policy lets in; what it saw stands in the page's title.
WALK = """
const seen = {violations: [], errors: []};
addEventListener("securitypolicyviolation", (event) => seen.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
addEventListener("error", (event) => seen.errors.push(event.message));
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const walk = async () => {
  await wait(300);
  const $ = (id) => document.getElementById(id);
  const points = $("points"), tip = $("tip"), dialog = $("grid");
  const frame = points.getBoundingClientRect();
  const pointer = (kind, clientX, clientY) =>
    points.dispatchEvent(new PointerEvent(kind, {clientX, clientY, pointerId: 1, button: 0, bubbles: true}));
  points.setPointerCapture = () => {};
  for (let y = 4; y < frame.height && tip.hidden; y += 8)
    for (let x = 4; x < frame.width && tip.hidden; x += 8) pointer("pointermove", frame.left + x, frame.top + y);
  seen.hover = !tip.hidden && tip.textContent;
  pointer("pointerleave", 0, 0);
  const corners = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]];
  const place = ([x, y]) => [frame.left + x * frame.width, frame.top + y * frame.height];
  corners.forEach((corner, i) => pointer(i ? "pointermove" : "pointerdown", ...place(corner)));
  pointer("pointerup", frame.left, frame.top);
  seen.lasso = dialog.open && $("grid-title").textContent;
  seen.tiles = $("tiles").children.length;
  dialog.close();
  const cell = document.querySelector("button[data-true]");
  cell.click();
  seen.cell = [cell.textContent, $("grid-title").textContent];
  $("grid-close").click();
  seen.closed = !dialog.open;
  points.focus();
  const key = (name) => points.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
  key("ArrowRight"); key("ArrowDown");
  seen.said = $("said").textContent;
  key("Enter");
  seen.around = dialog.open;
  dialog.close();
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const before = ground();
  $("theme").click();
  seen.themes = [before, ground()];
  for (const value of ["answer", "split", "class"]) {
    $("by").value = value;
    $("by").onchange();
  }
  document.querySelector("#keys button").click();
  dispatchEvent(new Event("beforeprint"));
  seen.printed = ground();
  dispatchEvent(new Event("afterprint"));
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  await wait(200);
  document.documentElement.dataset.seen = JSON.stringify(seen);
};
walk().catch((error) => { document.documentElement.dataset.seen = JSON.stringify({...seen, failed: String(error)}); });
"""


def walked(page: str, folder: Path, width: int):
    if CHROMIUM is None:
        pytest.skip("no chromium is installed, in which the page would be opened")
    digest = base64.b64encode(hashlib.sha256(WALK.encode()).digest()).decode()
    let_in = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1).replace(
        "</body>", f"<script>{WALK}</script></body>"
    )
    path = folder / "page.html"
    path.write_text(let_in)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", f"--window-size={width},900"]
    command = [CHROMIUM, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    dumped = next(attributes.get("data-seen") for tag, attributes in Elements(done.stdout).all if tag == "html")
    assert dumped, done.stderr[-2000:]
    return json.loads(dumped)


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_answers_to_pointer_and_keyboard(page, tmp_path, width):
    seen = walked(page[1], tmp_path, width)
    assert "failed" not in seen, seen
    assert (seen["violations"], seen["errors"]) == ([], [])
    assert ".png" in seen["hover"]
    assert seen["lasso"] == "Selected: 90 images"
    assert seen["tiles"] == 90
    assert seen["cell"][1].endswith(f": {seen['cell'][0]} image" + ("" if seen["cell"][0] == "1" else "s"))
    assert seen["closed"]
    assert "sure" in seen["said"]
    assert seen["around"]
    assert seen["themes"][0] != seen["themes"][1]
    assert seen["printed"] == "rgb(252, 251, 249)"
    assert seen["overflow"] == 0


def test_hostile_names_run_nothing_in_a_browser(hostile, tmp_path):
    seen = walked(hostile.path.read_text(), tmp_path, 1280)
    assert "failed" not in seen, seen
    assert (seen["violations"], seen["errors"]) == ([], [])
    assert seen["overflow"] == 0

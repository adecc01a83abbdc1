"""A report of 60,000 images: its size, how long it takes, and how fast a browser shows it and answers the pointer.

python -m benchmarks.report_scale CIFAR10.zip [--encoder NAME] [--weights embedded|FILE] [--keep DIR]

Wants playwright and a chromium on the PATH. `report` runs on two cores at most, from features and a head that are there. First
paint is Chromium's own, the largest of `--rounds` openings, each in a new browser. Hover is from a pointer's move over the map
to the end of what the page does about it, layout included, at the 95th percentile of 2,000. Five minutes
beside other work, most of it for features; with --keep they stay.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import zipfile
from pathlib import Path

from .photos import headstart
from .synthetic import seconds_of, verdict

CORES = 2
# Dispatched in the page, so that what drives the browser adds nothing to a move.
HOVER = """() => {
  const canvas = document.getElementById("points"), box = canvas.getBoundingClientRect(), tip = document.getElementById("tip");
  const took = [];
  let shown = 0;
  for (let move = 0; move < 2000; move++) {
    const x = box.left + box.width * (0.02 + 0.96 * ((move * 0.618034) % 1));
    const y = box.top + box.height * (0.02 + 0.96 * ((move * 0.754878) % 1));
    const begun = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: x, clientY: y, bubbles: true}));
    document.body.offsetHeight;
    took.push(performance.now() - begun);
    shown += tip.getClientRects().length > 0;
  }
  return [took, shown];
}"""
PAINT = "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)"


def trained(options, folder):
    """A workspace with a head on the features of all images; what is there already stays."""
    images, workspace = folder / "images", folder / "ws"
    if not images.exists():
        with zipfile.ZipFile(options.archive) as archive:
            archive.extractall(images)
    chosen = ["--encoder", options.encoder] if options.encoder else []
    headstart("enqueue", images, *chosen, "--weights", options.weights, "-w", workspace)
    headstart("work", "-w", workspace)
    if not (workspace / "experiments").exists():
        headstart("train-head", "-w", workspace)
    return workspace


def opened(page_file, rounds):
    """First paints of cold openings, what each of many moves over the map took, in ms, and how many of them showed an image."""
    from playwright.sync_api import sync_playwright

    paints, took, shown = [], [], 0
    with sync_playwright() as playwright:
        for _ in range(rounds):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_function(f"{PAINT}.length > 0")
            paints += page.evaluate(PAINT)
            page.locator("#points").scroll_into_view_if_needed()
            took, shown = page.evaluate(HOVER)
            browser.close()
    return paints, took, shown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as scratch:
        workspace = trained(options, options.keep or Path(scratch))
        seconds = seconds_of(lambda: headstart("report", "-w", workspace))
        [page_file] = workspace.glob("experiments/*/report/report.html")
        size = page_file.stat().st_size
        paints, took, shown = opened(page_file, options.rounds)
    print(f"load {os.getloadavg()[0]:.1f}; {shown:,} of {len(took):,} moves showed an image")
    verdict("size, MB", size / 1e6, 10, is_least=False)
    verdict("report, from process start, s", seconds, 30, is_least=False)
    verdict("first paint, ms", max(paints), 1000, is_least=False)
    verdict("hover, 95th percentile, ms", statistics.quantiles(took, n=20)[-1], 16, is_least=False)
    verdict("moves over the map that show an image", shown, 1)


if __name__ == "__main__":
    main()

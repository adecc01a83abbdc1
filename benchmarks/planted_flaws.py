"""What `headstart audit` finds of flaws that were planted: wrong labels, near-duplicates, copies across the splits.

python -m benchmarks.planted_flaws CIFAR10.zip --weights FILE [--seeds 5] [--keep DIR] [--write]

Of each seed: 10,000 images, drawn stratified by class and split; 200 of them stand in another class's folder; of 150 a
near-duplicate lies beside (recompressed, resized, mirrored or brightened, in turn), and of 50 training images a copy in test,
every second one byte for byte, the others altered likewise. Pairs that are not planted are natural copies (CIFAR-10 has many) or
mistakes of the audit. Which they are was decided by looking at each: `natural_copies.csv` has those that show one picture. A pair
that is not in it counts as a mistake, and `--keep DIR` leaves pictures of all such in DIR, to be looked at. `--write` puts the
table into RESULTS.md. At the end the suspects that were planted are corrected in a table, and heads are trained again: what that
takes, and what logistic regression has on test before and after. Some minutes a seed; with --keep features and
answers stay, so that what was killed goes on.
"""

import argparse
import csv
import io
import json
import re
import statistics
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from .photos import headstart
from .synthetic import seconds_of, verdict

DRAWN, WRONG, NEAR, ACROSS = {"train": 833, "test": 167}, 200, 150, 50  # drawn of each class
CHANGES = ("recompressed", "resized", "mirrored", "brightened")
NATURAL = Path(__file__).with_name("natural_copies.csv")
RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = "## Planted flaws (`benchmarks/planted_flaws.py`, mobilenetv2_100 features)"


def altered(data, change, random):
    """The bytes of a JPEG, changed in one way."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    quality = 90
    if change == "recompressed":
        quality = int(random.integers(40, 80))
    elif change == "resized":
        edge = int(random.choice([24, 28, 40, 48, 64]))
        image = image.resize((edge, edge), Image.Resampling.BICUBIC)
    elif change == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        image = ImageEnhance.Brightness(image).enhance(float(random.choice([0.7, 0.8, 1.2, 1.3])))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def plant(archive, folder, seed):
    """Writes the images of a seed. Returns {"wrong": {path: true class}, "near": [[path, path, change]], "across": likewise}."""
    random = np.random.default_rng(seed)
    members = {}
    for name in sorted(archive.namelist()):
        if name.endswith(".jpg"):
            split, label, _ = name.split("/")
            members.setdefault((split, label), []).append(name)
    classes = sorted({label for _, label in members})
    drawn = []
    for (split, _), names in sorted(members.items()):
        drawn += [names[place] for place in sorted(random.choice(len(names), DRAWN[split], replace=False))]
    order = random.permutation(len(drawn))
    wrong = {drawn[place] for place in order[:WRONG]}
    rest = [drawn[place] for place in order[WRONG:]]
    near = rest[:NEAR]
    across = [name for name in rest[NEAR:] if name.startswith("train/")][:ACROSS]
    said = {"wrong": {}, "near": [], "across": []}

    def write(path, data):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    for name in drawn:
        split, label, file = name.split("/")
        if name in wrong:
            other = str(random.choice([each for each in classes if each != label]))
            # What it was called stands in its name, which no part of the audit reads.
            place = f"{split}/{other}/{label}-{file}"
            said["wrong"][place] = label
        else:
            place = f"{split}/{label}/{label}-{file}"
        write(place, archive.read(name))
    for number, name in enumerate(near):
        split, label, file = name.split("/")
        change, place = CHANGES[number % len(CHANGES)], f"{split}/{label}/{label}-near-{file}"
        write(place, altered(archive.read(name), change, random))
        said["near"].append([f"{split}/{label}/{label}-{file}", place, change])
    for number, name in enumerate(across):
        split, label, file = name.split("/")
        change = "exact" if number % 2 == 0 else CHANGES[number // 2 % len(CHANGES)]
        data = archive.read(name)
        place = f"test/{label}/{label}-across-{file}"
        write(place, data if change == "exact" else altered(data, change, random))
        said["across"].append([f"{split}/{label}/{label}-{file}", place, change])
    return said


def original(path):
    """What a path of a seed is called in the archive."""
    split, _, file = path.split("/")
    label, *_, number = file.split("-")
    return f"{split}/{label}/{number}"


def extracted(archive, folder, seed, weights):
    """The workspace of a seed with its features, and what was planted; what is there already stays."""
    said, workspace = folder / "planted.json", folder / "ws"
    folder.mkdir(parents=True, exist_ok=True)
    if not said.exists():
        planted = plant(archive, folder / "images", seed)
        said.write_text(json.dumps(planted))
    headstart("enqueue", folder / "images", "--encoder", "mobilenetv2_100", "--weights", weights, "-w", workspace)
    headstart("work", "-w", workspace)
    return workspace, json.loads(said.read_text())


def corrected(workspace, planted, suspects, table):
    """Figures of a training before and one after the labels of those suspects that were planted are put right in a table."""
    headstart("train-head", "--name", "before", "-w", workspace)
    wrong = planted["wrong"]
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([suspect["path"], wrong[suspect["path"]]] for suspect in suspects if suspect["path"] in wrong)
    seconds = seconds_of(lambda: headstart("enqueue", "--labels", table, "-w", workspace))
    seconds += seconds_of(lambda: headstart("train-head", "--name", "after", "-w", workspace))
    runs = json.loads(headstart("runs", "--json", "-w", workspace).stdout)["runs"]
    tests = {run["experiment"].partition("_")[2].partition("_")[2]: run["test"] for run in runs if run["head"] == "logistic"}
    return {
        "corrected: seconds until trained again": seconds,
        "corrected: test accuracy before": tests["before"],
        "corrected: test accuracy after": tests["after"],
        "corrected: points that the score gains": 100 * (tests["after"] - tests["before"]),
    }


def judged(audit, planted, natural):
    """Figures of one seed by name, and the pairs that are neither planted nor known to show one picture."""
    wrong = set(planted["wrong"])
    is_wrong = np.array([suspect["path"] in wrong for suspect in audit["suspects"]])
    hits = np.cumsum(is_wrong)
    wanted = round(0.7 * len(wrong))
    at = int(np.searchsorted(hits, wanted)) + 1 if hits[-1] >= wanted else None
    pairs = {frozenset((pair["first"]["path"], pair["second"]["path"])) for pair in audit["copies"]}
    meant = {frozenset(pair[:2]) for pair in planted["near"] + planted["across"]}
    across = {frozenset(pair[:2]) for pair in planted["across"]}
    others = pairs - meant
    # A copy of an image is also a copy of that image's other copies, and of its natural ones.
    known = {pair for pair in others if len({original(path) for path in pair}) == 1 or natural_name(pair) in natural}
    false = others - known
    return {
        "copies: recall": len(pairs & meant) / len(meant),
        "copies: precision": len(pairs & meant) / max(1, len(pairs & meant) + len(false)),
        "copies: recall of those across splits": len(pairs & across) / len(across),
        "natural copies besides": len(known),
        "labels: precision at recall 0.7": wanted / at if at else 0.0,
        "labels: precision of the first 100": float(hits[99] / 100),
        "labels: suspects": len(is_wrong),
        "labels: recall of all suspects": float(hits[-1] / len(wrong)),
    }, sorted(tuple(sorted(pair)) for pair in false)


def natural_name(pair):
    return tuple(sorted(original(path) for path in pair))


def known_natural():
    if not NATURAL.exists():
        return set()
    with NATURAL.open() as file:
        return {tuple(sorted(row)) for row in csv.reader(file)}


def sheet(images, pairs, path):
    """One picture of all pairs, side by side, 15 in a row, numbered from the top left."""
    edge, across = 64, 15
    whole = Image.new("RGB", (across * (2 * edge + 12), -(-len(pairs) // across) * (edge + 6)), "white")
    for number, pair in enumerate(pairs):
        for side, name in enumerate(pair):
            tile = Image.open(images / name).convert("RGB").resize((edge, edge), Image.Resampling.NEAREST)
            whole.paste(tile, (number % across * (2 * edge + 12) + side * edge, number // across * (edge + 6)))
    whole.save(path)


TARGETS = {
    "copies: recall": 0.9,
    "copies: precision": 0.95,
    "labels: precision at recall 0.7": 0.5,
    "labels: precision of the first 100": 0.8,
    "corrected: points that the score gains": 0.5,
}


def table(figures):
    lines = [
        HEADING,
        "",
        "10,000 images of CIFAR-10 a seed, 200 wrong labels, 150 near-duplicates, 50 copies across the splits.",
        "",
    ]
    lines += ["| | mean | of each seed | wanted |", "|---|---|---|---|"]
    for name in figures[0]:
        values = [each[name] for each in figures]
        digits = 3 if ":" in name and "suspects" not in name.removeprefix("labels: recall of all ") else 0
        each = ", ".join(f"{value:.{digits}f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.{max(digits, 1)}f} | {each} | {TARGETS.get(name, '')} |")
    return "\n".join(lines) + "\n"


def write(text):
    """Puts the table into RESULTS.md, in place of an older one."""
    results = RESULTS.read_text()
    pattern = re.compile(re.escape(HEADING) + r"\n.*?(?=\n## |\Z)", re.DOTALL)
    results = pattern.sub(lambda _: text, results) if HEADING in results else f"{results.rstrip()}\n\n{text}"
    RESULTS.write_text(results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    figures, natural = [], known_natural()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(options.archive) as archive:
        place = options.keep or Path(scratch)
        for seed in range(options.seeds):
            workspace, planted = extracted(archive, place / str(seed), seed, options.weights)
            audit = {}
            for part, key in (("labels", "suspects"), ("duplicates", "copies")):
                kept = place / str(seed) / f"{part}.json"
                if not kept.exists():
                    kept.write_text(headstart("audit", f"--{part}", "--json", "-w", workspace).stdout)
                audit[key] = json.loads(kept.read_text())[key]
            found, false = judged(audit, planted, natural)
            kept = place / str(seed) / "corrected.json"
            if not kept.exists():
                kept.write_text(json.dumps(corrected(workspace, planted, audit["suspects"], kept.with_suffix(".csv"))))
            found |= json.loads(kept.read_text())
            figures.append(found)
            print(seed, *(f"{name} {value:.3f}" for name, value in found.items()), sep="   ", flush=True)
            if false and options.keep:
                sheet(place / str(seed) / "images", false, place / f"unknown_{seed}.png")
                (place / f"unknown_{seed}.json").write_text(json.dumps([natural_name(pair) for pair in false]))
    for name, target in TARGETS.items():
        verdict(name, statistics.mean(each[name] for each in figures), target)
    text = table(figures)
    print(text)
    if options.write:
        write(text)


if __name__ == "__main__":
    main()

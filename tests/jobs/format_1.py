"""Turns a manifest of today into one as versions before the digests wrote it, for tests of the migration."""

import csv
import hashlib
import json

FIXED = ("path", "label", "split", "group", "size", "mtime_ns")


def as_format_1(workspace):
    """Rewrites every manifest of `workspace`, before any job is done, and the queue that names its parts."""
    queue = workspace.queue.read_text()
    for folder in workspace.manifests.iterdir():
        assert not list(folder.glob("revision_*")), "format 1 knows no revisions"
        facts = json.loads((folder / "dataset.json").read_text())
        known = {name: facts[name] for name in ("root", "layout", "file", "roles", "seed", "allow_symlinks")}
        (folder / "dataset.json").write_text(json.dumps({"format": 1, **known}, indent=1) + "\n")
        for part in sorted(folder.glob("part_*.csv")):
            with part.open(newline="") as file:
                header, *rows = csv.reader(file)
            kept = [i for i, name in enumerate(header) if name in FIXED or not name.startswith("image_")]
            text = "".join(",".join(row[i] for i in kept) + "\n" for row in (header, *rows))
            name = ".".join([*part.name.split(".")[:2], hashlib.sha256(text.encode()).hexdigest()[:16], "csv"])
            part.unlink()
            (folder / name).write_text(text)
            queue = queue.replace(part.name, name)
    workspace.queue.write_text(queue)

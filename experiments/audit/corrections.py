"""A table of what an audit doubts, to be corrected in a spreadsheet and given to `enqueue --labels`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from headstart.pipeline.text import escape

from .doubts import AuditedImage, DataAudit

HEADER = ("path", "label", "suggested", "why", "split", "other", "dataset")


def corrections_table(audit: DataAudit) -> bytes:
    """CSV with a header and a line a doubt, its cells spelled as in manifests: no spreadsheet runs one."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([escape(cell) for cell in row] for row in correction_rows(audit))
    return buffer.getvalue().encode()


def correction_rows(audit: DataAudit) -> Iterator[tuple[str, ...]]:
    """A line a doubt, in the order of HEADER; `label` is what the image is called now.

    Of a pair across splits the line is of the training image: left out, it frees the test of its copy, and the test stays as
    it is. A pair with two labels suggests the other one's.
    """

    def line(image: AuditedImage, suggested: str, why: str, other: str) -> tuple[str, ...]:
        return (image.path, image.label, suggested, why, image.split, other, image.dataset)

    if audit.labels is not None:
        for each in audit.labels.suspects:
            image = AuditedImage(each.dataset, each.row, each.path, each.split, each.label)
            yield line(image, each.suggested, "label", "")
    for pair in audit.copies:
        one, other = (pair.first, pair.second) if pair.is_leak and pair.first.split == "train" else (pair.second, pair.first)
        suggested = other.label if other.label != one.label else ""
        yield line(one, suggested, "copy across splits" if pair.is_leak else "copy", other.path)
    for odd in audit.outliers:
        yield line(odd.image, "", "odd one out", "")

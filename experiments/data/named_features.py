"""Features of a workspace by a name that means the same rows whatever is extracted or enqueued later: for recipes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.cached_features import CachedFeatures, CachedRows, ManifestColumns, rows_of
from headstart.features.store.load import finished_markers
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.queue import Reader
from headstart.pipeline.text import plural, verb
from headstart.pipeline.workspace import Workspace

_AS_OF = re.compile(r"(?P<encoder>encoder_[^/]+)/(?P<dataset>[^/@]+)@(?P<rows>\d+)\.(?P<revision>\d+)")


def find_features(workspace: Workspace, asked: str | None) -> tuple[CachedFeatures, str]:
    """The features of one data set, and the name that they keep.

    Args:
        asked: an encoder as `chosen_encoder` takes it, with `/` and a data set behind it where there are several; or such a name.

    Raises: HeadstartError if there are none, or some images have none yet: a training must not depend on when it was begun.
    """
    match = _AS_OF.fullmatch(asked or "")
    if match is not None:
        encoder, wanted = workspace.features / match["encoder"], match["dataset"]
    else:
        name, _, wanted = (asked or "").rstrip("/").partition("/")
        encoder = chosen_encoder(workspace, name or None)
    cached = open_cache(encoder)
    named = [dataset for dataset in cached.rows.datasets if wanted in ("", dataset.rpartition("/")[2])]
    if len(named) != 1:
        there = ", ".join(f"{encoder.name}/{dataset.rpartition('/')[2]}" for dataset in cached.rows.datasets)
        raise HeadstartError(f"{'several data sets have features' if named else 'no such features'}. Name one: {there}")
    manifests = ManifestColumns(workspace.root)
    columns = manifests.newest(named[0]) if match is None else manifests.of(named[0], int(match["revision"]))
    count = len(columns.path) if match is None else int(match["rows"])
    rows = rows_of(cached.rows.fingerprint, cached.parts, lambda dataset: manifests.of(dataset, columns.revision), only=named[0])
    features = replace(cached, rows=rows, selected=named[0], manifests=manifests)
    if match is None:
        _require_all(workspace, encoder, named[0])
    if (rows.index >= count).any():
        features = replace(features, rows=_before(rows, count))
    return features, f"{encoder.name}/{named[0].rpartition('/')[2]}@{count}.{columns.revision}"


def _require_all(workspace: Workspace, encoder: Path, dataset: str) -> None:
    folder = workspace.relative(encoder)
    done = {marker.job.job_id for marker in finished_markers(workspace, encoder)}
    jobs = [job for job in Reader(workspace, frozenset({"extract"})) if job.folder == folder]
    left = sum(job.job_id not in done for job in jobs if job.source.startswith(f"{dataset}/"))
    if left:
        raise HeadstartError(
            f"{plural(left, 'job')} of {encoder.name} {verb(left, 'are')} "
            "not done, and a training keeps its rows. First: headstart work"
        )


def _before(rows: CachedRows, count: int) -> CachedRows:
    """Those that were in the manifest when it had `count` rows."""
    keep = rows.index < count
    coded = {name: replace(getattr(rows, name), codes=getattr(rows, name).codes[keep]) for name in ("label", "split", "group")}
    return replace(rows, physical=rows.physical[keep], dataset=rows.dataset[keep], index=rows.index[keep], **coded)

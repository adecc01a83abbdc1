"""Makes finished features without images and without an encoder: what a test of cache or heads starts from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstart.features.arrays import summary
from headstart.features.encoders.spec import EncoderSpec
from headstart.features.manifest.adding import add_images
from headstart.features.sources.source import Image, Source
from headstart.features.store import shards
from headstart.pipeline.job import Job, job_id_of
from headstart.pipeline.markers import Result, commit
from headstart.pipeline.workspace import Workspace

from .samples import CENTER


@dataclass
class Extracted:
    """An encoder folder with finished jobs. `add` enqueues images and finishes their jobs."""

    workspace: Workspace
    embed_dim: int = 4
    weights: str = "00" * 32
    name: str = "data"
    job_size: int = 8
    jobs: list[Job] = field(default_factory=list)

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec("tiny", {}, "anywhere", self.weights, CENTER, "avg", self.embed_dim)

    @property
    def folder(self) -> Path:
        return self.workspace.features / self.spec.folder_name

    def add(
        self,
        features: np.ndarray,
        labels: Sequence[str],
        splits: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        extra: dict[str, Sequence[str]] | None = None,
        names: Sequence[str] | None = None,
        mtime: int = 1,
        finish: bool = True,
    ) -> list[Job]:
        """Image i has path `names[i]` and gets `features[i]`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "encoder.json").write_bytes(self.spec.to_json())
        count = len(features)
        names = names or [f"image_{i:06d}.png" for i in range(count)]
        splits, groups = splits or [""] * count, groups or [""] * count
        columns = tuple(extra or {})
        images = tuple(
            Image(
                names[i],
                labels[i],
                splits[i],
                groups[i],
                10,
                mtime,
                tuple((extra or {})[c][i] for c in columns),
                hashlib.md5(f"{self.name} {names[i]} {mtime}".encode()).hexdigest(),
            )
            for i in range(count)
        )
        root = self.workspace.root / self.name
        source = Source(root, "table", "table.csv", images, columns=columns)
        manifest = add_images(self.workspace, source, 0, keep_missing=True).manifest
        part = manifest.parts[-1]
        by_name = dict(zip(names, np.asarray(features, np.float16), strict=True))
        new = []
        for start in range(0, part.rows, self.job_size):
            stop = min(start + self.job_size, part.rows)
            source = self.workspace.relative(part.path)
            job = Job(job_id_of(len(self.jobs)), "extract", self.workspace.relative(self.folder), source, start, stop)
            self.jobs.append(job)
            new.append(job)
            if finish:
                rows = manifest.rows(part.name, start, stop)
                self.finish(job, np.stack([by_name[row.image.path] for row in rows]), [row.index for row in rows])
        return new

    def finish(self, job: Job, features: np.ndarray, index: Sequence[int]) -> None:
        arrays = {
            "global_pool": np.asarray(features, np.float16),
            "index": np.asarray(index, np.int64),
            "status": np.zeros(len(index), np.uint8),
        }
        result = Result(shards.pack(arrays), shards.SUFFIX, summary(arrays), len(index), len(index))
        assert commit(self.workspace, job, self.spec.fingerprint, result)

    def cache_files(self) -> dict[str, str]:
        """Name and digest of every part of the cache."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((self.folder / "cache").glob("part_*"))
        }


def numbered(count: int, embed_dim: int = 4, first: int = 0) -> np.ndarray:
    """(count, embed_dim) float16 whose first column is the number of the image."""
    features = np.random.default_rng(first).standard_normal((count, embed_dim)).astype(np.float16)
    features[:, 0] = np.arange(first, first + count)
    return features

"""Images as a listing of data finds them, without files, and the rows that a manifest holds of them."""

from pathlib import Path

from headstart.features.sources.source import Image, Source


def images(count, start=0, **changes):
    return tuple(
        Image(f"{'cat' if i % 3 else 'dog'}/{i:05d}.jpg", "cat" if i % 3 else "dog", "", "", 10, 20)._replace(**changes)
        for i in range(start, start + count)
    )


def source(*listed, columns=(), root="/data/Pets & Co", **facts):
    return Source(Path(root), facts.pop("layout", "table"), facts.pop("file", "t.csv"), tuple(listed), columns=columns, **facts)


def everything(manifest):
    read = manifest.read_all()
    keys = zip(read.path, read.label, read.split, read.group, read.size.tolist(), read.mtime_ns.tolist(), strict=True)
    extra = list(zip(*read.extra.values(), strict=True)) or [()] * len(read.path)
    return [Image(p, label, s, g, size, mtime, e) for (p, label, s, g, size, mtime), e in zip(keys, extra, strict=True)]

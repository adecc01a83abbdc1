"""The rules by which an image stays the same image, each taken away once, as in `mutants`."""

from .mutants import Mutant

ADDING, DATASETS = "features/manifest/adding.py", "features/manifest/dataset_matching.py"
DIGESTS, MATCHING = "features/manifest/digests.py", "features/manifest/image_matching.py"
READING, REVISIONS = "features/manifest/reading.py", "features/manifest/revisions.py"
SPLITS, DECODE = "features/manifest/splits.py", "features/images/decode.py"
CACHED, ENQUEUE = "features/store/cached_features.py", "features/planning/enqueue.py"

_REVISION = """    if revision.revised is not None:
        # Before the part: a row that moved away from a path must not be taken for an older state of what is there now.
        publish_revision(workspace.files, manifest.folder, before.revision + 1, revision.revised)
"""
_PART = """    table = table_of(source.images)
    every = range(len(matching.rows))
    chosen: Sequence[int] = every if not before.path else [i for i in every if matching.rows[i] == NO_ROW]
    if len(chosen):
        pairs: dict[tuple[str, str], tuple[str, str]] = {}
        strata = [pairs.setdefault(pair, pair) for pair in ((table.labels[i], splits[i]) for i in chosen)]
        lots = [source.lots[i] for i in chosen] if source.lots else []
        order = order_by_lots(strata, lots, manifest.dataset.seed, len(before.path))
        images = ((source.images[chosen[k]], splits[chosen[k]]) for k in order)
        publish_part(workspace.files, manifest.folder, _columns(source, before), _with_all_columns(source, before, images))
"""

IDENTITY_MUTANTS = (
    Mutant(
        "an image that lies elsewhere is known by its bytes",
        MATCHING,
        "        _match_moved(images, before, rows, taken)",
        "        pass",
    ),
    Mutant("other bytes at a path are another image", MATCHING, "return image.digest == before.digest[row]\n", "return True\n"),
    Mutant(
        "of many images that are as they were none is taken for another",
        MATCHING,
        " and all(map(_is_known, table.digests, map(before.digest.__getitem__, there))):",
        ":",
    ),
    Mutant("no row is two images", MATCHING, "                if row not in taken:\n", "                if True:\n"),
    Mutant("of copies the one of that name keeps its row", MATCHING, "in (True, False):", "in (False,):"),
    Mutant(
        "a row that counts is known again before one that is retired",
        MATCHING,
        "key=lambda row: (bool(before.live[row]), not before.retired[row], -row)",
        "key=lambda row: row",
    ),
    Mutant(
        "without digests an image that may be one of two is neither",
        MATCHING,
        "if len(positions) == 1 and len(by_facts.get(facts, ())) == 1:",
        "if by_facts.get(facts):",
    ),
    Mutant(
        "of rows of a path the one that counts is what lies there",
        READING,
        "            rows |= {self.path[row]: row for row in self.live.nonzero()[0].tolist()}\n",
        "            pass\n",
    ),
    Mutant(
        "rows that left the data are retired",
        ADDING,
        "        rows[row] = state(row)._replace(retired=CHANGED if is_changed else GONE)\n",
        "",
    ),
    Mutant(
        "what cannot be listed for now is not retired",
        ADDING,
        'any(before.path[row].startswith(f"{name}/") for name in source.unreadable)',
        "False",
    ),
    Mutant("an image that is back counts again", ADDING, 'RevisedRow("", fixed, extra)', "RevisedRow(was.retired, fixed, extra)"),
    Mutant(
        "a corrected label is taken over", ADDING, "image.path, image.label, splits[i]", "image.path, was.fixed[2], splits[i]"
    ),
    Mutant(
        "a corrected label is looked for",
        ADDING,
        "in_place & _are_equal(table.labels, before.label, rows)",
        "in_place.copy()",
    ),
    Mutant(
        "whoever has a split keeps it",
        ADDING,
        "        if seen != NO_ROW:\n            known",
        "        if False:\n            known",
    ),
    Mutant(
        "an image whose job missed it is computed once it is there",
        ADDING,
        "    lacking = without_features() & suspects.keys() if suspects else frozenset()\n",
        "    lacking: frozenset[int] = frozenset()\n",
    ),
    Mutant(
        "what earlier revisions say stays said",
        ADDING,
        "RevisedRows(tuple(columns), kept | rows)",
        "RevisedRows(tuple(columns), rows)",
    ),
    Mutant(
        "`dataset.json` is written anew when the place or the format changes",
        ADDING,
        "if not _says(path := manifest.folder / DATASET_FILE, manifest.dataset.encode()):",
        "if not (path := manifest.folder / DATASET_FILE).exists():",
    ),
    Mutant("a revision is there before the part that follows it", ADDING, _REVISION + _PART, _PART + _REVISION),
    Mutant("exact copies are one unit of a draw", SPLITS, "    if _differ(images):\n", "    if True:\n"),
    Mutant(
        "a copy in another data set decides the split",
        SPLITS,
        '[split or elsewhere.get(digest, "") for split, digest in zip(splits, table.digests, strict=True)]',
        "splits",
    ),
    Mutant(
        "a copy in another data set decides the split of a group",
        SPLITS,
        "            of_unit.setdefault(name, elsewhere[image.digest])\n",
        "            pass\n",
    ),
    Mutant("images of a group are drawn together", SPLITS, "not any(table.groups) and table.digests", "table.digests"),
    Mutant("the newest revision counts", REVISIONS, "return revisions[-1] if", "return revisions[0] if"),
    Mutant(
        "a revision that was cut off is refused",
        REVISIONS,
        "    if hashlib.sha256(data).hexdigest()[:16] != revision.digest:\n",
        "    if False:\n",
    ),
    Mutant(
        "an image of which the digest is known is not read",
        DIGESTS,
        "if not digest and size != MISSING]",
        "if size != MISSING]",
    ),
    Mutant(
        "a known digest counts for that time alone",
        DIGESTS,
        "(known.size[row] == size) & (known.mtime_ns[row] == mtime_ns)",
        "(known.size[row] == size)",
    ),
    Mutant(
        "a file that changes while it is read gets no digest",
        DIGESTS,
        '    return digest.hexdigest() if (length, after.st_size, after.st_mtime_ns) == (size, size, mtime_ns) else ""\n',
        "    return digest.hexdigest()\n",
    ),
    Mutant(
        "a torn line of the journal spoils no other", DIGESTS, '                self._begin = b"\\n"\n', "                pass\n"
    ),
    Mutant(
        "a data set that moved is the same",
        DATASETS,
        "    return moved if moved is not None else _new_folder(workspace, source)\n",
        "    return _new_folder(workspace, source)\n",
    ),
    Mutant(
        "a copy beside the first is a data set of its own",
        DATASETS,
        " and not is_there(manifest.dataset, columns):",
        ":",
    ),
    Mutant("few common images are no move", DATASETS, "shared >= _OVERLAP * len(live)", "shared"),
    Mutant("data is moved by hand only to where it is", DATASETS, "    if not is_there(moved, columns):\n", "    if False:\n"),
    Mutant("a manifest of a newer format is refused", READING, '    if facts["format"] > FORMAT:\n', "    if False:\n"),
    Mutant("a manifest that needs more is refused", READING, "    if not ABILITIES.issuperset(needs):\n", "    if False:\n"),
    Mutant(
        "of rows of one path the last counts",
        READING,
        "    last = {path: row for row, path in enumerate(paths) if not retired[row]}\n",
        "    last = {row: row for row in range(len(paths)) if not retired[row]}\n",
    ),
    Mutant(
        "another time stamp alone is no change",
        DECODE,
        'is_touched = digest != "" and before.st_mtime_ns != mtime_ns',
        "is_touched = False",
    ),
    Mutant(
        "`work` compares the bytes of what was touched",
        DECODE,
        "    if is_touched and digest_of_bytes(data) != digest:\n",
        "    if False:\n",
    ),
    Mutant(
        "no job computes a row that left before its turn",
        "features/extraction/row_encoder.py",
        "            if row.retired:\n                raise",
        "            if False:\n                raise",
    ),
    Mutant(
        "features of what left are not loaded",
        "features/store/load.py",
        'keep = manifest(workspace.root / source).live_at(arrays["index"], source)',
        'keep = np.ones(len(arrays["index"]), np.bool_)',
    ),
    Mutant(
        "what left is not trained on", CACHED, "live[mine] = manifest.live_at(index[mine], datasets[code])", "live[mine] = True"
    ),
    Mutant(
        "other labels are another training",
        CACHED,
        "    if any(manifest.changes for manifest in manifests):\n",
        "    if False:\n",
    ),
    Mutant(
        "digests that `work` noted are taken over",
        ENQUEUE,
        "        noted = digests_by_work(workspace, there)\n",
        "        noted: dict[int, str] = {}\n",
    ),
    Mutant(
        "a data set that has an encoder keeps to it",
        ENQUEUE,
        "[(spec, None) for spec in before] or [*ready]",
        "[*ready] or [_ready(workspace, encoder, held)]",
    ),
)

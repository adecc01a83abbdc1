"""Splits a data set into jobs: freezes its images in the manifest, saves the encoder and fills the queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.features.devices import has_accelerator
from headstart.features.encoders.folder import SPEC_NAME
from headstart.features.encoders.precision import FLOAT32
from headstart.features.encoders.prepared import BegunEncoder, begin_encoder, ready_graph
from headstart.features.encoders.remembered import remember_request, remembered_encoder
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.manifest.adding import Added, add_images
from headstart.features.manifest.dataset_matching import dataset_at, dataset_of, options_as_before, remembered_options
from headstart.features.manifest.digests import Digested, digest_images, forget_journal
from headstart.features.manifest.patches import PATCHES_A_JOB
from headstart.features.manifest.reading import DATASET_FILE, Columns, open_manifest, read_columns
from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import Weights
from headstart.features.sources.find import describe, find_images
from headstart.features.sources.image_table import Digests
from headstart.features.sources.scenes import scenes_note
from headstart.features.sources.source import Source, SourceOptions
from headstart.features.store.load import finished_markers
from headstart.pipeline import paths
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.markers import Marker
from headstart.pipeline.memory import no_cycle_search
from headstart.pipeline.queue import Reader
from headstart.pipeline.workspace import Workspace, find_root, has_workspace, open_or_create_workspace, open_workspace

from .disk import disk_words, require_room
from .patches import PatchesPreview, PatchRequest, encoder_before, encoder_for, preview_patches, queue_patches, require_files

KIND = "extract"  # the module in `jobs/` that does what is queued here
JOB_SIZE = 64
MAPS_JOB_SIZE = 16  # a job of 64 images would hold and write hundreds of megabytes
NOT_NAMED = EncoderRequest()
# An encoder with its weights, or a folder that holds them; with None if it is saved in the workspace.
ChosenEncoder = tuple[EncoderSpec, Weights | EmbeddedWeights | Path | None]
_AWAY = frozenset({"missing", "not_a_file", "unreadable", "changed", "outside_root"})


@dataclass(frozen=True)
class Queued:
    """A data set in the queue, to be encoded by one encoder.

    Attributes:
        folder: the encoder's, or that of a version of patches; features will lie there.
        added: what the manifest got.
        restored, fresh: jobs whose rows the queue had lost, and new ones.
    """

    folder: Path
    added: Added
    restored: tuple[Job, ...]
    fresh: tuple[Job, ...]


@dataclass(frozen=True)
class Enqueued(Queued):
    """What `enqueue_images` did.

    Attributes:
        workspace: where.
        encoder: what will encode the images.
        disk_bytes: that features of all images of the data set will take, at most.
        graph_refused: why the encoder has no ONNX graph and will run in torch, on one line; '' if it has one, or if a GPU is
            there, which needs none.
    """

    workspace: Workspace
    encoder: EncoderSpec
    disk_bytes: int
    graph_refused: str


@no_cycle_search()
def enqueue_images(
    data: Source | Path | str,
    workspace: Workspace | Path | str | None = None,
    *,
    encoder: EncoderRequest = NOT_NAMED,
    job_size: int | None = None,
    seed: int = 0,
    options: SourceOptions | None = None,
    digest: str = "auto",
    keep_missing: bool = False,
    patches: PatchRequest | None = None,
    report: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Enqueued:
    """Splits the images in `data` into jobs, which `headstart work` does. Doing it again brings the data set up to date.

    An image is its bytes: one that moved or has another label is known, and rows that left the data no longer count.

    Args:
        data: a folder, a table or an HDF5 file; or what `find_images` made of one.
        workspace: a folder, made if absent; None is the one that every command would take, see `find_root`.
        encoder: what is to encode the images; if nothing is said, a data set that has encoders keeps to them.
        job_size: images a job; None is 64, or 16 where maps of several strides are kept, or patches.
        seed: of splits and shuffling; the first one of a data set stays.
        options: how `data` is to be read; a Source has been read and takes none. What was said of it before holds.
        digest: when images are digested: 'now', 'later' (by `work`), or 'auto': now, unless it would take over a minute.
        keep_missing: rows that left the data still count.
        patches: jobs are of patches of the images instead of whole ones, see `patches.PatchRequest`; the encoder then sees pixels
            as they are in the image, and keeps maps of strides 8, 16 and 32 if nothing else is said.
        report: gets a line as soon as it is known: how the data was read, the encoder, the disk that features will take.
        progress: called now and then with how many of how many images have been digested.

    Raises: HeadstartError with one line if data, encoder or weights are not what they should be, or the disk is too small;
        TryLaterError if it is full, or another enqueue is at work.
    """
    source = data if isinstance(data, Source) else read_data(data, workspace, options or SourceOptions())
    for line in describe(source):
        report(line)
    if not isinstance(workspace, Workspace):
        workspace = open_or_create_workspace(find_root(workspace))
    is_named = encoder != NOT_NAMED
    if patches is not None:
        require_files(source)
        encoder = encoder_for(encoder, patches)
    with contextlib.ExitStack() as held:  # until it ends, what an encoder that is new was made of
        # Before the lock: what may take long or fail. An encoder that was named is made ready while images are digested.
        begun = _begun(workspace, encoder, held) if is_named else None

        def read(done: int, of: int) -> None:
            if begun is not None:
                begun.require_sound()  # a wrong name should not cost a reading
            progress(done, of)

        there = dataset_at(workspace, source.root, source.file, source)
        hint = scenes_note(source.images) if there is None else None  # said once
        if hint:
            report(f"note: {hint}")
        known = read_columns(there) if there is not None else None
        digested = _digested(workspace, source, there, known, digest, read)
        named = [] if begun is None else [begun.finished()]
        if digested.left:
            report(_left_words(digested))
        folder = dataset_of(workspace, digested.source)
        if there is None and not isinstance(data, Source):
            digested = replace(digested, source=_read_as_before(workspace, folder, Path(data), digested.source, options, report))
        before = _encoders_before(workspace, folder, patches, named)
        ready = named or ([] if before else [_begun(workspace, encoder, held).finished()])
        chosen: list[ChosenEncoder] = [(spec, None) for spec in before] or [*ready]
        for _, tensors in ready:
            trial = _Trial(workspace, digested.source, tensors, seed, None if patches is None else patches.size)
            tried = _tried_out(trial, chosen[0][0], encoder, report)
            chosen = chosen if tried == chosen[0][0] else [(tried, tensors)]
        for spec, _ in chosen:
            _report_encoder(spec, bool(before), report)
        asked = _Asked(digested.source, chosen, job_size, seed, keep_missing, known)
        queued, encoder_folder, disk_bytes = _queued(workspace, asked, patches, report)
        forget_journal(workspace, source)
        if not before:
            remember_request(workspace, encoder, chosen[0][0])
        # So that a worker without a GPU never needs torch.
        refused = "" if before or has_accelerator() else _graph_refused(encoder_folder, *chosen[0])
        return Enqueued(**vars(queued), workspace=workspace, encoder=chosen[0][0], disk_bytes=disk_bytes, graph_refused=refused)


@dataclass(frozen=True)
class _Trial:
    """What an encoder is tried out on. `tensors` are its weights, None if it was tried out when it was made."""

    workspace: Workspace
    source: Source
    tensors: EmbeddedWeights | Path | None
    seed: int
    patch_size: int | None


def _tried_out(trial: _Trial, spec: EncoderSpec, request: EncoderRequest, report: Callable[[str], None]) -> EncoderSpec:
    """The encoder in the precision, or with the smaller maps, that are asked for, tried on a sample of the images."""
    if trial.tensors is None:
        if spec.precision != FLOAT32:
            report(f"precision {spec.precision}, as before")
        if spec.compression is not None:
            report(f"maps compressed by {spec.compression.name}, as before")
    elif request.precision != FLOAT32:
        from .precise import chosen_precision

        return chosen_precision(trial.workspace, trial.source, spec, trial.tensors, request, trial.seed, report)
    elif request.compress:
        from .compressed import chosen_compression

        return chosen_compression(
            trial.workspace, trial.source, spec, trial.tensors, request, trial.seed, report, trial.patch_size
        )
    return spec


@dataclass(frozen=True)
class _Asked:
    """What is to be queued; attributes as the arguments of `queue_extraction` and `enqueue_images`."""

    source: Source
    chosen: list[ChosenEncoder]
    job_size: int | None
    seed: int
    keep_missing: bool
    known: Columns | None


def _queued(
    workspace: Workspace, asked: _Asked, patches: PatchRequest | None, report: Callable[[str], None]
) -> tuple[Queued, Path, int]:
    """What is queued, the first encoder's folder, and the disk that features will take at most."""
    if patches is None:
        return _queued_images(workspace, asked, report)
    with queue_lock(workspace), no_cycle_search():
        added, [folder] = _saved(workspace, asked.source, asked.chosen, asked.seed, asked.keep_missing, asked.known)
        job_size = asked.job_size or PATCHES_A_JOB
        cut = queue_patches(workspace, added.manifest, asked.chosen[0][0], patches, job_size, report)
    return Queued(cut.folder, added, cut.restored, cut.fresh), folder, cut.disk_bytes


def _queued_images(workspace: Workspace, asked: _Asked, report: Callable[[str], None]) -> tuple[Queued, Path, int]:
    """As `_queued`, whole images."""
    job_size = asked.job_size or default_job_size([spec for spec, _ in asked.chosen])
    disk_bytes = _require_room(workspace.root, [spec for spec, _ in asked.chosen], len(asked.source.images), job_size, report)
    queued = queue_extraction(workspace, asked.source, asked.chosen, job_size, asked.seed, asked.keep_missing, asked.known)
    return queued, queued.folder, disk_bytes


def _require_room(root: Path, specs: Sequence[EncoderSpec], images: int, job_size: int, report: Callable[[str], None]) -> int:
    """The disk that features of whole images will take at most. Raises: HeadstartError if there is less."""
    disk_bytes = 0
    for spec in specs:
        its_bytes = require_room(root / "features" / spec.folder_name, spec, images, job_size)
        report(disk_words(spec, its_bytes))
        disk_bytes += its_bytes
    return disk_bytes


def default_job_size(specs: Sequence[EncoderSpec]) -> int:
    """Images a job, if nothing is said."""
    return MAPS_JOB_SIZE if any(spec.spatial and spec.spatial.strides for spec in specs) else JOB_SIZE


def _begun(workspace: Workspace, request: EncoderRequest, held: contextlib.ExitStack) -> BegunEncoder:
    remembered = remembered_encoder(workspace, request)
    if remembered is not None:
        return BegunEncoder(lambda: (remembered, None))
    return begin_encoder(workspace, request, held, not has_accelerator())


def _graph_refused(folder: Path, spec: EncoderSpec, weights: Weights | EmbeddedWeights | Path | None) -> str:
    return ready_graph(folder, weights if isinstance(weights, Path) else None).refused if spec.precision == FLOAT32 else ""


@dataclass(frozen=True)
class EnqueuePreview:
    """What `enqueue_images` would do.

    Attributes:
        jobs: at most; images that are known already need none. job_size: images of each, or patches.
        disk_bytes: that features of all these images, or of the new patches, will take, at most; 0 if the encoder cannot be had.
        patches: None if whole images are asked for.
    """

    source: Source
    jobs: int
    job_size: int
    disk_bytes: int
    patches: PatchesPreview | None = None


def preview_enqueue(
    data: Path | str,
    workspace: Workspace | Path | str | None = None,
    *,
    encoder: EncoderRequest = NOT_NAMED,
    job_size: int | None = None,
    options: SourceOptions | None = None,
    patches: PatchRequest | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> EnqueuePreview:
    """Reads `data`, and tries the encoder out with its weights, as `enqueue_images` would; writes nothing.

    Nothing is fitted either: what compresses maps, or another precision, is tried by `enqueue_images` alone.

    Arguments and errors are its; where the encoder that nobody named cannot be had, a line says so.
    """
    root = workspace.root if isinstance(workspace, Workspace) else find_root(workspace)
    opened = open_workspace(root) if has_workspace(root) else None
    source = read_data(data, opened or root, options or SourceOptions())
    for line in describe(source):
        report(line)
    is_named = encoder != NOT_NAMED
    if patches is not None:
        require_files(source)
        encoder = encoder_for(encoder, patches)
    named: list[ChosenEncoder] = [resolve_encoder(encoder)] if is_named else []
    there = dataset_at(opened, source.root, source.file, source) if opened is not None else None
    before = _encoders_before(opened, there, patches, named) if opened is not None and there is not None else []
    specs = before or [spec for spec, _ in named]
    if not specs:
        try:
            specs = [resolve_encoder(encoder)[0]]
        except HeadstartError as error:
            reason = str(error).partition(": ")[0]
            report(f"note: enqueue will end here: {reason}. Name --weights FILE, or --weights embedded to try things out")
    if encoder.compress and not before:
        from .compressed import previewed_compression

        specs = [previewed_compression(opened, spec, encoder) for spec in specs]
    for spec in specs:
        _report_encoder(spec, bool(before), report)
    if patches is not None:
        size = job_size or PATCHES_A_JOB
        known = (opened, there) if opened is not None and there is not None else None
        cut = preview_patches(root, known, source, specs[0] if specs else None, patches, size, report)
        return EnqueuePreview(source, cut.jobs, size, cut.disk_bytes, cut)
    size = job_size or default_job_size(specs)
    disk_bytes = _require_room(root, specs, len(source.images), size, report)
    return EnqueuePreview(source, -(-len(source.images) // size), size, disk_bytes)


def _encoders_before(
    workspace: Workspace, dataset: Path, patches: PatchRequest | None, named: Sequence[ChosenEncoder]
) -> list[EncoderSpec]:
    """The encoders that the data set in that folder has already, and goes on with."""
    if patches is None:
        return _kept_to(encoders_of(workspace, dataset), named)
    return [] if named else encoder_before(workspace, dataset, patches)


def _kept_to(before: Sequence[EncoderSpec], named: Sequence[ChosenEncoder]) -> list[EncoderSpec]:
    """The encoders that a data set keeps to: all that it has, or of one that is named the form that older versions gave it."""
    return [spec for spec in before if not named or _decodes_as_older_versions(spec, named[0][0])]


def _report_encoder(spec: EncoderSpec, is_as_before: bool, report: Callable[[str], None]) -> None:
    height, width = spec.transform.image_size
    report(f"encoder {spec.model}, {height}x{width} pixels, {spec.embed_dim} features" + (", as before" if is_as_before else ""))
    report(f"weights {spec.weights_source}")


def read_data(data: Path | str, workspace: Workspace | Path | str | None, options: SourceOptions) -> Source:
    """The images of `data`, read as before where it is a data set of the workspace and `options` say nothing else."""
    if not isinstance(workspace, Workspace):
        root = find_root(workspace)
        if not has_workspace(root):
            return find_images(Path(data), options)
        workspace = open_workspace(root)
    return find_images(Path(data), remembered_options(workspace, Path(data), options))


def queue_extraction(
    workspace: Workspace,
    source: Source,
    encoders: Sequence[ChosenEncoder],
    job_size: int,
    seed: int,
    keep_missing: bool = False,
    known: Columns | None = None,
) -> Queued:
    """Freezes the images, saves the encoders, and queues a job for every row that no job covers yet; one caller at a time.

    Args:
        encoders: each with what `save_encoder` takes, None for one that is saved already.
        known: see `add_images`.
    """
    with queue_lock(workspace), no_cycle_search():
        added, folders = _saved(workspace, source, encoders, seed, keep_missing, known)
        dataset = workspace.relative(added.manifest.folder)
        works = [
            Work(KIND, workspace.relative(folder), f"{dataset}/{part.name}", part.rows, job_size)
            for folder in folders
            for part in added.manifest.parts
        ]
        restored, fresh = append_work(workspace, works, known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return Queued(folders[0], added, tuple(restored), tuple(fresh))


def _saved(
    workspace: Workspace,
    source: Source,
    encoders: Sequence[ChosenEncoder],
    seed: int,
    keep_missing: bool,
    known: Columns | None,
) -> tuple[Added, list[Path]]:
    """The images frozen, and the folders of the encoders."""
    added = add_images(workspace, source, seed, keep_missing, lambda folder: rows_without_features(workspace, folder), known)
    folders = [
        workspace.features / spec.folder_name if weights is None else save_encoder(workspace, spec, weights)
        for spec, weights in encoders
    ]
    return added, folders


def encoders_of(workspace: Workspace, dataset: Path) -> list[EncoderSpec]:
    """The encoders that jobs of the data set in that folder are of, those that can be read, in the order of the queue."""
    prefix = f"{workspace.relative(dataset)}/"
    folders = dict.fromkeys(job.folder for job in Reader(workspace, known_kinds()) if job.source.startswith(prefix))
    specs = []
    for folder in folders:
        with contextlib.suppress(HeadstartError):  # a damaged one is said by `work`; it must not hold up the others
            specs.append(read_encoder(workspace.root / folder))
    return specs


def rows_without_features(workspace: Workspace, dataset: Path) -> frozenset[int]:
    """Rows that a finished job passed over because the image was away, changed or retired: no job will look at them again."""
    rows: set[int] = set()
    for marker in _markers(workspace, dataset):
        rows.update(item.item for item in marker.failed if item.code in _AWAY)
        rows.update(int(row) for row in marker.facts.get("retired", ()))
    return frozenset(rows)


def digests_by_work(workspace: Workspace, dataset: Path) -> dict[int, str]:
    """Digests that workers noted of rows that had none, by row."""
    notes = (marker.facts.get("digests", {}) for marker in _markers(workspace, dataset))
    return {int(row): digest for note in notes for row, digest in note.items()}


def _markers(workspace: Workspace, dataset: Path) -> Iterator[Marker]:
    prefix = f"{workspace.relative(dataset)}/"
    for folder in [path.parent for path in paths.matching(workspace.features, f"*/{SPEC_NAME}")]:
        with contextlib.suppress(HeadstartError):
            yield from (marker for marker in finished_markers(workspace, folder) if marker.job.source.startswith(prefix))


def _decodes_as_older_versions(old: EncoderSpec, new: EncoderSpec) -> bool:
    """Whether `old` is `new` but for what versions before did with more than 8 bits and transparency: a data set keeps to it."""
    now = replace(old.transform, whole_range=True, deep_colour=True)
    return old != new and replace(old, transform=now).fingerprint == new.fingerprint


def _digested(
    workspace: Workspace,
    source: Source,
    there: Path | None,
    known: Columns | None,
    digest: str,
    progress: Callable[[int, int], None],
) -> Digested:
    if there is not None and known is not None and not all(map(bool, known.digest)):
        noted = digests_by_work(workspace, there)
        known = replace(known, digest=Digests(digest or noted.get(row, "") for row, digest in enumerate(known.digest)))
    return digest_images(workspace, source, known, digest, progress)


def _read_as_before(
    workspace: Workspace,
    folder: Path,
    data: Path,
    source: Source,
    options: SourceOptions | None,
    report: Callable[[str], None],
) -> Source:
    """`source`, read again with what was said of the data set where it lay, if it is one that moved. Digests stay."""
    if not paths.exists(folder / DATASET_FILE):
        return source
    said = options or SourceOptions()
    with contextlib.suppress(HeadstartError):  # what no longer fits is not as before
        again = find_images(data, options_as_before(open_manifest(folder).dataset, said))
        if again.roles != source.roles:
            digest_of = {image.path: image.digest for image in source.images}
            images = (image._replace(digest=image.digest or digest_of.get(image.path, "")) for image in again.images)
            report("read as before it moved: " + ", ".join(f"{role} '{column}'" for role, column in again.roles))
            return replace(again, images=tuple(images))
    return source


def _left_words(digested: Digested) -> str:
    why = f": reading them now would take about {digested.left_s / 60:.0f} min (--digest now does it)" if digested.left_s else ""
    return (
        f"note: digests of {digested.left:,} images are left to work{why}. Until then an image is known by path, size and time: "
        "one that moves counts as new"
    )

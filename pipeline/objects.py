"""Payloads in an object store, such as S3; queue, claims and markers stay in the workspace.

An object is put on condition that nothing has its name, and the name holds a digest of its bytes: whoever does a job again puts
the same object, and whoever is killed before the marker leaves one that the next marker names. Only the place that the user
names is ever asked, never one that a workspace names. Needs an extra: pip install 'headstart[s3]' or 'headstart[gcs]'.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import paths
from .errors import ExplainedError, HeadstartError, TryLaterError
from .kinds import Fingerprints, known_kinds
from .markers import Marker, NotDone, read_marker
from .queue import Reader
from .text import printable, reason_of

if TYPE_CHECKING:
    from .workspace import Workspace

_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}  # by scheme: the package, and the extra that brings it
_URL = re.compile(r"(s3|gs)://([A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9])((?:/[A-Za-z0-9!_.*'()=+@-]+)*)/?")
_MISTAKES = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound", "InvalidRegionError")
_THREADS = 8  # objects on their way at once: each waits for an answer most of the time


class Objects:
    """A place in an object store.

    Attributes:
        url: as the user gave it, without a slash at its end.
    """

    def __init__(self, url: str, file_system: Any) -> None:
        """Args: file_system: of fsspec, whose `pipe_file` knows the mode 'create'."""
        self.url = url
        self._base = url.partition("://")[2]
        self._files = file_system

    def put(self, name: str, data: bytes) -> None:
        """Makes `data` the object `name`, whole or not at all; one that has the same bytes already stays.

        Raises: TryLaterError if the store does not answer; HeadstartError if it refuses.
        """
        path = f"{self._base}/{name}"
        with self._faults(f"cannot put {name} into {self.url}"):
            try:
                self._files.pipe_file(path, data, mode="create")
            except FileExistsError:
                # An earlier attempt's, or those bytes damaged: what is there is read, as of a file in the workspace.
                if self._files.cat_file(path) != data:
                    self._files.pipe_file(path, data)

    def get(self, name: str, most: int) -> bytes | None:
        """The first `most` bytes of an object, None if there is none. Raises: as `put`."""
        with self._faults(f"cannot get {name} from {self.url}"):
            try:
                return bytes(self._files.cat_file(f"{self._base}/{name}", start=0, end=most))
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        """Bytes of an object, None if there is none. Raises: as `put`."""
        with self._faults(f"cannot look for {name} in {self.url}"):
            self._files.invalidate_cache()
            try:
                return int(self._files.info(f"{self._base}/{name}")["size"])
            except FileNotFoundError:
                return None

    def require(self, workspace: Workspace, marker: Marker, deep: bool) -> None:
        """Compares what lies here alone with its marker. Args: deep: every byte, not only the size.

        Raises: NotDone if it is not as it was committed; as `put`.
        """
        if marker.is_in_objects and not paths.exists(marker.payload):
            name = workspace.relative(marker.payload)
            flaw = _flaw_of_size(self.size(name), marker, self.url)
            if flaw is None and deep:
                flaw = _flaw_of_bytes(self.get(name, marker.payload_bytes), marker, self.url)
            if flaw is not None:
                raise NotDone(flaw)

    @contextlib.contextmanager
    def _faults(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ExplainedError, FileExistsError):
            raise
        except FileNotFoundError as error:
            raise HeadstartError(f"{doing}: {reason_of(error)}. Make the bucket first, or correct its name") from error
        except PermissionError as error:
            raise HeadstartError(f"{doing}: {reason_of(error)}. Give these credentials access to it") from error
        except Exception as error:
            if type(error).__name__ in _MISTAKES:
                raise HeadstartError(f"{doing}: {reason_of(error)}") from error
            raise TryLaterError(
                f"{doing}: {type(error).__name__}: {reason_of(error)}. Then run the same command again"
            ) from error


def open_objects(url: str) -> Objects:
    """The place that `url` names: s3://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX]; nothing is asked of the store yet.

    Credentials and an endpoint are where the store's own tools look for them, such as AWS_PROFILE and AWS_ENDPOINT_URL.
    Raises: HeadstartError if it is no such URL, or the package for it is not installed.
    """
    parts = _URL.fullmatch(url)
    if parts is None or any(part in (".", "..") for part in url.split("/")):
        raise HeadstartError(f"'{printable(url[:200])}' names no object store; expected s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    package, extra = _PACKAGES[parts[1]]
    try:
        import fsspec

        files = fsspec.filesystem(parts[1], skip_instance_cache=True)
    except ImportError:
        raise HeadstartError(f"{parts[1]}:// needs {package}. Install it: pip install 'headstart[{extra}]'") from None
    return Objects(url.rstrip("/"), files)


@dataclass(frozen=True)
class Fetched:
    """What `fetch_payloads` brought.

    Attributes:
        files, size_bytes: that are in the workspace now and were not before.
        there: files that were in the workspace already.
        flaws: one line for each job whose object is missing or damaged.
    """

    files: int
    size_bytes: int
    there: int
    flaws: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if something is missing or damaged."""
        return 1 if self.flaws else 0


def fetch_payloads(workspace: Workspace, objects: Objects, report: Callable[[int, int], None] = lambda done, of: None) -> Fetched:
    """Brings every payload that lies in `objects` alone to its place in the workspace, where all readers look for it.

    Each is compared with its marker's digest before it gets its name. Killed anywhere, the same call goes on.

    Args:
        report: called with how many of how many are done.

    Raises: as `Objects.get`.
    """
    wanted, there = _not_here(workspace)
    files = size_bytes = 0
    flaws: list[str] = []

    def fetch(marker: Marker) -> str:
        name = workspace.relative(marker.payload)
        flaw = _flaw_of_size(objects.size(name), marker, objects.url)
        data = None if flaw else objects.get(name, marker.payload_bytes)
        flaw = flaw or _flaw_of_bytes(data, marker, objects.url)
        if flaw is not None or data is None:
            return flaw or ""
        workspace.make_folder(marker.payload.parent)
        workspace.files.publish(marker.payload, data)
        return ""

    with ThreadPoolExecutor(_THREADS, "fetch") as pool:
        try:
            for number, (marker, flaw) in enumerate(zip(wanted, pool.map(fetch, wanted), strict=True), 1):
                if flaw:
                    flaws.append(flaw)
                else:
                    files, size_bytes = files + 1, size_bytes + marker.payload_bytes
                report(number, len(wanted))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return Fetched(files, size_bytes, there, tuple(flaws))


def _not_here(workspace: Workspace) -> tuple[list[Marker], int]:
    """Markers whose payload lies in an object store and not in the workspace, and how many lie in both."""
    fingerprints = Fingerprints(workspace)
    away, there = [], 0
    for job in Reader(workspace, known_kinds()):
        try:
            marker = read_marker(workspace, job, fingerprints.of(job))
        except NotDone:
            continue
        if not marker.is_in_objects:
            continue
        if paths.exists(marker.payload):
            there += 1
        else:
            away.append(marker)
    return away, there


def _flaw_of_size(size: int | None, marker: Marker, url: str) -> str | None:
    if size is None:
        return f"{marker.payload.name} is missing in {url}"
    if size != marker.payload_bytes:
        return f"{marker.payload.name} has {size} bytes in {url}, expected {marker.payload_bytes}"
    return None


def _flaw_of_bytes(data: bytes | None, marker: Marker, url: str) -> str | None:
    if data is None or hashlib.sha256(data).hexdigest() != marker.sha256:
        return f"{marker.payload.name} has other bytes in {url} than were committed (sha256 differs)"
    return None

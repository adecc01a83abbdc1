"""Campaign 6: the rules of the engine, each taken away once. A rule that no campaign misses is untested, or not needed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A rule, and how to break it: in `file` the text `old`, which stands there once, becomes `new`."""

    rule: str
    file: str
    old: str
    new: str


MUTANTS = (
    # First, because it takes longest: campaigns hang.
    Mutant(
        "the claim of the dead holds nobody up",
        "pipeline/claims.py",
        "        alive = is_alive(owner) if owner is not None else None\n        return self._is_within_lease",
        "        alive = None\n        return self._is_within_lease",
    ),
    Mutant(
        "a file's bytes are synced before it gets its name",
        "pipeline/files.py",
        "                    if self.fsync:\n                        os.fsync(file.fileno())\n                yield temporary",
        "                yield temporary",
    ),
    Mutant(
        "a published name is synced",
        "pipeline/files.py",
        "            self.sync_folder(path.parent)\n            return published",
        "            return published",
    ),
    Mutant(
        "a replaced name is synced",
        "pipeline/files.py",
        "            paths.rename(temporary, path)\n            self.sync_folder(path.parent)",
        "            paths.rename(temporary, path)",
    ),
    Mutant(
        "a folder's name is synced before files are published in it",
        "pipeline/files.py",
        "                paths.make_folder(path)\n            self.sync_folder(path.parent)",
        "                paths.make_folder(path)",
    ),
    Mutant(
        "so are the names of folders that were there",
        "pipeline/workspace.py",
        "self.files.make_folder(folder, below=self.root)",
        "self.files.make_folder(folder)",
    ),
    Mutant(
        "the workspace's own name is synced",
        "pipeline/workspace.py",
        "                files.sync_folder(folder.parent)",
        "                pass",
    ),
    Mutant(
        "rows added to the queue are synced",
        "pipeline/enqueue.py",
        "            if workspace.files.fsync:\n                os.fsync(file.fileno())\n",
        "",
    ),
    Mutant(
        "so is the queue's name, whoever made it",
        "pipeline/enqueue.py",
        "            workspace.files.sync_folder(workspace.queue.parent)\n",
        "            pass\n",
    ),
    Mutant(
        "a retired marker's new name is synced",
        "pipeline/retry.py",
        "        workspace.files.sync_folder(marker.parent)",
        "        pass",
    ),
    Mutant(
        "a file is written elsewhere and linked into place",
        "pipeline/files.py",
        "        with self._written_beside(path, [data]) as temporary:\n            published = self._appear(temporary, path)",
        "        if not (published := not path.exists()) or path.write_bytes(data):",
    ),
    Mutant(
        "a replaced file is written elsewhere and renamed",
        "pipeline/files.py",
        "as temporary:\n            paths.rename(temporary, path)\n",
        'as temporary:\n            path.unlink(missing_ok=True)\n            path.write_bytes(b"".join(pieces))\n',
    ),
    Mutant(
        "what is published is never overwritten",
        "pipeline/files.py",
        "                hard_link(temporary, path)\n",
        "                os.replace(temporary, path)\n",
    ),
    Mutant(
        "temporaries are removed",
        "pipeline/files.py",
        "                with contextlib.suppress(OSError):\n                    paths.remove(temporary)",
        "                pass",
    ),
    Mutant(
        "the payload is committed before its marker",
        "pipeline/markers.py",
        "    if objects is None:\n        _publish_payload(",
        "    files.publish(marker, _marker_bytes(job, fingerprint, payload.name, sha256, result, False))\n"
        "    if objects is None:\n        _publish_payload(",
    ),
    Mutant(
        "an existing payload is digested before it is trusted",
        "pipeline/markers.py",
        "        if not _is_file_of(path, sha256):\n",
        "        if False:\n",
    ),
    Mutant(
        "an existing marker is verified before it is left alone",
        "pipeline/markers.py",
        "            if flaw.is_absent:\n                continue  # it went away between the two looks\n",
        "            return not flaw.is_absent\n",
    ),
    Mutant(
        "a payload must have the size its marker says",
        "pipeline/markers.py",
        "            if size != marker.payload_bytes:\n",
        "            if False:\n",
    ),
    Mutant(
        "`verify --deep` compares digests",
        "pipeline/markers.py",
        "            if deep and digest_of(marker.payload, reading.PAYLOAD_BYTES) != marker.sha256:\n",
        "            if False:\n",
    ),
    Mutant(
        "a marker that does not parse means not done",
        "pipeline/markers.py",
        "    except records.DamagedError as error:\n",
        "    except RecursionError as error:\n",
    ),
    Mutant(
        "a marker counts for its own job alone",
        "pipeline/markers.py",
        "    if marker.job != job:\n",
        "    if False:\n",
    ),
    Mutant(
        "a marker counts for its own fingerprint alone",
        "pipeline/markers.py",
        "    if marker.fingerprint != fingerprint:\n",
        "    if False:\n",
    ),
    Mutant(
        "a payload's name carries its digest",
        "pipeline/workspace.py",
        'f"{job.job_id}.{sha256[:16]}{suffix}"',
        'f"{job.job_id}.0{suffix}"',
    ),
    Mutant(
        "who says that nothing is left has verified each marker",
        "pipeline/next_job.py",
        "            return Pass.MARKED\n",
        "            return None\n",
    ),
    Mutant(
        "what was passed over is looked at, too",
        "pipeline/next_job.py",
        "            passed_over: list[Span] = [] if wanted is Pass.MARKED else finished\n",
        "            passed_over = finished\n",
    ),
    Mutant(
        "a job that was passed over and is not done is handed out",
        "pipeline/next_job.py",
        "elif wanted is Pass.MARKED and finished:",
        "elif False:",
    ),
    Mutant(
        "a job that was finished since the look is not done again",
        "pipeline/next_job.py",
        "            elif self._is_done(job):  # finished between the look and the claim\n",
        "            elif False:\n",
    ),
    Mutant(
        "a claim can be made once",
        "pipeline/claims.py",
        "                    hard_link(self._file, path, None if folder is None else (self._workers, folder))\n",
        "                    with contextlib.suppress(FileExistsError):\n"
        "                        hard_link(self._file, path, None if folder is None else (self._workers, folder))\n",
    ),
    Mutant(
        "what dead writers left is swept",
        "pipeline/verify.py",
        "        if _is_old(path) if abandoned is None else abandoned:\n",
        "        if False:\n",
    ),
    Mutant(
        "claims of the dead on finished jobs are swept",
        "pipeline/verify.py",
        "            if is_claim(path.name) and ",
        "            if False and ",
    ),
    Mutant(
        "a job that somebody alive holds is left to them",
        "pipeline/claims.py",
        "and self.is_held(job, history.generation):\n",
        "and False:\n",
    ),
    Mutant(
        "a job is claimed until its marker is durable",
        "pipeline/worker.py",
        "        is_mine = commit(",
        "        self.claimant.release(hand.claim)\n        is_mine = commit(",
    ),
    Mutant(
        "a half-written row of the queue is cut off",
        "pipeline/enqueue.py",
        "        complete = _complete_bytes(file, workspace.queue)\n",
        "        complete = file.seek(0, os.SEEK_END)\n",
    ),
    Mutant(
        "what the disk does wrong is not the job's fault",
        "pipeline/errors.py",
        '"ENOSPC", "EDQUOT", "EIO", "EROFS", "ESTALE"',
        '"EROFS"',
    ),
)

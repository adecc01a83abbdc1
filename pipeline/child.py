"""A Python process for work that may crash, hang or eat all memory: asked line by line, watched, ended if it must be."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from .doors import python
from .text import rough_size_words

WINDOWS_CRASH = 0xC0000000  # from here on Windows's exit statuses are errors of its own, such as a wrong address
_TICK_S = 0.02


class ChildEnded(Exception):
    """The child ended or had to be ended in the middle of a request; the text says how, for a person."""


class Child:
    """`python -m MODULE PARENT_PID`, which answers each line of JSON on its input with one on its output. A context manager.

    Args:
        is_quiet: nobody sees what it prints on its way out; how it ended says all.
    """

    def __init__(self, module: str, is_quiet: bool = False) -> None:
        self._process = python.start(
            python.module_command(module, str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if is_quiet else None,
            start_new_session=True,  # ^C at a terminal is for the parent, which decides when the child has to go
        )
        self._answers: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends it, whatever it does. Calling it again does nothing."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]

    def ask(
        self, request: Mapping[str, Any], seconds: float, memory_bytes: int | None, check: Callable[[], None], body: bytes = b""
    ) -> tuple[dict[str, Any], bytes]:
        """The answer to `request`: one object, and the bytes that follow it.

        Args:
            seconds, memory_bytes, check: see `answer`.
            body: bytes that the child reads after the request's line.

        Raises: ChildEnded.
        """
        self.send(request, body)
        return self.answer(seconds, memory_bytes, check)

    def send(self, request: Mapping[str, Any], body: bytes = b"") -> None:
        """Begins a request, whose `answer` is taken later."""
        with contextlib.suppress(OSError, ValueError):  # it is dead, or was closed meanwhile: seen where it should answer
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + body)
            self._process.stdin.flush()

    def has_answered(self) -> bool:
        """Whether `answer` would not wait: it has said something, or ended."""
        return not self._answers.empty()

    def answer(self, seconds: float, memory_bytes: int | None, check: Callable[[], None]) -> tuple[dict[str, Any], bytes]:
        """What it says to the request that was sent last.

        Args:
            seconds: without a sign of life, not counting time in which the child was stopped or waited for a disk.
            memory_bytes: resident; None for no limit.
            check: called often; what it raises is raised here.

        Raises: ChildEnded.
        """
        silent_s = 0.0
        while True:
            check()
            try:
                answer = self._answers.get(timeout=_TICK_S)
            except queue.Empty:
                # Ticks are counted and no clock is read: while this process was stopped, the child may have been, too.
                silent_s += 0 if self._is_excused() else _TICK_S
                if silent_s > seconds:
                    raise ChildEnded(f"did not end within {seconds:g} s") from None
                self._require_memory(memory_bytes)
                continue
            if answer is None:
                raise ChildEnded(how_it_ended(self._process.wait()))
            if answer[0].get("alive"):
                silent_s = 0.0
                continue
            return answer

    def _listen(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(ValueError):
            for line in stream:
                head: dict[str, Any] = json.loads(line)
                length = int(head.get("bytes", 0))
                body = stream.read(length)
                if len(body) < length:
                    break
                self._answers.put((head, body))
        self._answers.put(None)

    def _is_excused(self) -> bool:
        import psutil

        with contextlib.suppress(psutil.Error):
            return psutil.Process(self._process.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)
        return False

    def _require_memory(self, limit: int | None) -> None:
        import psutil

        with contextlib.suppress(psutil.Error):
            if limit is not None and psutil.Process(self._process.pid).memory_info().rss > limit:
                raise ChildEnded(f"took more than {rough_size_words(limit, 'GB')} of memory")


def how_it_ended(status: int) -> str:
    """A negative exit status is a signal's number, as `subprocess` has it."""
    if status >= WINDOWS_CRASH:
        return f"ended its process with exit status {status:#x}"
    if status >= 0:
        return f"ended its process with exit status {status}"
    try:
        return f"ended its process with {signal.Signals(-status).name}"
    except ValueError:
        return f"ended its process with signal {-status}"


def open_answers() -> Callable[..., None]:
    """In a child: a function that answers with one object and the bytes that follow it."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not stand between the answers

    def answer(head: Mapping[str, Any], body: bytes = b"") -> None:
        stream.write(json.dumps({**head, "bytes": len(body)}).encode() + b"\n" + body)
        stream.flush()

    return answer


def follow_parent(parent: int, is_expendable: bool) -> None:
    """Called first in a child: it dies when its parent does, however that happens.

    Args:
        is_expendable: when memory is full, the kernel ends this process before any other.
    """
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if is_expendable:
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")
    if sys.platform == "win32":  # which tells nobody of a parent's end, and writes no core files
        threading.Thread(target=end_after, args=(parent,), name="parent", daemon=True).start()
        return
    import resource

    # It may crash over what a stranger wrote; a core file of that would lie wherever the user happens to stand.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != parent:
        os._exit(1)


def end_after(parent: int) -> None:
    """Waits for the end of another process, then ends this one at once."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)

"""Watches what decodes pictures: other people's code, which may take hours over one, or all memory."""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .decode import ImageError
from .transform import Transform

if TYPE_CHECKING:
    from headstart.pipeline.child import Child

PICTURE_S = 30.0
PICTURE_S_NAME = "HEADSTART_PICTURE_S"
PICTURE_BYTES = 4 * 2**30  # the largest that is decoded takes 1.5 GB
TICK_S = 0.1
_START_S = 60.0  # a Python of its own, on a machine that is busy
MOST_LEFT = 4  # each may hold the memory of the largest picture
_COMPUTING = 0.1  # with ten processes a core, a decoder still gets as much
_LEFT = "decoder that was left behind"

_T = TypeVar("_T")
_Pixels = NDArray[np.uint8]


def picture_seconds() -> float:
    """How long one picture may be decoded, or encoded: $HEADSTART_PICTURE_S, else PICTURE_S.

    Raises: HeadstartError if that is no time.
    """
    given = os.environ.get(PICTURE_S_NAME, "").strip()
    try:
        seconds = float(given) if given else PICTURE_S
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise HeadstartError(f"{PICTURE_S_NAME} is {given[:40]!r}, expected seconds above 0, such as {PICTURE_S:g}")
    return seconds


class Effort:
    """What the thread that makes this spends on one picture from now on."""

    def __init__(self) -> None:
        find = getattr(time, "pthread_getcpuclockid", None)
        self._clock: int | None = find(threading.get_ident()) if find is not None else None
        self._began_at = time.monotonic()
        self._computed_s: float | None = None  # what the thread had computed when it was first looked at

    def is_beyond(self, seconds: float) -> bool:
        """Whether it goes on for longer than that; asked from any thread, again and again.

        Since it was first asked it must have computed a part of that time: a picture is not blamed for a machine that is busy,
        was stopped or waits for a disk.
        """
        try:
            # Not where the picture begins: the system call, made while the interpreter is held, costs the other decoders more.
            if self._computed_s is None:
                self._computed_s = self._processor_s()
            if time.monotonic() - self._began_at <= seconds:
                return False
            return self._clock is None or self._processor_s() - self._computed_s > _COMPUTING * seconds
        except OSError:
            return False  # the thread has ended

    def _processor_s(self) -> float:
        if sys.platform == "win32":  # which has no clock of a thread that another one could read
            return 0.0
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)


class Decoders(Executor):
    """Threads that nobody waits for at the end: one in which a decoder hangs is left behind, and another takes its place.

    Attributes:
        left_behind: threads that never came back.
    """

    def __init__(self, threads: int, most_left: int | None = None) -> None:
        """Args: most_left: threads that may be left behind, each with what it holds; None where children decode from then on."""
        self.threads = threads
        self._most_left = most_left
        self.left_behind = 0
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: set[Future[Any]] = set()
        for _ in range(threads):
            self._start()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """As of any executor."""
        future: Future[_T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                outcome = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(outcome)

        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        self._calls.put(call)
        return future

    def leave_behind(self) -> None:
        """A call will not come back: whoever waits goes on without it. Raises: HeadstartError if there are too many such."""
        self.left_behind += 1
        _require_few_left(self.left_behind, self._most_left)
        self._start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Never waits: what runs is of no use to anybody any more."""
        if cancel_futures:
            for future in list(self._waiting):
                future.cancel()
        for _ in range(self.threads + self.left_behind):
            self._calls.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="decode", daemon=True).start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class WatchedDecode:
    """Pixels of pictures, for the threads of `decoders`: a picture that takes too long or too much memory costs its own row.

    The first ones are decoded in this process, which costs nothing. Once a thread had to be left behind, and is still at its
    picture, all others are decoded in child processes, which can be ended.

    Args:
        decode: from bytes to pixels.
        transform: what children decode by; None if they cannot do what `decode` does.
    """

    def __init__(self, decode: Callable[[bytes], _Pixels], transform: Transform | None, decoders: Decoders) -> None:
        self._decode = decode
        self._transform = transform
        self._decoders = decoders
        self._seconds = picture_seconds()
        self._own = threading.local()
        self._children: list[Child] = []
        self._is_closed = False

    def __call__(self, data: bytes) -> _Pixels:
        if self._transform is None or not self._decoders.left_behind:
            return self._decode(data)
        return self._in_child(data, self._transform)

    def close(self) -> None:
        self._is_closed = True
        for child in self._children:
            child.close()

    def _in_child(self, data: bytes, transform: Transform) -> _Pixels:
        from headstart.pipeline.child import Child, ChildEnded  # here: all the others need no process of their own

        # What was left behind takes its share of the processor.
        seconds = self._seconds * (1 + self._decoders.left_behind)
        try:
            if getattr(self._own, "child", None) is None:
                self._own.child = Child("headstart.features.images.decode_child")
                self._children.append(self._own.child)
                self._own.child.ask({"transform": transform.facts()}, _START_S, None, self._check)
            head, body = self._own.child.ask({"bytes": len(data)}, seconds, PICTURE_BYTES, self._check, data)
        except ChildEnded as end:
            self._own.child.close()
            self._own.child = None
            raise ImageError("killed", f"decoding it {end}") from None
        if "code" in head:
            raise ImageError(head["code"], head["reason"])
        return np.frombuffer(body, np.uint8).reshape(head["shape"])

    def _check(self) -> None:
        from headstart.pipeline.child import ChildEnded

        if self._is_closed:
            raise ChildEnded("was not waited for")


def too_long(seconds: float) -> ImageError:
    """What a row says whose picture was given up."""
    return ImageError("killed", f"decoding it took more than {seconds:g} s; {PICTURE_S_NAME} gives pictures more")


def read_within(read: Callable[[], _T]) -> _T:
    """What `read` makes of one picture, in a thread that is not waited for longer than a picture may take.

    Raises: what `read` raises; ImageError if it takes too long; HeadstartError if several did and are still at it.
    """
    seconds = picture_seconds()
    future: Future[_T] = Future()
    effort: list[Effort] = []

    def call() -> None:
        effort.append(Effort())
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while not _is_over(future):
        if effort and effort[0].is_beyond(seconds):
            thread.name = _LEFT
            _require_few_left(sum(other.name == _LEFT for other in threading.enumerate()), MOST_LEFT)
            raise too_long(seconds)
    return future.result()


def _require_few_left(left: int, most: int | None) -> None:
    if most is not None and left >= most:
        raise HeadstartError(f"{most} pictures took more than {picture_seconds():g} s each and go on. Leave them out")


def _is_over(future: Future[Any]) -> bool:
    try:
        future.exception(timeout=TICK_S)
    except TimeoutError:
        return False
    return True

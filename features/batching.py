"""Batches through an encoder, several threads at once where it likes that, and smaller ones when memory runs out.

It serves every device: an image's features do not depend on its batch, so a smaller one changes nothing but the time.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .opening import Encoder
from .reasons import reason_of

# How ONNX Runtime words it; it has no kind of error for this.
_WORDS = ("Failed to allocate memory", "bad_alloc", "bad allocation", "Available memory of", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help against `error`."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for the question
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


class Batching:
    """An encoder, and the batch that fits it; a batch that was too large stays halved for all later images.

    Attributes:
        batch: images a call of `encode`.
        lanes: threads that call it at once.
    """

    def __init__(self, encoder: Encoder, batch: int, lanes: int | None = None) -> None:
        self.encoder = encoder
        self.batch = batch
        self.lanes = lanes or encoder.lanes
        self._pool = ThreadPoolExecutor(self.lanes, "encode")
        self._quiet = threading.Condition()
        self._running = 0

    def encode(
        self, images: NDArray[np.uint8], positions: Iterator[int], check: Callable[[], None]
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Features of `images[i]` for every i of `positions`, which may wait for its images.

        Args:
            images: (n, h, w, 3) uint8.
            check: called between batches, from several threads; what it raises ends the work and is raised here.

        Returns: (m, embed_dim) float32, and the m positions, in order.
        Raises: HeadstartError if not even one image fits.
        """
        work = _Work(positions, np.empty((len(images), self.encoder.spec.embed_dim), np.float32))

        def lane(number: int) -> None:
            try:
                while number < self.lanes and (chunk := work.take(self.batch)):
                    check()
                    work.features[chunk] = self._run(images, chunk)
            except BaseException:
                work.stop()
                raise

        others: list[Future[None]] = [self._pool.submit(lane, number) for number in range(1, self.lanes)]
        try:
            lane(0)
        finally:
            errors = [other.exception() for other in others]  # all threads are done with the arrays before anything is raised
        for error in filter(None, errors):
            raise error
        kept = sorted(work.taken)
        return work.features[kept], kept

    def close(self) -> None:
        self._pool.shutdown()
        self.encoder.close()

    def _run(self, images: NDArray[np.uint8], chunk: list[int]) -> NDArray[np.float32]:
        is_contiguous = chunk[-1] - chunk[0] == len(chunk) - 1
        pixels = images[chunk[0] : chunk[-1] + 1] if is_contiguous else images[chunk]
        with self._quiet:
            self._running += 1
        try:
            return self.encoder.encode(pixels)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = reason_of(error)
        finally:
            with self._quiet:
                self._running -= 1
                self._quiet.notify_all()
        # Outside of the except clause: until it ends, the error holds the frames and these hold the memory.
        if len(chunk) == 1:
            return self._run_alone(pixels, reason)
        half = (len(chunk) + 1) // 2
        self.batch = min(self.batch, half)
        return np.concatenate([self._run(images, chunk[:half]), self._run(images, chunk[half:])])

    def _run_alone(self, pixels: NDArray[np.uint8], reason: str) -> NDArray[np.float32]:
        """One image again, once no other thread holds memory; from now on one thread is all there is."""
        self.lanes = 1
        with self._quiet:
            while self._running:
                self._quiet.wait()
            try:
                return self.encoder.encode(pixels)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
        spec = self.encoder.spec
        raise HeadstartError(
            f"{spec.model} does not fit into the memory of {self.encoder.device}, not even with one image at a time ({reason}). "
            "Close other programs, or choose a smaller --encoder or --image-size"
        )


class _Work:
    """What the lanes of one job share."""

    def __init__(self, positions: Iterator[int], features: NDArray[np.float32]) -> None:
        self.features = features
        self.taken: list[int] = []
        self._positions = positions
        self._lock = threading.Lock()

    def take(self, most: int) -> list[int]:
        with self._lock:  # also while waiting for a decoder: whoever else asks would have to wait for a later image
            chunk = list(itertools.islice(self._positions, most))
            self.taken += chunk
            return chunk

    def stop(self) -> None:
        with self._lock:
            self._positions = iter(())

"""Batches through an encoder, several threads at once where it likes that, and smaller ones when memory runs out.

It serves every device: an image's features do not depend on its batch, so a smaller one changes nothing but the time.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import is_out_of_memory
from headstart.features.encoders.runtime import Encoder
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import reason_of


class Batching:
    """An encoder, and the batch that fits it; a batch that was too large stays halved for all later images.

    Attributes:
        batch: images a call of `encode`.
        threads: threads that call it at once.
    """

    def __init__(self, encoder: Encoder, batch: int, threads: int | None = None) -> None:
        self.encoder = encoder
        self.batch = batch
        self.threads = threads or encoder.threads
        self._pool = ThreadPoolExecutor(self.threads, "encode")
        self._quiet = threading.Condition()
        self._running = 0

    def encode(
        self, images: NDArray[np.uint8], positions: Iterator[int], check: Callable[[], None]
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Features of `images[i]` for every i of `positions`, which may wait for its images.

        Args:
            images: (n, h, w, 3) uint8.
            check: called between batches, from several threads; what it raises ends the work and is raised here.

        Returns: (m, spec.row_length) float32, and the m positions, in order.
        Raises: HeadstartError if not even one image fits.
        """
        shared = _Shared(positions, np.empty((len(images), self.encoder.spec.row_length), np.float32))

        def run(number: int) -> None:
            try:
                while number < self.threads and (chunk := shared.take(self.batch)):
                    check()
                    shared.features[chunk] = self._run(images, chunk)
            except BaseException:
                shared.stop()
                raise

        others: list[Future[None]] = [self._pool.submit(run, number) for number in range(1, self.threads)]
        try:
            run(0)
        finally:
            errors = [other.exception() for other in others]  # all threads are done with the arrays before anything is raised
        for error in filter(None, errors):
            raise error
        kept = sorted(shared.taken)
        return shared.features[kept], kept

    def close(self) -> None:
        self._pool.shutdown()
        self.encoder.close()

    def _run(self, images: NDArray[np.uint8], chunk: list[int]) -> NDArray[np.float32]:
        done: list[NDArray[np.float32]] = []
        while chunk:
            part = chunk[: self.batch]
            is_contiguous = part[-1] - part[0] == len(part) - 1
            pixels = images[part[0] : part[-1] + 1] if is_contiguous else images[part]
            features, reason = self._try(pixels)
            if features is None and len(part) > 1:
                self.batch = min(self.batch, len(part) // 2)
                continue
            done.append(self._run_alone(pixels, reason) if features is None else features)
            chunk = chunk[len(part) :]
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _try(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32] | None, str]:
        """Features, or None and why memory ran out. The error itself is gone then, and with it the frames that hold memory."""
        with self._quiet:
            self._running += 1
        try:
            return self.encoder.encode(pixels), ""
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None, reason_of(error)
        finally:
            with self._quiet:
                self._running -= 1
                self._quiet.notify_all()

    def _run_alone(self, pixels: NDArray[np.uint8], reason: str) -> NDArray[np.float32]:
        """One image again, once no other thread holds memory; from now on one thread is all there is."""
        self.threads = 1
        with self._quiet:  # held until it is done, so no other thread begins
            while self._running:
                self._quiet.wait()
            features, _ = self._try(pixels)
        if features is not None:
            return features
        spec = self.encoder.spec
        raise HeadstartError(
            f"{spec.model} does not fit into the memory of {self.encoder.device}, not even with one image at a time ({reason}). "
            "Close other programs, or choose a smaller --encoder or --image-size"
        )


class _Shared:
    """What the threads of one `encode` share."""

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

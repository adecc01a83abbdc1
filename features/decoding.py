"""Images of one job while they are being decoded: pixels appear row by row in one array, and the encoder waits for the rows."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

import numpy as np
from numpy.typing import NDArray

from .images import ImageError
from .parts import Row


class Decoding:
    """Rows on their way to pixels. Making one starts the work in `pool` and returns at once.

    Attributes:
        rows: as given.
        images: (n, h, w, 3) uint8; row i holds the pixels of `rows[i]` once `good` has named i.
        errors: by position in `rows`, why an image has no pixels; complete once `good` has ended.
    """

    def __init__(
        self, rows: Sequence[Row], size: tuple[int, int], read: Callable[[Row], NDArray[np.uint8]], pool: Executor
    ) -> None:
        self.rows = rows
        self.images = np.empty((len(rows), *size, 3), np.uint8)
        self.errors: dict[int, ImageError] = {}
        self._read = read
        self._outcomes: list[Future[ImageError | None]] = [pool.submit(self._fill, i) for i in range(len(rows))]

    def good(self) -> Iterator[int]:
        """Positions of the images that decoded, in order, each as soon as it is there.

        Raises: what `read` raised, ImageError apart.
        """
        for i, outcome in enumerate(self._outcomes):
            error = outcome.result()
            if error is None:
                yield i
            else:
                self.errors[i] = error

    def _fill(self, i: int) -> ImageError | None:
        try:
            self.images[i] = self._read(self.rows[i])
        except ImageError as error:
            return error
        return None

"""One field out of overlapping windows, without seams: strip by strip, so that memory is that of one row of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .windows import window_starts


def ramp(window: int, overlap: int) -> NDArray[np.int64]:
    """(window,) whole numbers that rise over the overlap, stay, and fall: two that overlap by so much add up to overlap + 1."""
    places = np.arange(window)
    return np.minimum(np.minimum(places + 1, window - places), overlap + 1)


def stitch(
    size: tuple[int, int],
    window: tuple[int, int],
    overlap: int,
    predict: Callable[[int, int], NDArray[np.floating]],
    begin: int = 0,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The field of a whole image in strips from top to bottom: row of its first line, and (k, rows, width) float64.

    Windows count by separable ramps of whole numbers and are divided by what these add up to, so the weights of a place are an
    exact partition of unity: a predictor that is constant or linear in the place is reproduced to the bit (as long as its values
    times the weights fit float64), and what one window alone sees is what it said.

    Args:
        size, window: (height, width); a window larger than the field is cut to it.
        predict: (k, *window) of the window that begins at row and column; called once each, row by row of windows.
        begin: how many strips to leave out; the others are the same to the bit, and only windows that reach them are predicted.

    Holds k * window height * width numbers. Raises: HeadstartError as `window_starts`.
    """
    height, width = size
    tall, wide = min(window[0], height), min(window[1], width)
    tops, lefts = window_starts(height, tall, min(overlap, tall - 1)), window_starts(width, wide, min(overlap, wide - 1))
    down, across = ramp(tall, overlap), ramp(wide, overlap)
    total_across = np.zeros(width, np.int64)
    for left in lefts:
        total_across[left : left + wide] += across
    if begin >= len(tops):
        return
    reaching = next(number for number, top in enumerate(tops) if top + tall > tops[begin])
    sums: NDArray[np.float64] | None = None
    total_down = np.zeros(tall, np.int64)
    weights = (down[:, None] * across[None]).astype(np.float64)
    for number, top in enumerate(tops[reaching:], reaching):
        for left in lefts:
            said = np.asarray(predict(top, left), np.float64)[:, :tall, :wide]
            if sums is None:
                sums = np.zeros((len(said), tall, width))
            sums[:, :, left : left + wide] += said * weights
        assert sums is not None
        total_down += down
        done = (tops[number + 1] if number + 1 < len(tops) else height) - top  # no later window reaches these rows
        if number >= begin:
            yield top, sums[:, :done] / (total_down[:done, None] * total_across[None])
        sums[:, : tall - done], total_down[: tall - done] = sums[:, done:].copy(), total_down[done:].copy()
        sums[:, tall - done :], total_down[tall - done :] = 0.0, 0

"""Everything about a step that is a pure function of its number: learning rate, order of rows, keys of random streams.

Nothing here has state, so a run that was killed needs none of it back.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4
_BLOCK = 256  # rows that lie together on disk when rows are shuffled by blocks
_WINDOW = 64  # blocks whose rows are mixed


def learning_rate_factor(step: int, steps: int, warmup_steps: int, schedule: str = "cosine") -> float:
    """What the base learning rate is multiplied with at `step` (from 0): a linear rise, then a way down.

    Args:
        schedule: cosine or linear, down to 0; step, to a tenth after each third; anything else stays at 1.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    return 0.1 ** min(2, int(3 * done)) if schedule == "step" else 1.0


def stream_key(*facts: int | str) -> int:
    """A seed of 63 bits for the random stream of these facts; other facts give an unrelated stream."""
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def row_order(count: int, start: int, stop: int, seed: int, epoch: int, by_blocks: bool = False) -> NDArray[np.int64]:
    """Places `start` to `stop` of the epoch's shuffle of range(count), without computing the others.

    Args:
        by_blocks: shuffle blocks of 256 neighbours and mix the rows of 64 blocks, so that a disk reads in long pieces.
    """
    places = np.arange(start, stop, dtype=np.uint64)
    whole = count // _BLOCK
    if not by_blocks or whole < 2:
        return permuted(places, count, stream_key(seed, epoch, "rows")).astype(np.int64)
    # Rows beyond the last whole block are other ones in each epoch, because counting starts somewhere else.
    turn = stream_key(seed, epoch, "turn") % count
    result = np.empty(len(places), np.int64)
    inside = places < whole * _BLOCK
    result[inside] = _by_blocks(places[inside], whole, seed, epoch)
    tail = count - whole * _BLOCK
    if tail:
        rest = places[~inside] - np.uint64(whole * _BLOCK)
        result[~inside] = whole * _BLOCK + permuted(rest, tail, stream_key(seed, epoch, "tail")).astype(np.int64)
    return (result + turn) % count


def _by_blocks(places: NDArray[np.uint64], blocks: int, seed: int, epoch: int) -> NDArray[np.int64]:
    window_rows = _WINDOW * _BLOCK
    result = np.empty(len(places), np.int64)
    numbers = (places // np.uint64(window_rows)).astype(np.int64)
    for number in np.flatnonzero(np.bincount(numbers)):
        mine = numbers == number
        first_block = int(number) * _WINDOW
        rows = min(_WINDOW, blocks - first_block) * _BLOCK
        mixed = permuted(places[mine] - np.uint64(first_block * _BLOCK), rows, stream_key(seed, epoch, "window", int(number)))
        block = permuted(np.uint64(first_block) + mixed // np.uint64(_BLOCK), blocks, stream_key(seed, epoch, "blocks"))
        result[mine] = (block * np.uint64(_BLOCK) + mixed % np.uint64(_BLOCK)).astype(np.int64)
    return result


def permuted(places: NDArray[np.uint64], count: int, key: int) -> NDArray[np.uint64]:
    """The images of `places` under a keyed permutation of range(count): a Feistel network that walks back into the range.

    Black & Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002.
    """
    bits = max(2, (count - 1).bit_length())
    values = _feistel(places, bits, key)
    while (outside := np.flatnonzero(values >= count)).size:
        values[outside] = _feistel(values[outside], bits, key)
    return values


def _feistel(values: NDArray[np.uint64], bits: int, key: int) -> NDArray[np.uint64]:
    low, high = bits - bits // 2, bits // 2
    for number in range(_ROUNDS):
        mask = np.uint64((1 << high) - 1)
        right = values & np.uint64((1 << low) - 1)
        left = values >> np.uint64(low)
        mixed = left ^ (_scrambled(right + np.uint64(stream_key(key, number))) & mask)
        values = (right << np.uint64(high)) | mixed
        low, high = high, low  # the halves have changed places, and with odd `bits` their widths
    return values


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finalizer of splitmix64 (Steele, Lea & Flood, OOPSLA 2014); uint64 arrays wrap around silently.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

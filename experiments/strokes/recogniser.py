"""The network that reads: recurrent layers over the points of a line in both directions, and the text that they spell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .data_set import Alphabet, LineSet
from .line import PenLine

BLANK = 0  # between two characters, and what fills up shorter texts
_POINTS_A_FRAME = 2  # half as many steps for the layers; five frames a character leave room for a blank between equal ones
_SEEN_AT_ONCE = 7  # points around a frame, about a stroke of a letter
_AT_ONCE = 32


class RecogniserNetwork(nn.Module):
    """Numbers of a line do not depend on the lines beside it: the backward direction begins at its own end.

    Without the two normalizations it says for thousands of steps how often each character occurs, before it begins to read.
    """

    def __init__(self, width: int, layers: int, symbols: int, drop: float = 0.0) -> None:
        """Args: symbols: different characters, without the blank."""
        super().__init__()
        self.to_frames = nn.Conv1d(3, width // 2, _SEEN_AT_ONCE, stride=_POINTS_A_FRAME, padding=_SEEN_AT_ONCE // 2)
        self.frame_norm = nn.LayerNorm(width // 2)
        self.layers = nn.LSTM(
            width // 2, width, layers, batch_first=True, bidirectional=True, dropout=drop if layers > 1 else 0.0
        )
        self.norm = nn.LayerNorm(2 * width)
        self.drop = nn.Dropout(drop)
        self.to_symbols = nn.Linear(2 * width, symbols + 1)

    def forward(self, steps: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (b, f, symbols + 1) of the frames of lines, and how many frames each has, (b,).

        Args: steps: (b, t, 3) as of a LineSet; points: (b,) how many of these there are.
        """
        # A jump between words is a hundred times a step of the pen; what it says is its direction, and that it is long.
        seen = torch.cat([steps[..., :2].asinh(), steps[..., 2:]], dim=2)
        frames = (points + _POINTS_A_FRAME - 1) // _POINTS_A_FRAME
        # Behind a line are zeros, whether by longer lines beside it or by the padding here.
        shapes = self.frame_norm(self.to_frames(seen.transpose(1, 2)).relu().transpose(1, 2))
        packed = pack_padded_sequence(shapes, frames.cpu(), True, False)
        read, _ = pad_packed_sequence(self.layers(packed)[0], batch_first=True)
        return self.to_symbols(self.drop(self.norm(read))).log_softmax(dim=2), frames


def spelt(logs: Tensor, frames: Tensor, alphabet: Alphabet) -> list[str]:
    """Greedy decoding: the likeliest symbol of each frame, repetitions once, blanks left out.

    Args: logs: (b, f, symbols + 1); frames: (b,).
    """
    texts = []
    for likeliest, count in zip(logs.argmax(dim=2).cpu().numpy(), frames.tolist(), strict=True):
        symbols = likeliest[:count]
        is_new = np.diff(symbols, prepend=BLANK) != 0
        texts.append("".join(alphabet.characters[symbol - 1] for symbol in symbols[is_new & (symbols != BLANK)]))
    return texts


def recognised(network: RecogniserNetwork, alphabet: Alphabet, lines: Sequence[PenLine]) -> list[str]:
    """What the network reads in each line, whose own text it is not shown."""
    blind = [PenLine(line.offsets, line.ends, "", line.writer) for line in lines]
    rows, texts = LineSet(blind, alphabet), [""] * len(lines)
    # Lines of about equal length together, for little is computed in vain then.
    order = np.argsort([len(line) for line in lines], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            batch = rows.batch(part, None)
            logs, frames = network(batch.steps, batch.points)
            for row, text in zip(part, spelt(logs, frames, alphabet), strict=True):
                texts[row] = text
    return texts

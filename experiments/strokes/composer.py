"""Lines composed from Hershey's fonts, in styles that are drawn: handwriting to learn from where no data set is at hand.

A. V. Hershey, "Calligraphy for Computers", 1967, by the package hershey-fonts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.experiments.training.data.keys import Key
from headstart.pipeline.errors import HeadstartError

from .line import Floats, PenLine, pen_line

STYLES = 24
_MOST = 20  # characters: what is learnt from short lines, in half the time, writes and reads long ones, too
_FONTS = ("cursive", "scripts", "futural", "rowmans")  # those whose strokes are single lines
_TEXT = (
    "the of and to in is it you that he was for on are with as his they be at one have this from or had by hot but some what "
    "there we can out other were all your when up use word how said an each she which do their time if will way about many "
    "then them would write like so these her long make thing see him two has look more day could go come did my sound no most "
    "number who over know water than call first people may down side been now find any new work part take get place made live "
    "where after back little only round man year came show every good me give our under name very through just form much great "
    "think say help low line before turn cause same mean differ move right boy old too does tell sentence set three want air "
    "well also play small end put home read hand port large spell add even land here must big high such follow act why ask men "
    "change went light kind off need house picture try us again animal point mother world near build self earth father head "
    "stand own page should country found answer school grow study still learn plant cover food sun four thought let keep eye "
    "never last door between city tree cross since hard start might story saw far sea draw left late run while press close "
    "night real life few stop open seem together next white children begin got walk example ease paper often always music "
    "those both mark book letter until mile river car feet care second group carry took rain eat room friend began idea fish "
    "mountain north once base hear horse cut sure watch color face wood main enough plain girl usual young ready above ever red "
    "list though feel talk bird soon body dog family direct pose leave song measure state product black short numeral class "
    "wind question happen complete ship area half rock order fire south problem piece told knew pass farm top whole king size "
    "heard best hour better true during hundred am remember step early hold west ground interest reach fast five sing listen "
    "six table travel less morning ten simple several vowel toward war lay against pattern slow center love person money serve "
    "appear road map science rule govern pull cold notice voice fall power town fine certain fly unit lead cry dark machine "
    "note wait plan figure star box noun field rest correct able pound done beauty drive stood contain front teach week final "
    "gave green oh quick develop sleep warm free minute strong special mind behind clear tail produce fact street inch lot "
    "nothing course stay wheel full force blue object decide surface deep moon island foot yet busy test record boat common "
    "gold possible plane age dry wonder laugh thousand ago ran check game shape yes miss brought heat snow bed bring sit "
    "perhaps fill east weight language among quiz jazz zebra xylem vex jump quick ox fox wizard"
)
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True)
class Style:
    """How a made-up writer writes: a font, and what the hand does to it."""

    number: int
    font: str
    slant: float
    width: float
    wave: float
    tremble: float
    spacing: float

    @property
    def name(self) -> str:
        return f"style {self.number}"


def drawn_style(number: int) -> Style:
    """One of STYLES. Always the same for the same number."""
    draw = Key(("style", number)).numpy()
    slant, width, wave, tremble, spacing = draw.uniform(size=5)
    return Style(
        number,
        _FONTS[number % len(_FONTS)],
        slant=-0.15 + 0.6 * slant,
        width=0.8 + 0.4 * width,
        wave=0.6 * wave,
        tremble=0.02 + 0.05 * tremble,
        spacing=-1.0 + 3.0 * spacing,
    )


def drawn_text(key: Key) -> str:
    """A few words, some with a capital, a number or a mark behind them."""
    draw, text = key.numpy(), ""
    while True:
        word = str(_WORDS[draw.integers(len(_WORDS))])
        kind = draw.uniform()
        if kind < 0.06:
            word = str(draw.integers(10 ** int(draw.integers(1, 5))))
        elif kind < 0.3:
            word = word.capitalize()
        elif kind < 0.33:
            word = word.upper()
        word += str(draw.choice(["", ".", ",", "!", "?", ";"], p=[0.8, 0.07, 0.09, 0.013, 0.014, 0.013]))
        if len(text) + 1 + len(word) > _MOST or (text and draw.uniform() < 0.12):
            return text or word
        text = f"{text} {word}".strip()


class Composer:
    """Raises: HeadstartError if the fonts are not installed."""

    def __init__(self) -> None:
        try:
            from HersheyFonts import HersheyFonts
        except ImportError:
            raise HeadstartError(
                "lines from fonts need the package hershey-fonts: pip install 'headstart[handwriting]'. Or give lines of your own"
            ) from None
        self._fonts: dict[str, Any] = {}
        self._load = HersheyFonts

    def _font(self, name: str) -> Any:
        if name not in self._fonts:
            font = self._load()
            font.load_default_font(name)
            self._fonts[name] = font
        return self._fonts[name]

    def line(self, text: str, style: Style, key: Key) -> PenLine:
        """The text in that style; `key` decides what differs from line to line."""
        draw = key.numpy()
        font, place, strokes = self._font(style.font), 0.0, list[Floats]()
        tilt, phase = draw.normal(0, 0.02), draw.uniform(0, 2 * np.pi)
        for character in text:
            glyphs = list(font.glyphs_for_text(character))
            width = float(glyphs[0].char_width) if glyphs else 10.0
            scale = 1 + draw.normal(0, 0.04)
            lift = draw.normal(0, 0.4)
            if character != " ":
                for glyph in glyphs:
                    for stroke in glyph.strokes:
                        points = (np.asarray(stroke, np.float64) - (glyph.left_offset, 0)) * scale
                        strokes.append(points * (style.width, 1) + (place, lift))
            place += (width + style.spacing + draw.normal(0, 0.5)) * style.width
        return pen_line([self._by_hand(stroke, style, tilt, phase, draw) for stroke in strokes], text, style.name)

    def _by_hand(self, stroke: Floats, style: Style, tilt: float, phase: float, draw: np.random.Generator) -> Floats:
        x, y = stroke[:, 0], stroke[:, 1]
        x = x - style.slant * y
        y = y + tilt * x + style.wave * np.sin(x / 30 + phase)
        shaken = np.stack([x, y], axis=1)
        return shaken + draw.normal(0, style.tremble * 4, size=shaken.shape)


def composed(count: int, seed: int) -> Iterator[PenLine]:
    """So many lines, in all styles in turn; the same for the same seed."""
    composer, styles = Composer(), [drawn_style(number) for number in range(STYLES)]
    for number in range(count):
        key = Key((seed, "line", number))
        yield composer.line(drawn_text(key.of("text")), styles[number % STYLES], key.of("hand"))

"""Lines that are made up: a spiral a character, of any scale."""

import numpy as np

from headstart.experiments.strokes.line import pen_line


def strokes(text, scale=1.0, seed=0):
    draw = np.random.default_rng([seed, *map(ord, text)])
    turns = np.linspace(0, 6, 30)
    parts = []
    for place, character in enumerate(text):
        if not character.isspace():
            radius = np.linspace(1, 3, 30) * draw.uniform(0.7, 1.3)
            parts.append(np.stack([8 * place + radius * np.cos(turns), radius * np.sin(turns + ord(character))], axis=1) * scale)
    return parts


def lines(count=24, writers=6):
    words = ("ab", "ba cab", "abc", "c ab a", "bac cab")
    return [pen_line(strokes(words[n % len(words)], seed=n), words[n % len(words)], f"w{n % writers}") for n in range(count)]

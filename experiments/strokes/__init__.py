"""Handwriting as strokes of a pen: lines from files or fonts, the network that writes them, drawings of what it wrote."""

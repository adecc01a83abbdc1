"""Handwriting as strokes of a pen: lines from files or fonts, networks that write and read them, drawings of what was written."""

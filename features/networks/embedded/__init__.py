"""Holds the embedded encoder as data: the weights, how to build and feed the model (`encoder.json`), and its card (`CARD.md`)."""

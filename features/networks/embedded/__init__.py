"""Holds the embedded encoder as data: weights, graph, how to build and feed the model (`encoder.json`), its card (`CARD.md`)."""

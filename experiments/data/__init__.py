"""Rows, targets, statistics: what is learnt from. Knows no model."""

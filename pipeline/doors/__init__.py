"""Doors: what comes from outside passes one of its kind and no other way.

`pipeline.paths` names and removes files; here `reading` reads them, `records` takes JSON apart, `locks` holds them, `python`
starts processes, `code` runs files of users that are code, `consent` asks for leave. What text may do to a terminal is
`pipeline.text`'s concern; what knows images or tensors stands in `features`.
"""

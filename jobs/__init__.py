"""One file a kind of job; its name is the kind's name. The only place where the layers meet.

Docs: CONTRIBUTING.md says how to add one.
"""

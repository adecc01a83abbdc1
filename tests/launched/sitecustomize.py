"""On the path of launched workers: they know the kinds of the tests, as a user's own kinds would be known."""

from pathlib import Path

import headstart.jobs

headstart.jobs.__path__.append(str(Path(__file__).resolve().parent.parent / "fakes"))

"""Makes small trees of files for the tests of this room."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., Path]:
    """data("cat/a.jpg", "b.txt", ...) writes a few bytes at each path below a fresh folder and returns the folder."""

    def make(*names: str, at: str = "data") -> Path:
        root = tmp_path / at
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content of " + name.encode("utf-8", "surrogateescape"))
        return root

    return make


@pytest.fixture(scope="module")
def one_thread():
    """Threads that wait for each other in a busy loop cost more than they bring where tests share the processors."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""Workspaces with designs in them."""

import contextlib
import os

from tests.commands.calling import call
from tests.support import ROOT

FILE = ROOT / "examples" / "designs" / "designs.py"


@contextlib.contextmanager
def allowed(folder):
    """What is allowed to run is noted below `folder`, not where the user's own settings are."""
    before = os.environ.get("HEADSTART_CONFIG")
    os.environ["HEADSTART_CONFIG"] = str(folder / "configuration")
    try:
        yield
    finally:
        os.environ.pop("HEADSTART_CONFIG")
        if before is not None:
            os.environ["HEADSTART_CONFIG"] = before


def make_designs(root, count, *words, file=FILE):
    """A workspace in which so many designs are made."""
    with allowed(root):
        done = call("make", file, "--count", count, *words, "-w", root / "workspace")
    assert done.status == 0, done.errors
    return root / "workspace"


def make_others(root, name, value):
    """A workspace whose designs have another value in one column; None leaves the column out."""
    file = root / "others.py"
    file.write_text(OTHERS.replace("CHANGED", f"    one[{name!r}] = {value}" if value is not None else f"    del one[{name!r}]"))
    return make_designs(root, 20, file=file)


OTHERS = """
import json
from dataclasses import dataclass

import numpy as np

from headstart.experiments.training.options import CheckedOptions, option


@dataclass(frozen=True)
class Options(CheckedOptions):
    count: int = option(20, "designs")


def items(options):
    return options.count


def make(item, options):
    facts = {"goal": "sell", "format": "card", "tone": 0.5}
    facts["grammar"] = dict(alignment=1, contrast=1, whitespace=1, hierarchy=1)
    one = {"image": np.zeros((256, 256, 3), np.uint8), "structure": np.zeros((4, 256, 256), np.uint8)}
    one["metadata"] = json.dumps(facts)
CHANGED
    return one
"""

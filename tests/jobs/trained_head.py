"""Begins a training over what `extracted` made, and works on it in this process."""

from headstart.experiments.config import USUAL_BASELINES
from headstart.experiments.runs.beginning.begin_heads import Request, begin_heads
from headstart.features.store.packing import open_cache
from headstart.jobs import train_head
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker

from .killed_head import HEADS, OPTIONS


def begun(workspace, heads=HEADS, options=OPTIONS, name="killed", baselines=USUAL_BASELINES):
    [encoder] = workspace.features.glob("encoder_*")
    return begin_heads(
        workspace, Request(open_cache(encoder), "classification", (), (), heads, options, name, baselines=baselines)
    )


def worked(workspace, device="auto", **limits):
    heard = []
    summary = Worker(workspace, Settings(device), Limits(kinds=frozenset({"train_head"}), **limits), heard.append).run()
    return summary, heard


def session_of(workspace, experiment):
    return train_head.open_session(workspace, experiment.job, Settings())

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_a_training_step_does_not_load_sympy():
    """Half a second, after which a resumed run would make its first step."""
    code = """
import sys
import numpy as np
from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.heads.trainer import train_head_only
rows = np.random.default_rng(0).standard_normal((64, 4))
train_head_only(rows, HeadConfig(hidden=(5,), batch_norm=True, dropout=0.1, mixup=0.1, noise=0.1, clip_norm=1.0),
                ["a", "b"] * 32, ["train"] * 48 + ["val"] * 16, TrainingOptions(epochs=1))
assert "sympy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

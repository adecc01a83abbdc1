"""The quantum head on MNIST: what an epoch costs, what is reached beside classical heads, and how near to PennyLane it computes.

python -m benchmarks.quantum MNIST.zip FOLDER

The zip has train/<digit>/*.png, of which 54,000 are learned from and 6,000 judged. Features are of the embedded encoder. An epoch
is the whole command, start and judgement included, by the number of epochs. FOLDER keeps the workspace: killed, the same command
goes on. It needs `pip install '.[quantum]'`. Four minutes on two quiet cores, most of it for features.
"""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from headstart.experiments.heads.pennylane_circuit import circuit_of

from .camvid import Timed
from .photos import headstart
from .synthetic import verdict

EPOCHS = {4: 10, 8: 2}
SECONDS = {4: 10, 8: 30}
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}


def table(archive: Path, folder: Path) -> Path:
    """A row an image, a tenth of each digit for validation, drawn by a seed."""
    if not (folder / "train").exists():
        with zipfile.ZipFile(archive) as images:
            images.extractall(folder)
    draw, lines = np.random.default_rng(0), ["path,label,split"]
    for digit in sorted((folder / "train").iterdir()):
        names = sorted(path.name for path in digit.iterdir())
        judged = set(draw.permutation(len(names))[: round(len(names) / 10)].tolist())
        lines += [
            f"train/{digit.name}/{name},{digit.name},{'val' if row in judged else 'train'}" for row, name in enumerate(names)
        ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def difference(qubits: int, layers: int, dtype: torch.dtype) -> tuple[float, float]:
    """Largest one of outputs and of gradients, of weights and of angles, from PennyLane's default.qubit on the same numbers."""
    draw = torch.Generator().manual_seed(100 * qubits + layers)
    ours, theirs = (circuit_of(name, qubits, layers).to(dtype) for name in ("torch", "pennylane"))
    theirs.load_state_dict(ours.state_dict())
    angles = (3 * torch.randn((16, qubits), generator=draw)).to(dtype).requires_grad_()
    wanted = torch.randn((16, qubits), generator=draw).to(dtype)
    said = []
    for circuit in (ours, theirs):
        outputs = circuit(angles)
        said.append([outputs.detach(), *torch.autograd.grad((outputs * wanted).sum(), [*circuit.parameters(), angles])])
    apart = [float((one - other).abs().max()) for one, other in zip(*said, strict=True)]
    return apart[0], max(apart[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    notes, workspace = Timed(options.folder / "took.json"), options.folder / "workspace"
    headstart("enqueue", table(options.archive, options.folder), "--weights", "embedded", "-w", workspace)
    headstart("work", "-w", workspace)
    for qubits, epochs in EPOCHS.items():
        name = f"qubits-{qubits}"
        notes.once(name, "train", "quantum", "--qubits", qubits, "--epochs", epochs, "--name", name, "-w", workspace)
        verdict(f"epoch of 54,000 rows, {qubits} qubits, s", notes.took[name] / epochs, SECONDS[qubits], is_least=False)
        [folder] = workspace.glob(f"experiments/exp_*_{name}")
        judged = json.loads((folder / "metrics.json").read_text())["val"]
        print(f"  after {epochs} epochs: {', '.join(f'{key} {value}' for key, value in judged.items() if 'accuracy' in key)}")
        if qubits == 4:
            verdict("accuracy with 4 qubits after 10 epochs, %", 100 * judged["accuracy"], 90)
    for dtype, close in CLOSE.items():
        apart = [difference(qubits, layers, dtype) for qubits in range(1, 9) for layers in range(1, 5)]
        for what, worst in zip(("outputs", "gradients"), np.max(apart, 0), strict=True):
            reached = "reached" if worst <= close else "MISSED"
            print(
                f"{what} of {len(apart)} circuits from PennyLane, {dtype}: at most {worst:.1e}   target <= {close:g}   {reached}"
            )


if __name__ == "__main__":
    main()

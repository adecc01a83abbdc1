"""How a training runs here, which decides nothing of what comes out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conduct:
    """How a training runs, not what is learnt: only how sums are rounded may depend on it, where memory is short.

    Attributes:
        device: 'cpu', 'cuda', 'xpu' or 'mps'. Another one rounds otherwise, so a training keeps to its own where it can.
        save_every: steps between checkpoints; 0: by time alone.
        save_s: seconds between checkpoints; longer where writing one takes more than a hundredth of that.
        data_workers: processes that read ahead; None: as many as seems right.
        tensorboard: whether numbers also go to the folder `tensorboard` of the experiment.
        mlflow: the tracking URI of an MLflow that they also go to.
        ram_bytes: resident memory that the process may take on a CPU: so many rows go through the model at once; None: any.
        vram_bytes: likewise on a GPU, where torch's allocator is capped as well; None: 4 GB.
    """

    device: str = "cpu"
    save_every: int = 0
    save_s: float = 30.0
    data_workers: int | None = None
    tensorboard: bool = False
    mlflow: str | None = None
    ram_bytes: int | None = None
    vram_bytes: int | None = None

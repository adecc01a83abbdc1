"""The recipe diffusion on a few designs: schedules, targets and samplers by their formulas, exact resume, samples by seed."""

import math

import numpy as np
import pytest
import torch

from headstart.experiments.designs.denoising import image_of, kept_signal, snr_weight, wanted_of
from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS
from headstart.experiments.recipes import diffusion
from headstart.experiments.training.data.batch import Facts
from tests.commands.calling import call
from tests.experiments.designs.made import make_designs
from tests.support import killed_at_an_epoch

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--image-size", 16, "--width", 8, "--epochs", 2, "--batch-size", 8, "--timesteps", 50, "--threads", 1)
ABOUT = Facts({"image_size": 16, "goals": list(GOALS), "formats": list(DESIGN_FORMATS)})
TARGETS = ("noise", "v", "image")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_designs(tmp_path_factory.mktemp("diffusion"), 40)


@pytest.fixture(scope="module")
def trained(made):
    done = call("train", "diffusion", *QUICK, "--name", "small", "-w", made)
    assert done.status == 0, done.errors
    return made


@pytest.mark.parametrize("timesteps", [10, 100, 1000])
@pytest.mark.parametrize("noising", ["linear", "cosine"])
def test_a_schedule_falls_from_the_image_to_noise(noising, timesteps):
    kept = kept_signal(noising, timesteps)
    assert kept.shape == (timesteps,)
    assert 0 < kept[-1] < 0.02
    assert kept[0] > 0.85
    assert (kept[1:] < kept[:-1]).all()


def test_schedules_are_those_of_the_papers():
    linear, cosine = (kept_signal(name, 1000) for name in ("linear", "cosine"))
    betas = [1e-4 + (0.02 - 1e-4) * step / 999 for step in range(1000)]
    assert float(linear[-1]) == pytest.approx(math.prod(1 - beta for beta in betas))
    at = [math.cos((step / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for step in (0, 500)]
    assert float(cosine[499]) == pytest.approx(at[1] / at[0])


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_wanted_means_the_image(target):
    image, noise = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    kept = torch.tensor([0.001, 0.3, 0.7, 0.999], dtype=torch.float64)[:, None, None, None]
    noisy = kept.sqrt() * image + (1 - kept).sqrt() * noise
    said = wanted_of(target, image, noise, kept)
    assert torch.allclose(image_of(target, said, noisy, kept), image)


def test_one_mistake_counts_the_same_whatever_the_network_says():
    """Weights by signal-to-noise make the errors of noise, v and image one number: the same wrong image costs the same."""
    image, noise, wrong = torch.randn(3, 4, 3, 8, 8, dtype=torch.float64)
    kept = torch.tensor([0.01, 0.3, 0.9, 0.99], dtype=torch.float64)
    part = kept[:, None, None, None]
    noisy = part.sqrt() * image + (1 - part).sqrt() * noise
    wrong_noise = (noisy - part.sqrt() * wrong) / (1 - part).sqrt()
    costs = []
    for target in TARGETS:
        gap = wanted_of(target, wrong, wrong_noise, part) - wanted_of(target, image, noise, part)
        costs.append(snr_weight(kept, target, 5.0) * gap.square().mean((1, 2, 3)))
    assert torch.allclose(costs[0], costs[2])
    assert torch.allclose(costs[1], costs[2])
    assert (snr_weight(kept, "v", 0.0) == 1).all()


class Knowing(torch.nn.Module):
    """A network that sees the same picture behind any noise."""

    def __init__(self, image):
        super().__init__()
        self.image = torch.nn.Parameter(image)

    def forward(self, noisy, *told):
        return self.image


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_who_knows_the_picture_draws_it(sampler, steps):
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    wanted = diffusion.Sampling(count=1, sampler=sampler, steps=steps, guidance=3.0)
    [(_, picture)] = diffusion.sample(Knowing(image), wanted, diffusion.Options(timesteps=50), ABOUT)
    expected = ((image[0].permute(1, 2, 0).numpy() + 1) * 127.5).round()
    assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1


def test_only_a_description_that_is_told_matters():
    torch.manual_seed(0)
    network = diffusion.model(diffusion.Options(width=8), ABOUT)
    noisy, time, form, tone = torch.randn(1, 3, 16, 16), torch.tensor([0.5]), torch.tensor([0]), torch.tensor([0.5])
    said = {
        (goal, told): network(noisy, time, torch.tensor([goal]), form, tone, torch.tensor([told]))
        for goal in (0, 1)
        for told in (True, False)
    }
    assert torch.equal(said[0, False], said[1, False])
    assert not torch.allclose(said[0, True], said[1, True])


def test_a_training_that_was_killed_ends_in_the_same_bits(made):
    ends = []
    for name, kills in (("whole", 0), ("killed", 2)):
        words = ["train", "diffusion", *QUICK, "--epochs", 4, "--save-every", 3, "--seed", 1, "--name", name, "-w", made]
        killed_at_an_epoch(words, kills)
        ends.append(next((made / "experiments").glob(f"exp_*_{name}")) / "checkpoints" / "final.safetensors")
    assert ends[0].read_bytes() == ends[1].read_bytes()


def run_of(root):
    """The number of the training of the fixture."""
    [folder] = (root / "experiments").glob("exp_*_small")
    return int(folder.name.split("_")[1])


def samples(root, folder, *words):
    done = call("sample", run_of(root), "--steps", 3, *words, "-o", folder, "-w", root)
    assert done.status == 0, done.errors
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_picture_is_that_of_its_seed_and_number(trained, tmp_path, sampler):
    few = samples(trained, tmp_path / "few", "--count", 2, "--sampler", sampler)
    more = samples(trained, tmp_path / "more", "--count", 3, "--sampler", sampler)
    other = samples(trained, tmp_path / "other", "--count", 2, "--seed", 1, "--sampler", sampler)
    assert sorted(few) == ["00000_sell_poster_0.1.png", "00001_inform_poster_0.5.png"]
    assert all(more[name] == few[name] and other[name] != few[name] for name in few)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--image-size", 20], "--image-size 20 does not fit", id="no part of 256"),
        pytest.param(["--image-size", 16, "--patch", 8], "expected one of 32, 64, 128, 256", id="too small for the patch"),
        pytest.param(["--width", 12], "no multiple of 8", id="width that heads do not divide"),
        pytest.param(["--timesteps", 1], "expected 2 or more", id="one step"),
        pytest.param(["--noising", "sigmoid"], "linear", id="unknown schedule"),
        pytest.param(["--target", "score"], "noise", id="unknown target"),
        pytest.param(["--drop-condition", 1.5], "expected at most 1", id="more than all dropped"),
    ],
)
def test_a_mistake_in_training_is_one_line(made, words, why):
    done = call("train", "diffusion", *words, "-w", made)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--goals", "dazzle"], "expected one of sell", id="unknown goal"),
        pytest.param(["--goals", ""], "expected one of sell", id="empty condition"),
        pytest.param(["--formats", "poster,banner"], "expected one of poster", id="unknown format"),
        pytest.param(["--tones", 2], "expected at most 1", id="too loud"),
        pytest.param(["--guidance", 0], "expected 1 or more", id="no guidance"),
        pytest.param(["--guidance", 100], "expected at most 20", id="too much guidance"),
        pytest.param(["--steps", 51], "--steps 51 are more than the 50", id="steps of another schedule"),
        pytest.param(["--sampler", "euler"], "ddim", id="unknown sampler"),
    ],
)
def test_a_mistake_in_sampling_is_one_line(trained, tmp_path, words, why):
    done = call("sample", run_of(trained), *words, "-o", tmp_path / "out", "-w", trained)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors
    assert not list(tmp_path.glob("out/*"))


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(made, monkeypatch):
    ends_as_on_the_cpu(("diffusion", *QUICK), made, monkeypatch)

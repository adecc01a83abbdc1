"""What a rule that chooses a head costs or brings by the size of validation: simulated, against always logistic regression.

python -m benchmarks.head_choice [--simulations 2000]

Logistic regression is right with probability 0.8, each of four other heads with as much and a difference that is drawn anew each
time: normal, or those of one of the sets on which they were measured. An image is as difficult for one head as for another:
answers are those of correlated normal variables (0.9: of equally good heads, one alone has about 8 % of the images right). Each
rule sees the answers to n validation images; what it brings is the true accuracy of the head that it chooses less that of
logistic regression, in points. `best`: the most images right, of equals the simplest. `one error`: the same, but logistic
regression where that is behind by at most one standard error. `beyond doubt`: what ships. Five minutes.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.evaluation.head_choice import Candidate, choose_beyond_doubt
from headstart.experiments.linear.method import simplicity_of_baseline

COUNTS = (10, 30, 100, 300, 1000, 3000)
WORLDS = {  # mean and standard deviation of the differences, in points
    "as good, a little different": (0.0, 1.0),
    "a little worse": (-1.0, 1.0),
    "a little worse, quite different": (-1.0, 3.0),
    "as measured": None,
}
# Nearest mean, ridge, LDA and a trained linear head less logistic regression on test, in points: means of 6 to 60 splits, seeds
# from 20 on, of logos, CIFAR-10's draws of 200 and 1,000, digits, sign digits and 5,000 of MNIST (as in `chosen_heads.py`).
MEASURED = (
    (-3.7, -0.1, -0.9, -5.8),
    (-0.8, -0.4, -4.8, -0.6),
    (-3.5, -0.3, -16.0, 0.0),
    (-11.6, -0.3, -13.6, 0.0),
    (-7.4, -0.5, -8.6, -0.3),
    (-11.3, 0.4, 0.1, -0.1),
)
RULES = ("best", "one error", "beyond doubt")
_NAMES = ("nearest-mean", "ridge", "lda", "logistic", "linear")  # as simple as their place says
_LOGISTIC, _SHARE, _CORRELATION = _NAMES.index("logistic"), 0.8, 0.9


def chosen(rule: str, answers: NDArray[np.int64]) -> int:
    """Position of the head that a rule chooses. Args: answers: (heads, n), 0 is right."""
    shares = (answers == 0).mean(axis=1)
    best = int(shares.argmax())
    if rule == "best":
        return best
    if rule == "one error":
        reference = float(shares[_LOGISTIC])
        return best if shares[best] - reference > (reference * (1 - reference) / answers.shape[1]) ** 0.5 else _LOGISTIC
    candidates = [
        Candidate(name, {"val": {"accuracy": float(share)}}, (simplicity_of_baseline(name), 0), said)
        for name, share, said in zip(_NAMES, shares, answers, strict=True)
    ]
    return _NAMES.index(choose_beyond_doubt(candidates, "accuracy", np.zeros(answers.shape[1], np.int64)).selected)


def simulated(count: int, world: tuple[float, float] | None, random: np.random.Generator) -> dict[str, float]:
    """What each rule brings in one world, in points."""
    from scipy.stats import norm

    others = len(_NAMES) - 1
    differences = random.normal(*world, others) if world else np.array(MEASURED[random.integers(len(MEASURED))])
    shares = np.clip(_SHARE + np.insert(differences, _LOGISTIC, 0.0) / 100, 0.01, 0.99)
    common, own = random.normal(size=count), random.normal(size=(len(_NAMES), count))
    difficulty = _CORRELATION**0.5 * common + (1 - _CORRELATION) ** 0.5 * own
    answers = (difficulty > norm.ppf(shares)[:, None]).astype(np.int64)
    return {rule: 100 * float(shares[chosen(rule, answers)] - _SHARE) for rule in RULES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    options = parser.parse_args()
    print(f"{'points against always logistic regression':44}" + "".join(f"{count:>9,}" for count in COUNTS))
    for number, (name, world) in enumerate(WORLDS.items()):
        brought: dict[tuple[str, int], float] = {}
        for count in COUNTS:
            random = np.random.default_rng((number, count))
            results = [simulated(count, world, random) for _ in range(options.simulations)]
            for rule in RULES:
                brought[rule, count] = float(np.mean([each[rule] for each in results]))
        for rule in RULES:
            print(f"{name:32} {rule:12}" + "".join(f"{brought[rule, count]:+9.2f}" for count in COUNTS), flush=True)


if __name__ == "__main__":
    main()

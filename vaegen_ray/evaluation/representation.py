"""How much of an image's class its code tells (xiao2024, Appendices F and G; Figures 4 left and 19, Table 11).

The code of an image is the mean of q(z|x). One half of the codes of the test set trains four classifiers, the other
half is classified: the share of right answers is the accuracy. Which images are in which half is fixed, the same for
all trials, so that differences between two ways of training are paired. On corrupted test sets the classifiers are
trained on corrupted images, too (Appendix G).

The paper names the classifiers and k = 5 only; the rest is our reading: codes are standardised (mean 0, variance 1 in
the training half), and scikit-learn's default strengths of regularisation hold. The linear machine is ``LinearSVC``
(squared hinge loss, one class against the rest): the kernel machine with a linear kernel takes a hundred times as long,
10 s instead of 0.1 s on 5,000 random codes of 64 numbers, and CIFAR-10 with its corruptions asks for 21 fits a VAE.

Letters: M members, N images, Z latent dimensions.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaegen_ray.evaluation.reconstruction import images_at_once
from vaegen_ray.evaluation.result import Detail, EvaluationResult
from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import CLASSIFIERS, Representation
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

HALVES, CHOICE, SOLVER = 0, 1, 2
"""Indices of the random streams: the halves, the corruption of an image in ``overall``; and, of the member's own seed,
the order in which the linear machine visits codes that are longer than many."""
OVERALL = "overall"
"""Stands for a corruption in the details: every image under one of the corruptions, chosen at random."""


def representation(
    vae: VAE,
    specs: list[TrialSpec],
    test: Tensor,
    labels: np.ndarray,
    settings: Representation,
    corrupted: Mapping[str, np.ndarray],
) -> list[EvaluationResult]:
    """Columns ``accuracy_<classifier>`` and details ``accuracy`` of items ``<corruption>/<classifier>``.

    A member whose codes are not finite has accuracies that are not a number.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications.
        test: uint8 [N, C, H, W], on the members' device.
        labels: classes of the test images, whole numbers [N].
        settings: number of images and of neighbours.
        corrupted: for each corruption the test images under it, in the same order, uint8 [N, C, H, W].
    """
    count = min(settings.images, len(test))
    labels, names = labels[:count], sorted(corrupted)
    clean = codes(vae, test[:count])
    rows = [_accuracies(spec, code, labels, settings) for spec, code in zip(specs, clean, strict=True)]
    details: list[list[Detail]] = [[] for _ in specs]

    def note(item: str, of_members: np.ndarray) -> None:
        for kept, spec, code in zip(details, specs, of_members, strict=True):
            accuracies = _accuracies(spec, code, labels, settings)
            kept += [Detail("accuracy", f"{item}/{name}", [value]) for name, value in accuracies.items()]

    mixed, choice = np.empty_like(clean), _random(CHOICE).integers(len(names) or 1, size=count)
    for i, name in enumerate(names):
        of_members = codes(vae, torch.from_numpy(np.array(corrupted[name][:count])).to(test.device))
        mixed[:, choice == i] = of_members[:, choice == i]
        note(name, of_members)
    if names:
        note(OVERALL, mixed)
    return [
        EvaluationResult({f"accuracy_{name}": value for name, value in row.items()}, kept)
        for row, kept in zip(rows, details, strict=True)
    ]


@torch.no_grad()
def codes(vae: VAE, images: Tensor) -> np.ndarray:
    """The means of q(z|x): uint8 [N, C, H, W] -> float32 [M, N, Z]."""
    vae.eval()
    means = []
    with arithmetic("float32", images.device):
        for pixels in images.split(images_at_once(vae)):
            x = vae.likelihood.scale(pixels)
            means.append(vae.encode(x.expand(vae.members, *x.shape)).mean.cpu())
    return torch.cat(means, dim=1).numpy()


def _accuracies(spec: TrialSpec, code: np.ndarray, labels: np.ndarray, settings: Representation) -> dict[str, float]:
    """Share of right answers in the second half of the codes [N, Z] by classifier, each trained on the first half."""
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not np.isfinite(code).all():
        return dict.fromkeys(CLASSIFIERS, float("nan"))
    order = _random(HALVES).permutation(len(code))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    if len(set(labels[train])) == 1:  # nothing to learn: the one class is the answer
        return dict.fromkeys(CLASSIFIERS, float((labels[test] == labels[train[0]]).mean()))
    classifiers = _classifiers(min(settings.neighbours, len(train)), stream_seed(spec.seed, "classifiers", SOLVER))
    with warnings.catch_warnings(), threadpool_limits(1):  # problems so small are slower on many threads
        warnings.simplefilter("ignore")  # of convergence: the accuracy says what it is worth
        code = StandardScaler().fit(code[train].astype(np.float64)).transform(code.astype(np.float64))
        return {
            name: float((classifier.fit(code[train], labels[train]).predict(code[test]) == labels[test]).mean())
            for name, classifier in classifiers.items()
        }


def _classifiers(neighbours: int, seed: int) -> dict[str, Any]:
    """Untrained classifiers by name; ``seed`` is for the linear machine."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]
    from sklearn.svm import SVC, LinearSVC  # type: ignore[import-untyped]

    parts = (
        LogisticRegression(max_iter=1000),
        LinearSVC(dual="auto", random_state=seed % 2**32),
        SVC(kernel="rbf"),
        KNeighborsClassifier(neighbours),
    )
    return dict(zip(CLASSIFIERS, parts, strict=True))


def _random(index: int) -> np.random.Generator:
    """Random numbers that are the same for all trials."""
    return np.random.Generator(np.random.PCG64(stream_seed(0, "classifiers", index)))

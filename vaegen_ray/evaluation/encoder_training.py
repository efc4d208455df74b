"""Optimal inference and self-consistent training: what a better encoder would do for the same decoder.

The decoder stays as it is, p_theta. A copy of the encoder is trained on, from where the training left it, on

    minus the mean over m(x) of  ELBO(x; q),                                     nats an image, at beta 1, where
    m(x) = D_test                                          is optimal inference          (zhang2021, Eqs. 10 to 12)
    m(x) = alpha p_theta(x) + (1 - alpha) D_train          is self-consistent training   (zhang2021, Eqs. 13 to 16)

and the ELBO of the test set is measured again. Optimal inference estimates q*, the best encoder of this shape for these
images: its ELBO less that of the encoder as it was is the inference generalization gap (Eq. 11), and what then still
lies between training and test set is the fault of the decoder. Self-consistent training sees no test image, so its
encoder could be used; alpha = 0 is the control, as much more training on D_train.

The step size stays for half of the passes, then falls evenly to zero, since the encoder that a constant one ends at is
off by the noise of the last steps. ELBO gained on 797 test digits, nats, means of 3 seeds (fully connected, nc 256, 8
latent dimensions, 1000 training images, 300 epochs), whose amortization gap is 1.50:

    optimal inference, passes     25     50    100    200    400        alpha 50, passes     25     50    100    200
    constant                     .90   1.02   1.17   1.18   1.24                            .25    .30    .36    .51
    falls from the start         .91   1.11   1.27   1.39   1.47                            .33    .41    .51    .62
    stays, then falls            .98   1.18   1.32   1.41   1.48                            .35    .44    .55    .66
    constant, mean of the
    weights of the last half     .99   1.18   1.32   1.42   1.48                            .38    .46    .57    .68

The mean of weights finds as much or a little more, but leaves BatchNorm without statistics that belong to it.

Optimal inference must come near its optimum to be q*, so it gets more passes than self-consistent training: 300, which
find 1.45, where nothing else is said.

Nothing is kept or chosen by its ELBO, so nothing is fitted to the noise of the evaluation; a column may therefore be
below ``elbo_test``.

Letters: M members, N images, B batch, n samples in a batch, C colours, H and W pixels, Z latent dimensions.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vaegen_ray.evaluation.elbo import ON_TEST, rate_and_distortion
from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import Inference
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.objectives import negative_beta_elbo
from vaegen_ray.training.reverse_half_asleep import SMALLEST
from vaegen_ray.training.sources import ShuffledEpochs

OPTIMAL, SELF_CONSISTENT = 0, 1
"""The two kinds of training, by their numbers in the trial's stream ``inference``."""
BLOCK_NUMBERS = 2**20
"""Most numbers that a member draws and gathers at once, unless one step needs more."""


def inference(
    vae: VAE, specs: list[TrialSpec], train: Tensor, test: Tensor, settings: Inference
) -> list[dict[str, float]]:
    """Mean ELBO on D_test, nats an image, of encoders that were trained on: a row a member.

    ``elbo_optimal_inference`` is that of one trained on D_test, ``elbo_self_consistent_50`` that of one trained on
    equally many samples of the VAE and images of D_train, and so on. The noise is that of ``elbo_test``, so differences
    from it are paired. A member whose numbers are not finite has columns that are not finite. The VAE is left as it is.

    Args:
        vae: the M members.
        specs: their specifications, for the seeds, the batch size and ``elbo_samples``.
        train, test: uint8 [N, C, H, W], on the members' device.
        settings: how long the training goes on, and on which mixtures.
    """
    mixtures = {"elbo_optimal_inference": Mixture(specs, test, 0, OPTIMAL)}
    for percent in settings.self_consistent:
        mixtures[f"elbo_self_consistent_{percent}"] = Mixture(specs, train, percent, SELF_CONSISTENT)
    columns = {}
    for name, mixture in mixtures.items():
        epochs = settings.optimal_epochs if name == "elbo_optimal_inference" else settings.epochs
        trained = train_encoder(vae, mixture, epochs, settings.learning_rate)
        rate, distortion = rate_and_distortion(trained, specs, test, stream=ON_TEST)
        columns[name] = (-rate - distortion).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Mixture:
    """Batches of which a fixed part is samples of the members, and the rest images in shuffled order (Eq. 16).

    What a member gets depends on its weights and its seed alone. Mixtures of the same number have the same order.

    Args:
        specs: the M members.
        images: uint8 [N, C, H, W].
        percent: the part of samples, alpha.
        number: ``OPTIMAL`` or ``SELF_CONSISTENT``.

    Attributes:
        size: B, the batch size of the specifications, or N where there are fewer images.
        samples: n, samples in a batch; halves are rounded up.
    """

    def __init__(self, specs: list[TrialSpec], images: Tensor, percent: int, number: int) -> None:
        self.images = images
        self.size = min(specs[0].batch_size, len(images))
        self.samples = (self.size * percent + 50) // 100
        self._spec = specs[0]
        self._seeds = [stream_seed(spec.seed, "inference", number) for spec in specs]

    def batches(self, vae: VAE, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Step after step a batch uint8 [M, B, C, H, W], samples first, and standard normal noise [M, B, Z] for it.

        Args:
            vae: the members, whose decoder makes the samples, x ~ p(x|z) with z from the prior.
            steps: how many.
        """
        colours, *grid = self._spec.image_shape
        z, draws, real = self._spec.latent_dim, vae.likelihood.draws(colours), self.size - self.samples
        of_step = self.size * z + self.samples * (z + draws * grid[0] * grid[1]) + real * self._spec.pixels
        block = max(1, BLOCK_NUMBERS // of_step)
        generators = [torch.Generator(self.images.device).manual_seed(seed) for seed in self._seeds]
        sources = [ShuffledEpochs(self.images, seed) for seed in self._seeds]
        for first in range(0, steps, block):
            count = min(block, steps - first)
            noise = _draw(torch.randn, generators, count, self.size, z)
            if self.samples:
                codes = _draw(torch.randn, generators, count, self.samples, z)
                uniform = _draw(torch.rand, generators, count, self.samples, draws, *grid).clamp_min_(SMALLEST)
            if real:
                gathered = [source.images(first * real, (first + count) * real) for source in sources]
                images = torch.stack([part.unflatten(0, (count, real)) for part in gathered], dim=1)
            for step in range(count):
                parts = []
                if self.samples:
                    with torch.no_grad():
                        parts.append(vae.likelihood.sample(vae.decode(codes[step]), uniform[step]))
                if real:
                    parts.append(images[step])
                yield torch.cat(parts, dim=1), noise[step]


def _draw(kind: Callable[..., Tensor], generators: list[torch.Generator], steps: int, *shape: int) -> Tensor:
    """Random numbers [steps, M, ...], every member's from its own generator."""
    return torch.stack([kind(steps, *shape, generator=each, device=each.device) for each in generators], dim=1)


@torch.enable_grad()
def train_encoder(vae: VAE, mixture: Mixture, epochs: int, learning_rate: float) -> VAE:
    """A copy of the VAE whose encoders were trained on, for ``epochs`` times as many images as the mixture has.

    The decoder computes as in evaluation, the encoder as in training; where a batch straddles the end it is whole.
    """
    vae = copy.deepcopy(vae)
    vae.decoder.eval().requires_grad_(False)
    vae.encoder.train()
    by_member = vae.spec.architecture != "fully_connected"
    adam = Adam(vae.encoder.named_parameters(), learning_rate, by_member=by_member)
    device = mixture.images.device
    beta = torch.ones(vae.members, device=device)
    steps = -(-epochs * len(mixture.images) // mixture.size)
    with arithmetic("float32", device):
        for step, (pixels, noise) in enumerate(mixture.batches(vae, steps)):
            adam.learning_rate = learning_rate * min(1.0, 2 * (1 - step / steps))
            adam.zero_grad()
            negative_beta_elbo(vae, vae.likelihood.scale(pixels), noise, beta).sum().backward()
            adam.step()
    return vae

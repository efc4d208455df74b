"""The amortization gap: what the encoder loses because it answers for every image with one network.

    G_a = mean over x in D_test of  max_q ELBO(x; q) - ELBO(x; q(z|x))         (xiao2024, Eq. 4), nats an image, >= 0

q runs over factorised Gaussians. For each image its mean and the number that its standard deviation is made of are
optimised alone, from the encoder's answer on, by Adam on the ELBO with one fresh sample of z a step. At every look the
candidate is the mean of the parameters since the last look, which is nearer to the optimum than the last of them.

Three sets of noise keep the estimate honest. One drives the steps. One, the same at every look, chooses the better
parameters of an image, the encoder's answer among them. A third, which chose nothing, measures how much better those
are: the difference has no bias as the gain of the parameters found, and is below G_a by what the search missed. Only
the mean over a member's images is cut at zero. To keep the better of both for each image under the third noise too
would add the mean of the positive part of that noise to the gap of an encoder that is exact.

Letters: M members, A of them not done yet, N images, n of them in a chunk, S samples, Z latent dimensions.
"""

import copy

import torch
from torch import Tensor, nn

from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.measures import Amortization
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.likelihoods import Bernoulli
from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.precision import arithmetic
from vaegen_ray.trial import TrialSpec

STEPS, LOOKS, GAP = 0, 1, 2
"""The three sets of noise: their numbers in the trial's stream ``amortization``."""
BLOCK_NOISE = 2**18
"""Most numbers of noise that a member draws at once for its steps."""


@torch.no_grad()
def amortization_gap(
    vae: VAE, specs: list[TrialSpec], test: Tensor, settings: Amortization
) -> list[dict[str, float]]:
    """The gap, the ELBO with the q found, and how long the search was: a row a member.

    ``elbo_optimal`` is the ELBO of the encoder's answer on these images plus the gap, under the same noise.
    ``amortization_steps`` is the number of Adam steps of the member. All numbers of a member whose ELBO is not finite
    are so too.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        test: uint8 [N, C, H, W], on the members' device.
        settings: how many images, and how the search goes.
    """
    vae.eval()
    with arithmetic("float32", test.device):
        members = Members(vae, specs, vae.likelihood.scale(test[: settings.images]))
        start = members.encode()
        found, steps = _search(members, start, settings)
        before, after = (members.elbo(q, GAP, settings.check_samples).double().mean(1) for q in (start, found))
    gaps = (after - before).clamp_min(0)
    return [
        {
            "amortization_gap": gap,
            "elbo_optimal": elbo + gap,
            "amortization_images": float(len(members.images)),
            "amortization_steps": float(taken),
        }
        for gap, elbo, taken in zip(gaps.tolist(), before.tolist(), steps, strict=True)
    ]


class Members:
    """Some members of a VAE, whose weights take no gradient, and the images that they are measured on.

    Args:
        vae: the M members.
        specs: their specifications.
        images: [N, C, H, W], scaled as the likelihood says.
        chosen: the members that matter; None for all.
    """

    def __init__(self, vae: VAE, specs: list[TrialSpec], images: Tensor, chosen: list[int] | None = None) -> None:
        self.images = images
        self.chosen = list(range(len(specs))) if chosen is None else chosen
        self.specs = [specs[member] for member in self.chosen]
        self._vae, self._all = vae, specs
        self._decoder = _frozen(vae.decoder, self.chosen)
        size = max(1, CHUNK_BYTES // (len(self.chosen) * activation_bytes(vae.spec)))
        self.chunks = [slice(first, first + size) for first in range(0, len(images), size)]

    def only(self, chosen: list[int]) -> "Members":
        """These members of the VAE, on the same images."""
        return Members(self._vae, self._all, self.images, chosen)

    def encode(self) -> Tensor:
        """The encoder's answer, parameters of q: [M, N, 2Z]; of all members."""
        x = [self.images[chunk] for chunk in self.chunks]
        return torch.cat([self._vae.encoder(part.expand(len(self._all), *part.shape)).float() for part in x], dim=1)

    def sampled_elbo(self, parameters: Tensor, noise: Tensor, chunk: slice) -> Tensor:
        """One-sample ELBO of the images of a chunk, nats: [A, n, 2Z] and [A, n, Z] -> [A, n]."""
        posterior = self._vae.posterior(parameters)
        decoded = self._decoder(posterior.sample(noise)).float()
        x = self.images[chunk].expand(len(self.chosen), *self.images[chunk].shape)
        return self._vae.likelihood.log_prob(decoded, x) - posterior.rate()

    def elbo(self, parameters: Tensor, noise: int, samples: int) -> Tensor:
        """ELBO of every image, nats, under the noise that is named ``noise``: [A, N, 2Z] -> [A, N]."""
        generators = self.generators(noise)
        total = parameters.new_zeros(parameters.shape[:2])
        for _ in range(samples):
            drawn = self.draw(generators, 1)[0]
            for chunk in self.chunks:
                total[:, chunk] += self.sampled_elbo(parameters[:, chunk], drawn[:, chunk], chunk)
        return total / samples

    def gradient(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Of minus the one-sample ELBO: [A, N, 2Z] and [A, N, Z] -> [A, N, 2Z].

        With u = -d log p(x|z) / dz, it is mean + u for the mean and std - 1/std + u * noise for the deviation, which
        is softplus(h) with the slope 1 - exp(-std), or exp(h) with the slope std. Only u needs backpropagation.
        """
        out = torch.empty_like(parameters)
        for chunk in self.chunks:
            mean, std = self._vae.posterior(parameters[:, chunk])
            eps = noise[:, chunk]
            with torch.enable_grad():
                z = torch.addcmul(mean, std, eps).requires_grad_()
                decoded = self._decoder(z)
            (u,) = torch.autograd.grad(decoded, z, self._minus_score(decoded.detach().float(), self.images[chunk]))
            slope = -torch.expm1(-std) if self._vae.spec.posterior_scale == "softplus" else std
            of_mean, of_h = out[:, chunk].chunk(2, dim=-1)
            torch.add(mean, u, out=of_mean)
            torch.mul(torch.addcmul(std - std.reciprocal(), u, eps), slope, out=of_h)
        return out

    def _minus_score(self, decoded: Tensor, x: Tensor) -> Tensor:
        """-d log p(x|z) / d decoded, [A, n, K, H, W]; decoded is overwritten."""
        likelihood = self._vae.likelihood
        if isinstance(likelihood, Bernoulli):  # in closed form, since softplus is half of a step's time
            return decoded.sigmoid_().sub_(x)
        with torch.enable_grad():
            total = likelihood.log_prob(decoded.requires_grad_(), x.expand(len(decoded), *x.shape)).sum()
        return torch.autograd.grad(total, decoded)[0].neg_()

    def generators(self, noise: int) -> list[torch.Generator]:
        """One a member, at the beginning of the noise that is named ``noise``."""
        seeds = [stream_seed(spec.seed, "amortization", noise) for spec in self.specs]
        return [torch.Generator(self.images.device).manual_seed(seed) for seed in seeds]

    def draw(self, generators: list[torch.Generator], count: int) -> Tensor:
        """Standard normal [count, A, N, Z], each member's from its own generator."""
        shape = (count, len(self.images), self._vae.spec.latent_dim)
        return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators], dim=1)


def _frozen(network: nn.Module, members: list[int]) -> nn.Module:
    """A copy of a network that holds these members alone and takes no gradients."""
    network = copy.deepcopy(network).requires_grad_(False)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data[members]
    return network


def _search(members: Members, start: Tensor, settings: Amortization) -> tuple[Tensor, list[int]]:
    """The best parameters of q found for every image, [M, N, 2Z], and the steps that each member took.

    A member that is done leaves the computation: its numbers stay as they are and cost nothing more.
    """
    found, best = start.clone(), members.elbo(start, LOOKS, settings.check_samples)
    at_start = before = best.double().mean(1)
    steps = [0] * len(start)
    generators = members.generators(STEPS)
    parameters, moments = start, None
    for first in range(0, settings.steps, settings.check_every):
        count = min(settings.check_every, settings.steps - first)
        parameters, moments = _adam(members, generators, parameters, moments, settings, first, count)
    return found, steps

"""The amortization gap: what is lost because one encoder answers for every image.

    G_a = mean over x in D_test of  max_q ELBO(x; q) - ELBO(x; q(z|x))         (xiao2024, Eq. 4), nats an image, >= 0

q runs over factorised Gaussians. For each image its mean and the number h that its standard deviation is made of are
optimised alone, from the encoder's answer on, by Adam on the ELBO with one fresh sample of z a step. Every few steps
is a look: the candidate is the mean of the parameters since the last look, which lies nearer to the optimum than the
last of them. The best candidate of a member, the encoder's answer among them, is the one with the best mean ELBO.

What a search of a few hundred steps misses is mostly the work of their noise, so two things keep that small. Every look
halves the step size, of all members alike. And the noise of twenty steps is a Latin hypercube: each step's by itself is
standard normal, but that of all twenty covers the normal distribution evenly. The part of the gap found at the defaults
on 300 digits, against 7000 steps of 0.003 and then 0.001 (fully-connected networks of width nc, 8 latent dimensions):

    nc, training images, epochs    gap, nats    found    steps    found by steps of 0.01, independent noise
    64, 300, 100                       0.168    0.989      500                                      0.903
    64, 300, 100, another seed         0.203    0.978      300                                      0.914
    64, 300, 100, beta 4               0.081    0.986      300                                      0.959
    64, 300, 100, augmented            0.142    0.976      400                                      0.887
    256, 1000, 200                     0.988    0.987      300                                      0.952
    256, 300, 600                      4.494    0.983      400                                      0.981

The last column took 300 to 500 steps too. A smaller tolerance finds more, in more steps.

Three sets of noise keep the estimate honest. The first drives the steps. The second, the same at every look, chooses
the candidate. The third chose nothing and measures how much better the chosen one is: without bias the gain of the q
found, which is below G_a by what the search missed. Its mean over the images is cut at zero. To keep the better of two
for each image costs on both sides: under the third noise, the luck of the draw would give an encoder that is exact a
gap; under the second, it chooses parameters that fit this noise and are worse under any other.

Letters: M members, A of them not done yet, N images, n of them in a chunk, S samples, Z latent dimensions.
"""

import copy
import math
from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.likelihoods import Bernoulli
from vaegen_ray.models.vae import MIN_STD, VAE, Posterior
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import Amortization
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.numerics import arithmetic

STEPS, LOOKS, GAP = 0, 1, 2
"""The three sets of noise, by their numbers in the trial's stream ``amortization``."""
STRATA = 20
"""Steps whose noise is drawn together: they share the intervals of a normal number out among them."""
LEAST_TAIL = 2.0**-22
"""Where a uniform number in [-1, 1] is cut, so that its normal number is finite: at 5.2 standard deviations."""


@torch.no_grad()
def amortization_gap(vae: VAE, specs: list[TrialSpec], test: Tensor, settings: Amortization) -> list[dict[str, float]]:
    """The gap, the ELBO with the q found, and how long the search was: a row a member.

    ``elbo_optimal`` is the ELBO of the encoder's answer on these images plus the gap, under the same noise;
    ``amortization_steps`` the number of Adam steps of the member. A member whose ELBO is not finite has a gap that is
    not finite either.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        test: uint8 [N, C, H, W], on the members' device.
        settings: how many of the images, and how the search goes.
    """
    vae.eval()
    with arithmetic("float32", test.device):
        members = Members(vae, specs, vae.likelihood.scale(test[: settings.images]), list(range(len(specs))))
        start = members.encode()
        found, steps = _search(members, start, settings)
        before, after = (members.elbo(q, GAP, settings.check_samples).double().mean(1) for q in (start, found))
    gaps = (after - before).clamp_min(0)
    return [
        {
            "amortization_gap": gap,
            "elbo_optimal": elbo + gap,
            "amortization_images": len(members.images),
            "amortization_steps": taken,
        }
        for gap, elbo, taken in zip(gaps.tolist(), before.tolist(), steps, strict=True)
    ]


class Members:
    """Some members of a VAE, with weights that take no gradient, and the images that they are measured on.

    The parameters q of the posteriors are [2, A, N, Z]: means, then the numbers h that deviations are made of.

    Args:
        vae: the M members.
        specs: their specifications.
        images: [N, C, H, W], scaled as the likelihood says.
        chosen: the A members out of M.
    """

    def __init__(self, vae: VAE, specs: list[TrialSpec], images: Tensor, chosen: list[int]) -> None:
        self.images = images
        self.chosen = chosen
        self._vae, self._specs = vae, specs
        self._decoder = _frozen(vae.decoder, chosen)
        size = max(1, CHUNK_BYTES // (len(chosen) * activation_bytes(vae.spec)))
        self.chunks = [slice(first, first + size) for first in range(0, len(images), size)]

    def only(self, chosen: list[int]) -> "Members":
        """These members of the VAE, on the same images."""
        return Members(self._vae, self._specs, self.images, chosen)

    def encode(self) -> Tensor:
        """The answer of the encoder, of all M members: q [2, M, N, Z]."""
        parts = (self.images[chunk] for chunk in self.chunks)
        answers = [self._vae.encoder(x.expand(len(self._specs), *x.shape)).float() for x in parts]
        return torch.stack(torch.cat(answers, dim=1).chunk(2, dim=-1))

    def elbo(self, q: Tensor, noise: int, samples: int) -> Tensor:
        """ELBO of every image, nats, under the noise that is named ``noise``: [2, A, N, Z] -> [A, N]."""
        generators = self.generators(noise)
        posterior = Posterior(q[0], self._deviation(q[1]))
        total = -samples * posterior.rate()
        for _ in range(samples):
            z = posterior.sample(self.draw(generators))
            for chunk in self.chunks:
                x = self.images[chunk].expand(len(z), *self.images[chunk].shape)
                total[:, chunk] += self._vae.likelihood.log_prob(self._decoder(z[:, chunk]).float(), x)
        return total / samples

    def gradient(self, q: Tensor, noise: Tensor) -> Tensor:
        """Of minus the one-sample ELBO: [2, A, N, Z] and [A, N, Z] -> [2, A, N, Z].

        With u = -d log p(x|z) / dz the mean has mean + u, and the standard deviation std - 1/std + u * noise, which
        reaches h through d std / dh. Only u needs a pass back through the decoder.
        """
        gradient = torch.empty_like(q)
        for chunk in self.chunks:
            mean, h, eps = q[0, :, chunk], q[1, :, chunk], noise[:, chunk]
            std = self._deviation(h)
            z = torch.addcmul(mean, std, eps).requires_grad_()
            with torch.enable_grad():
                decoded = self._decoder(z)
            (u,) = torch.autograd.grad(decoded, z, self._minus_score(decoded.detach(), self.images[chunk]))
            slope = std if self._vae.spec.posterior_scale == "log_std" else -torch.expm1(-std)
            torch.add(mean, u, out=gradient[0, :, chunk])
            torch.mul(torch.addcmul(std - std.reciprocal(), u, eps), slope, out=gradient[1, :, chunk])
        return gradient

    def _deviation(self, h: Tensor) -> Tensor:
        """The second half of ``VAE.posterior``, on numbers that lie side by side, where softplus is 20 times faster."""
        std = h.exp() if self._vae.spec.posterior_scale == "log_std" else F.softplus(h)
        return std.clamp_min_(MIN_STD)

    def _minus_score(self, decoded: Tensor, x: Tensor) -> Tensor:
        """-d log p(x|z) / d decoded: [A, n, K, H, W]."""
        likelihood = self._vae.likelihood
        if isinstance(likelihood, Bernoulli):  # softplus, whose value is not needed, takes as long as all the rest
            return decoded.sigmoid().sub_(x)
        with torch.enable_grad():
            total = likelihood.log_prob(decoded.requires_grad_().float(), x.expand(len(decoded), *x.shape)).sum()
        return torch.autograd.grad(total, decoded)[0].neg_()

    def generators(self, noise: int) -> list[torch.Generator]:
        """One a member, at the beginning of the noise that is named ``noise``."""
        seeds = [stream_seed(self._specs[member].seed, "amortization", noise) for member in self.chosen]
        return [torch.Generator(self.images.device).manual_seed(seed) for seed in seeds]

    def draw(self, generators: list[torch.Generator]) -> Tensor:
        """Standard normal [A, N, Z], each member's from its own generator."""
        shape = (len(self.images), self._vae.spec.latent_dim)
        return torch.stack([torch.randn(shape, generator=each, device=each.device) for each in generators])

    def draw_strata(self, generators: list[torch.Generator]) -> Tensor:
        """Standard normal [STRATA, A, N, Z], of every number one from each of STRATA equally probable intervals.

        A Latin hypercube (McKay, Beckman and Conover, 1979): all numbers of a member go through the intervals in one
        random order, and each begins at a place of its own, so the numbers of one [A, N, Z] are independent.
        """
        shape = (len(self.images), self._vae.spec.latent_dim)
        parts = []
        for each in generators:
            order = torch.randperm(STRATA, generator=each, device=each.device).float().repeat(2)
            begin = torch.randint(STRATA, shape, generator=each, device=each.device)
            interval = torch.stack([order[step : step + STRATA][begin] for step in range(STRATA)])
            within = torch.rand(STRATA, *shape, generator=each, device=each.device)
            uniform = within.add_(interval).mul_(2 / STRATA).sub_(1)  # in [-1, 1)
            parts.append(uniform.clamp_(LEAST_TAIL - 1, 1 - LEAST_TAIL).erfinv_().mul_(math.sqrt(2)))
        return torch.stack(parts, dim=1)


def _frozen(network: nn.Module, members: list[int]) -> nn.Module:
    """A copy of these members of a network, which takes no gradients."""
    network = copy.deepcopy(network).requires_grad_(False)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data[members]
    return network


class Search:
    """Adam on the ELBO of every image, each with parameters of its own.

    Attributes:
        members: those that are not done.
    """

    def __init__(self, members: Members, start: Tensor) -> None:
        self.members = members
        self._generators = members.generators(STEPS)
        self._begin(start)

    def _begin(self, q: Tensor) -> None:
        self._q = nn.Parameter(q.clone())
        self._adam = Adam([("q", self._q)], learning_rate=0.0)

    def climb(self, steps: int, learning_rate: float) -> Tensor:
        """Takes steps of this size; returns the mean of q after each of them, [2, A, N, Z].

        What a Latin hypercube has left over at the end is not used.
        """
        self._adam.learning_rate = learning_rate
        total = torch.zeros_like(self._q)
        for noise in islice(self._noise(), steps):
            self._q.grad = self.members.gradient(self._q, noise)
            self._adam.step()
            total += self._q
        return total / steps

    def _noise(self) -> Iterator[Tensor]:
        """For one step after another: [A, N, Z] each."""
        while True:
            yield from self.members.draw_strata(self._generators)

    def keep(self, rows: list[int]) -> None:
        """Goes on with these of its members alone."""
        self.members = self.members.only([self.members.chosen[row] for row in rows])
        self._generators = [self._generators[row] for row in rows]
        state = {name: tensor[:, rows] if tensor.dim() else tensor for name, tensor in self._adam.state().items()}
        self._begin(self._q[:, rows])
        self._adam.load_state(state)


def _search(members: Members, start: Tensor, settings: Amortization) -> tuple[Tensor, list[int]]:
    """The best q found, [2, M, N, Z], and the steps that each member took.

    A member is done when its mean ELBO has risen since the last look by less than ``tolerance`` times what it is above
    the encoder's, from the second look on, or is not finite. It leaves the computation: its numbers stay as they are
    and cost nothing more.
    """
    found, steps = start.clone(), [0] * start.shape[1]
    at_start = members.elbo(start, LOOKS, settings.check_samples).double().mean(1).tolist()
    best, before = list(at_start), list(at_start)
    search, learning_rate = Search(members, start), settings.learning_rate
    for first in range(0, settings.steps, settings.check_every):
        last = min(first + settings.check_every, settings.steps)
        candidate, members = search.climb(last - first, learning_rate), search.members
        learning_rate = max(learning_rate / 2, settings.last_learning_rate)
        elbos = members.elbo(candidate, LOOKS, settings.check_samples).double().mean(1).tolist()
        rows = []
        for row, (member, elbo) in enumerate(zip(members.chosen, elbos, strict=True)):
            steps[member] = last
            if elbo > best[member]:
                best[member], found[:, member] = elbo, candidate[:, row]
            least = settings.tolerance * max(0.0, elbo - at_start[member])
            if math.isfinite(elbo) and (first == 0 or elbo - before[member] > least):
                rows.append(row)
            before[member] = elbo
        if not rows:
            break
        if len(rows) < len(elbos):
            search.keep(rows)
    return found, steps

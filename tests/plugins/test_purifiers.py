"""Purifiers with weights of their own: closed forms where there are any, and whose weights learn in which turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmark_plugins.defenses._purifiers.denoiser import Denoiser
from benchmark_plugins.defenses._purifiers.variational import Variational
from benchmark_plugins.defenses.class_manifold import ClassManifold, Manifolds, Subspaces, closest
from benchmark_plugins.defenses.defense_gan import DefenseGAN, Generated, nearest_output
from benchmark_plugins.defenses.denoising_autoencoder import Autoencoder, DenoisingAutoencoder
from benchmark_plugins.defenses.diffusion_purification import Denoising, DiffusionPurification
from benchmark_plugins.defenses.vae_purification import VAEPurification
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from benchmark.api import Batch, DataSpec, Defense, Examples, Loss, SampleRandom, System
from benchmark.errors import ConfigError
from benchmark.stages.fit import built
from benchmark.system import records_gradients

SPEC = DataSpec((1, 8, 8), 10)


def _digits() -> tuple[Examples, Tensor]:
    digits = load_digits()
    x, y = torch.from_numpy(digits.data / 16.0).float(), torch.from_numpy(digits.target).long()
    return Examples.of(torch.arange(1297), x[:1297].reshape(-1, 1, 8, 8), y[:1297]), x[1297:]


TRAIN, TEST = _digits()
RNG = SampleRandom(0, torch.arange(len(TEST)))


class Identity(nn.Module):
    """The flattened input in place of logits: what a purifier gives can be read off."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def _fit(module: nn.Module, train: Examples, loss: Loss) -> None:
    """A hundred steps of Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for at in torch.arange(100 * 100).remainder(len(train)).split(100):
        optimizer.zero_grad()
        loss(module, Batch(train.ids[at], train.x(at), train.y[at])).backward()
        optimizer.step()


def _built(defense: Defense) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return built(Identity(), SPEC, (defense,))


def _purified(defense: Defense, model: nn.Module, x: Tensor) -> Tensor:
    return System(model, SPEC, (defense,)).logits(x.reshape(-1, 1, 8, 8), RNG)


@pytest.mark.parametrize(
    ("defense", "share"),
    [
        (DenoisingAutoencoder(sigma=0.1, width=64), 0.45),
        (VAEPurification(width=64), 0.45),
        (ClassManifold(width=64), 0.45),
        (ClassManifold(Manifolds.pca, latent=8), 0.45),
    ],
    ids=["denoising", "vae", "class_vae", "class_pca"],
)
def test_an_unfitted_purifier_is_the_identity_and_a_fitted_one_reconstructs_digits(
    defense: Defense, share: float
) -> None:
    model = _built(defense)
    assert torch.equal(_purified(defense, model, TEST), TEST)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        defense.finish(model, TRAIN, _fit)
    found = _purified(defense, model, TEST)
    assert bool(((found >= 0) & (found <= 1)).all())
    error = float((found - TEST).square().sum() / (TEST - TEST.mean(0)).square().sum())
    assert 0.0 < error < share  # of the variance of inputs that it has not seen


def test_the_loss_of_the_denoiser_is_the_error_of_noisy_inputs() -> None:
    """A network that gives 1/2 whatever it is given errs by the distance of the clean inputs to 1/2."""
    defense = DenoisingAutoencoder()
    network = Autoencoder(64, 4, 2)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    batch = Batch(TRAIN.ids[:50], TRAIN.x(torch.arange(50)), TRAIN.y[:50])
    torch.testing.assert_close(defense._error(network, batch), (batch.x - 0.5).square().mean())


def test_the_evidence_bound_has_the_divergence_of_torch_and_the_cross_entropy() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Variational(6, 2, 8, classes=3)
    x, given, noise = torch.rand(5, 6), torch.eye(3)[[0, 1, 2, 0, 1]], torch.randn(5, 2)
    mean, log_variance = network.encoded(x, given)
    deviation = (0.5 * log_variance).exp()
    divergence = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1)
    p = network.decoded(mean + deviation * noise, given).sigmoid()
    cross_entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
    torch.testing.assert_close(network.loss(x, x, given, noise, 0.5), (0.5 * divergence + cross_entropy).mean() / 6)
    assert not torch.equal(network.reconstructed(x, given), network.reconstructed(x, given.roll(1, 1)))


# --- the trained denoiser of diffusion purification ---


def test_without_its_network_the_denoiser_shrinks_and_its_loss_is_known() -> None:
    """A network that gives 0 leaves skip * x, whose error in its own units is that of skip * (x + sigma n) - x."""
    network = Denoiser(SPEC, 4)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    x = TEST[:5].reshape(-1, 1, 8, 8)
    torch.testing.assert_close(network.denoised(x, 0.5), 0.5 * x)
    torch.testing.assert_close(network.denoised(x, 1e-4), x, rtol=0, atol=1e-6)
    batch = Batch(torch.arange(20_000), torch.full((20_000, 1, 8, 8), 0.5), torch.zeros(20_000).long())
    # With x = s = 1/2: weight (skip (x + sigma n) - x)^2 = (sigma^2 x^2 + s^4 E n^2) / (s^2 (sigma^2 + s^2)) = 1
    assert abs(float(network.loss(batch).detach()) - 1.0) < 0.01


def test_the_trained_denoiser_comes_near_to_the_exact_one() -> None:
    errors = {}
    for denoiser in Denoising:
        defense = DiffusionPurification(0.3, noise=False, denoiser=denoiser, examples=1297, width=128, votes=1)
        model = _built(defense)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            defense.finish(model, TRAIN, _fit)
        noisy = TEST + 0.3 * RNG.normal(64, stream="noise")
        errors[denoiser] = float((_purified(defense, model, noisy) - TEST).square().mean())
    assert errors[Denoising.exact] < 0.5 * 0.3**2
    assert errors[Denoising.network] < 0.7 * 0.3**2


# --- class manifolds ---


def test_linear_manifolds_are_the_principal_subspaces_of_each_class_and_purify_once() -> None:
    spaces = Subspaces(64, 10, 5)
    spaces.keep(TRAIN)
    found = spaces.projections(TEST)
    for label in range(10):
        pca = PCA(5).fit(TRAIN.x()[TRAIN.y == label].flatten(1).double().numpy())
        expected = torch.from_numpy(pca.inverse_transform(pca.transform(TEST.double().numpy()))).float()
        torch.testing.assert_close(found[:, label], expected, rtol=0, atol=1e-5)
    once = closest(TEST, found, 0.0)
    torch.testing.assert_close(closest(once, spaces.projections(once), 0.0), once, rtol=0, atol=1e-5)


def test_a_class_with_fewer_examples_than_dimensions_and_one_without() -> None:
    spaces = Subspaces(64, 12, 5)
    spaces.keep(TRAIN.take(torch.tensor([0, 10])))  # two zeros, and nothing of the other labels
    found = spaces.projections(TRAIN.x(torch.tensor([0, 10])).flatten(1))
    torch.testing.assert_close(found[:, 0], TRAIN.x(torch.tensor([0, 10])).flatten(1), rtol=0, atol=1e-5)
    assert int((spaces.basis[0].norm(dim=0) > 0).sum()) == 1
    assert float(spaces.basis[1:].abs().sum()) == 0.0


def test_the_closest_projection_is_taken_and_a_temperature_mixes_them() -> None:
    x = torch.zeros(1, 2)
    projections = torch.tensor([[[1.0, 0.0], [0.0, 0.5], [2.0, 2.0]]])
    assert closest(x, projections, 0.0).tolist() == [[0.0, 0.5]]
    weights = torch.tensor([-1.0, -0.25, -8.0]).div(0.5).softmax(0)
    torch.testing.assert_close(closest(x, projections, 0.5), weights @ projections)
    torch.testing.assert_close(closest(x, projections, 1e-3), torch.tensor([[0.0, 0.5]]))
    (smooth,) = ClassManifold().smoother()
    assert smooth == ClassManifold(temperature=1.0)


# --- Defense-GAN ---


def test_the_search_in_a_linear_generator_ends_at_least_squares() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 12, generator=draw), torch.randn(12, generator=draw)
    x = torch.randn(5, 12, generator=draw)
    expected = (x - b) @ torch.linalg.pinv(a) @ a + b
    starts = torch.randn(5, 4, 3, generator=draw)
    found = nearest_output(lambda z: z @ a + b, x, starts, steps=300, learning_rate=0.3, momentum=0.7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not found.requires_grad


def test_the_best_of_the_starts_is_kept_by_each_input() -> None:
    """Two valleys of z -> z^2 - 1 lead to -1 and to large values; with no step the starts themselves are compared."""
    starts = torch.tensor([[[0.0], [2.0], [1.0]], [[0.0], [2.0], [1.0]]])
    x = torch.tensor([[2.9], [0.1]])
    found = nearest_output(lambda z: z**2 - 1, x, starts, steps=1, learning_rate=1e-9, momentum=0.0)
    torch.testing.assert_close(found, torch.tensor([[3.0], [0.0]]))


def test_critic_and_generator_learn_by_turns_and_the_penalty_is_that_of_a_linear_critic() -> None:
    defense = DefenseGAN(critic_steps=2)
    generated = Generated(64, 32, 4)
    generated.critic = nn.Sequential(nn.Linear(64, 1))
    batch = Batch(TRAIN.ids[:20], TRAIN.x(torch.arange(20)), TRAIN.y[:20])
    learns = []
    for _ in range(6):
        generated.zero_grad(set_to_none=True)
        loss = defense._game(generated, batch)
        loss.backward()
        learns.append(tuple(p.weight.grad is not None for p in (generated.critic[0], generated.generator[0])))
    assert learns == [(True, False), (True, False), (False, True)] * 2
    assert int(generated.turn) == 6
    generated.turn.zero_()
    with torch.no_grad():
        generated.critic[0].weight.fill_(3.0 / 8.0)  # of norm 3
        for parameter in generated.generator.parameters():
            parameter.zero_()  # so that every fake is grey
    expected = 3.0 / 8.0 * (0.5 - batch.x).flatten(1).sum(1).mean() + 10.0 * (3.0 - 1.0) ** 2
    torch.testing.assert_close(defense._game(generated, batch).detach(), expected)


def test_defense_gan_declares_and_counts_its_search() -> None:
    defense = DefenseGAN(steps=3, restarts=2)
    model = _built(defense)
    defense.finish(model, TRAIN, lambda *_: None)
    system = System(model, SPEC, (defense,))
    x, rng = TEST[:4].reshape(-1, 1, 8, 8), SampleRandom(0, torch.arange(4))
    assert records_gradients(system, x, rng)
    assert (system.optimizes, system.passes) == (True, 1 + 3 * 2)
    assert defense.passes(5) == 5 + 3 * 2
    assert not records_gradients(system.undefended(), x, rng)


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (DenoisingAutoencoder, {"code": 0}, r"denoising_autoencoder has sigma 0\.2, width 256 and code 0; expected"),
        (VAEPurification, {"latent": 0}, r"vae_purification has latent 0, .*; expected layers of at least 1 unit"),
        (VAEPurification, {"beta": -1.0}, r"vae_purification\.beta is -1\.0; expected a weight of at least 0"),
        (ClassManifold, {"beta": -1.0}, r"class_manifold\.beta is -1\.0; expected a weight of at least 0"),
        (ClassManifold, {"temperature": -1.0}, r"class_manifold has .* temperature -1\.0; expected .* at least 0"),
        (
            DiffusionPurification,
            {"width": 0},
            r"diffusion_purification\.width is 0; expected layers of at least",
        ),
        (DefenseGAN, {"restarts": 0}, r"defense_gan\.restarts is 0; expected at least 1"),
        (DefenseGAN, {"momentum": 1.0}, r"defense_gan\.momentum is 1\.0; expected a positive rate and a momentum in"),
    ],
)
def test_senseless_settings_are_refused(make: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(**settings)

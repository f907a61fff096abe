"""The first attacks, against exact distances, published accuracies, closed forms and models with known answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks._base.active import Active, AttackLoss
from benchmark_plugins.attacks._base.losses import ce, dlr, margin
from benchmark_plugins.attacks._minimal.box_steps import step_to_hyperplanes
from benchmark_plugins.attacks.bim import BIM, kurakin_steps
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.noise import Noise, NoiseKind
from benchmark_plugins.attacks.none import NoAttack
from benchmark_plugins.attacks.pgd import PGD, ascend
from scipy.optimize import linprog
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Attack, Classification
from benchmark.data import DataSpec
from benchmark.errors import ConfigError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.toys import Sphere
from benchmark.threat import Norm, Region, RegionKind, Threat
from benchmark.threat.ball import distance
from tests.plugins.attacked_digits import DIGITS, EXACT, METHODS, Result, attack, robust

# --- passes foretold for `dry_run=true` ---


def foretelling() -> list[Attack]:
    """Attacks on classifiers whose settings tell their passes, as installed and in other settings."""
    made: list[Any] = [registry.load("attack", name) for name in registry.names("attack")]
    told = [cls for cls in made if cls.forwards is not Attack.forwards and cls.supports.bounded]
    plain = [cls() for cls in told if Classification.name in cls.tasks]
    others = [
        PGD(steps=3, restarts=2),
        PGD(steps=3, restarts=2, stop_on_success=False),
        Noise(restarts=3),
        BIM(steps=4),
    ]
    return [*plain, *others]


@pytest.mark.parametrize("method", foretelling(), ids=repr)
def test_an_example_that_holds_takes_the_passes_foretold_or_one_less(method: Attack) -> None:
    threat = Threat(Norm.linf, Fraction(1, 1000))
    images: dict[str, Any] = {"model": nn.Sequential(nn.Flatten(), DIGITS.model()), "x": DIGITS.x.reshape(-1, 1, 8, 8)}
    found = attack(method, threat.norm, "1/1000", rows=EXACT[Norm.linf].argsort(descending=True)[:4], **images)
    most = method.forwards(threat)
    assert most is not None
    assert found.broken.any() or set(found.ledger.forwards.tolist()) <= {most, most - 1}
    assert int(found.ledger.forwards.max()) <= most


# --- what is known of the digits ---


@pytest.mark.parametrize(
    ("norm", "eps", "accuracy"),
    [
        *zip(
            [Norm.linf] * 6, (0.02, 0.05, 0.1, 0.15, 0.2, 0.3), (0.834, 0.776, 0.640, 0.470, 0.254, 0.000), strict=True
        ),
        *zip([Norm.l2] * 3, (0.25, 0.5, 1), (0.772, 0.648, 0.282), strict=True),
    ],
)
def test_fgsm_has_its_known_accuracy(norm: Norm, eps: float, accuracy: float) -> None:
    assert robust(attack(FGSM(), norm, eps)) == accuracy


@pytest.mark.parametrize(("eps", "exact"), [(0.02, 0.832), (0.05, 0.766), (0.1, 0.622), (0.15, 0.398), (0.2, 0.126)])
def test_pgd_with_the_margin_reaches_the_exact_robust_accuracy(eps: float, exact: float) -> None:
    found = robust(attack(PGD(steps=10, restarts=50, loss=AttackLoss.margin), eps=eps))
    assert exact <= found <= exact + 0.004


@pytest.mark.parametrize("norm", [Norm.l2, Norm.l1])
@pytest.mark.parametrize("quantile", [0.3, 0.7])
def test_pgd_comes_close_in_l2_and_l1(norm: Norm, quantile: float) -> None:
    eps = round(float(EXACT[norm][EXACT[norm] > 0].quantile(quantile)), 3)
    found = robust(attack(PGD(steps=20, restarts=20, loss=AttackLoss.margin), norm, eps))
    exact = DIGITS.robust_accuracy(norm, eps)
    assert exact <= found <= exact + 0.02


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("norm", list(Norm))
def test_no_attack_breaks_what_is_out_of_reach(method: Attack, norm: Norm) -> None:
    if norm not in method.supports.norms:
        pytest.skip("not one of its norms")
    eps = {Norm.linf: 0.12, Norm.l2: 0.6, Norm.l1: 1.6, Norm.l0: 2}[norm]
    result = attack(method, norm, eps)
    assert bool((EXACT[norm][result.rows][result.broken] <= eps * (1 + 1e-5)).all())
    if not isinstance(method, (NoAttack, Noise)):
        assert int(result.broken.sum()) > 50


@pytest.mark.parametrize("norm", [Norm.l2, Norm.linf])
def test_deepfool_finds_nearly_the_smallest_perturbation(norm: Norm) -> None:
    result = attack(DeepFool(), norm)
    assert bool(result.broken.all())
    ratio = distance(result.x_adv, result.x, norm) / EXACT[norm][result.rows]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.001
    assert float(ratio.mean()) <= 1.005
    assert float(ratio.max()) <= 1.01


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
@pytest.mark.parametrize("norm", [Norm.l2, Norm.linf])
def test_deepfool_works_on_two_and_three_classes(name: str, norm: Norm) -> None:
    problem = nearest_class_mean(name)
    result = attack(DeepFool(), norm, model=problem.model(), x=problem.x, y=problem.y, classes=len(problem.weight))
    assert bool(result.broken.all())
    ratio = distance(result.x_adv, result.x, norm) / problem.distance(norm)[result.rows]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.002


@pytest.mark.parametrize("norm", [Norm.l2, Norm.linf])
def test_deepfool_without_half_steps_and_search_is_the_papers(norm: Norm) -> None:
    """Inside the box the paper's result on a linear model is 1 + overshoot times the exact distance."""
    weight, centre = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]), torch.full((4, 3), 0.5)
    x = centre + torch.tensor([[0.05, 0.0, 0.02], [0.1, -0.04, 0.0], [-0.01, -0.05, 0.0], [0.0, -0.1, 0.1]])
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.copy_(torch.tensor([0.25, 0.0]))
    gap = x @ weight[0] + 0.25
    exact = gap / (weight[0].norm() if norm is Norm.l2 else weight[0].abs().sum())
    result = attack(
        DeepFool(halved=0, search_steps=0), norm, model=model, x=x, y=torch.zeros(4, dtype=torch.int64), classes=2
    )
    assert bool(result.broken.all())
    torch.testing.assert_close(distance(result.x_adv, result.x, norm).float(), 1.02 * (exact + 1e-4), rtol=1e-4, atol=0)
    assert result.ledger.forwards.tolist() == [2] * 4
    assert result.ledger.backwards.tolist() == [1] * 4


def test_deepfool_crosses_a_sphere_along_the_radius() -> None:
    centre = torch.full((16,), 0.5)
    direction = nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    depth = torch.linspace(0.02, 0.25, 9)
    x = centre + (0.3 - depth)[:, None] * direction
    result = attack(DeepFool(), Norm.l2, model=Sphere(centre, 0.3), x=x, y=torch.zeros(9, dtype=torch.int64), classes=2)
    assert bool(result.broken.all())
    torch.testing.assert_close(distance(result.x_adv, result.x, Norm.l2).float(), depth, rtol=2e-3, atol=0)


def test_steps_to_planes_are_exact_in_the_box() -> None:
    from benchmark.oracles.linear import half_space_distance

    draw = torch.Generator().manual_seed(3)
    slope = torch.randn(30, 4, 12, generator=draw, dtype=torch.float64)
    x = (torch.rand(30, 12, generator=draw, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    need = torch.rand(30, 4, generator=draw, dtype=torch.float64) * 5.0 + 0.01
    for norm in (Norm.l2, Norm.linf):
        delta, size = step_to_hyperplanes(slope, need, x, norm)
        exact = torch.stack([half_space_distance(slope[:, k], need[:, k], x, norm) for k in range(4)], 1)
        torch.testing.assert_close(size, exact)
        assert int(torch.isinf(size).sum()) > 5
        reached = (slope * delta).sum(2)
        torch.testing.assert_close(reached[torch.isfinite(size)], need[torch.isfinite(size)])
        assert bool(((x[:, None] + delta >= -1e-12) & (x[:, None] + delta <= 1 + 1e-12)).all())


# --- steps, restarts, passes ---


def test_kurakins_number_of_iterations() -> None:
    assert [kurakin_steps(e / 255) for e in (0, 0.5, 1, 2, 8, 16, 32)] == [1, 1, 1, 2, 10, 20, 36]
    result = attack(BIM(stop_on_success=False), eps="8/255")
    assert result.ledger.forwards.unique().tolist() == [10]


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1])
def test_bim_with_one_full_step_is_fgsm_bit_for_bit(norm: Norm) -> None:
    eps = {Norm.linf: 0.1, Norm.l2: 0.5, Norm.l1: 1.5}[norm]
    one = attack(BIM(steps=1, step_size=eps), norm, eps)
    assert torch.equal(one.x_adv, attack(FGSM(), norm, eps).x_adv)
    assert one.ledger.forwards.unique().tolist() == one.ledger.backwards.unique().tolist() == [1]


def test_fgsm_moves_by_eps_or_not_at_all() -> None:
    x = torch.rand(20, 64, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    result = attack(FGSM(), eps=0.125, x=x, y=DIGITS.logits(x).argmax(1))
    size = (result.x_adv - result.x).abs()
    assert bool(((size - 0.125).abs() < 1e-6).logical_or(size == 0).all())
    never = (DIGITS.weight == DIGITS.weight[0]).all(0)  # pixels that no class uses
    assert bool((size[:, never] == 0).all())
    assert bool((size[:, ~never] > 0).float().mean() > 0.95)


def test_one_l1_step_goes_to_the_steepest_feature_with_room() -> None:
    result = attack(FGSM(AttackLoss.margin), Norm.l1, 0.05)
    changed = (result.x_adv != result.x).sum(1)
    assert changed.unique().tolist() == [1]


@pytest.mark.parametrize("side", [8, 4])
def test_one_l1_step_is_the_steepest_in_the_box(side: int) -> None:
    x = DIGITS.x[::200].float()
    y, allowed = DIGITS.logits(x).argmax(1), torch.zeros(8, 8)
    allowed[4 - side // 2 : 4 + side // 2, 4 - side // 2 : 4 + side // 2] = 1
    region = Region(RegionKind.square, side)
    result = attack(FGSM(AttackLoss.margin), Norm.l1, 3, x=x.reshape(-1, 1, 8, 8), y=y, region=region)
    rival = DIGITS.logits(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    slope = DIGITS.weight[rival] - DIGITS.weight[y]
    rooms = torch.cat([1 - x, x], 1) * allowed.flatten().repeat(2)  # of a change up, and of a change down
    for row, delta in enumerate((result.x_adv - result.x).flatten(1)):
        bounds = [(0, room) for room in rooms[row].tolist()]
        best = linprog(torch.cat([-slope[row], slope[row]]).numpy(), A_ub=[[1.0] * 128], b_ub=[3.0], bounds=bounds)
        assert float((slope[row] * delta).sum()) == pytest.approx(-best.fun, abs=1e-5)


def test_passes_are_what_the_methods_promise() -> None:
    result = attack(PGD(steps=7, restarts=3, stop_on_success=False))
    assert result.ledger.forwards.unique().tolist() == [7 * 3 + 3]
    assert result.ledger.backwards.unique().tolist() == [21]
    alone = attack(PGD(steps=7, stop_on_success=False))
    assert alone.ledger.forwards.unique().tolist() == alone.ledger.backwards.unique().tolist() == [7]
    stopping = attack(PGD(steps=7, restarts=3))
    spent = stopping.ledger.forwards
    assert spent[~stopping.broken].unique().tolist() == [7 * 3 + 2]
    assert float(spent[stopping.broken].double().mean()) < 12
    assert bool((stopping.ledger.backwards <= spent).all())
    assert attack(Noise(restarts=4)).ledger.forwards.unique().tolist()[-1] == 3
    assert attack(Noise()).ledger.forwards.unique().tolist() == [0]


def test_stopping_at_success_breaks_the_same_examples() -> None:
    for eps in (0.05, 0.15):
        stopping, running = (attack(PGD(steps=20, stop_on_success=stop), eps=eps) for stop in (True, False))
        assert bool((stopping.broken | ~running.broken).all())
        assert int((stopping.broken & ~running.broken).sum()) <= 5  # the path left the broken region again
        assert int(stopping.ledger.forwards.sum()) < int(running.ledger.forwards.sum())


def test_restarts_steps_and_radius_never_lose_a_success() -> None:
    def chain(results: list[Result]) -> None:
        for less, more in itertools.pairwise(results):
            assert bool((more.broken | ~less.broken).all())
        assert int(results[-1].broken.sum()) > int(results[0].broken.sum())

    chain([attack(PGD(steps=5, restarts=n), eps=0.15) for n in (1, 2, 3, 8)])
    chain([attack(PGD(steps=5, restarts=n, stop_on_success=False), eps=0.15) for n in (2, 3, 8)])
    chain([attack(PGD(steps=n, step_size=0.02), eps=0.15) for n in (3, 4, 10, 30)])
    chain([attack(BIM(steps=n, step_size=0.02), eps=0.15) for n in (3, 4, 10)])
    chain([attack(Noise(restarts=n), eps=0.4) for n in (1, 2, 20)])


@pytest.mark.parametrize("method", [FGSM(), BIM(), PGD(restarts=3), Noise(restarts=9), DeepFool()], ids=str)
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_the_query_budget_is_kept_and_used(method: Attack, queries: int) -> None:
    free = attack(method, eps=0.15)
    result = attack(method, eps=0.15, queries=queries)
    assert bool((result.ledger.forwards <= queries).all())
    # DeepFool may save its last query: an iteration needs two
    least = torch.minimum(free.ledger.forwards, torch.tensor(queries)) - int(isinstance(method, DeepFool))
    assert bool((result.ledger.forwards >= least).all())


# --- noise, losses, values ---


def test_noise_has_the_size_it_says() -> None:
    x = torch.full((200, 64), 0.5)
    y = DIGITS.logits(x).argmax(1)

    def delta(kind: NoiseKind, norm: Norm, eps: float) -> Tensor:
        result = attack(Noise(kind), norm, eps, x=x, y=y)
        return (result.x_adv - result.x).double()

    uniform = delta(NoiseKind.uniform, Norm.linf, 0.2)
    assert float(uniform.abs().max()) <= 0.2 + 1e-6
    assert float(uniform.abs().mean()) == pytest.approx(0.1, abs=3 * 0.2 / 12**0.5 / (200 * 64) ** 0.5)
    for kind in (NoiseKind.uniform, NoiseKind.gaussian):
        assert delta(kind, Norm.l2, 0.5).norm(dim=1).tolist() == pytest.approx([0.5] * 200, abs=1e-6)
        assert delta(kind, Norm.l1, 2).abs().sum(1).tolist() == pytest.approx([2.0] * 200, abs=1e-5)
        assert (delta(kind, Norm.l0, 3) != 0).sum(1).tolist() == [3] * 200
    assert float((delta(NoiseKind.gaussian, Norm.linf, 0.2).abs() > 0.2 - 1e-6).double().mean()) == pytest.approx(
        0.3173, abs=0.02
    )
    assert 0.86 <= robust(attack(Noise(), eps=0.1)) <= 0.87


def test_losses_have_their_closed_forms() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [4.0, -1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 0])
    assert margin(logits, y).tolist() == [2.0, -4.0]
    assert dlr(logits, y).tolist() == pytest.approx([1.0, -4.0 / 5.0])
    plain = nn.functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(ce(logits, y).exp().log1p(), plain)
    (ours,) = torch.autograd.grad(ce(logits, y).sum(), logits)
    (theirs,) = torch.autograd.grad(plain.sum(), logits, retain_graph=True)
    wrong = 1.0 - logits.softmax(1).gather(1, y[:, None])
    torch.testing.assert_close(ours * wrong, theirs)
    two = logits[:, :2]
    assert torch.equal(dlr(two, y), margin(two, y))
    four = torch.tensor([[1.0, 5.0, 3.0, -1.0]], dtype=torch.float64)
    assert dlr(four, torch.tensor([0]), targeted=True).tolist() == pytest.approx([-4.0 / (5.0 - (1.0 - 1.0) / 2.0)])
    assert torch.equal(dlr(logits, y, targeted=True), -margin(logits, y))
    for loss in (ce, margin, dlr):
        assert torch.autograd.gradcheck(lambda z, f=loss: f(z, y), logits)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PGD(steps=0), "attack.steps is 0; expected at least 1"),
        (lambda: PGD(restarts=0), "attack.restarts is 0; expected at least 1"),
        (lambda: PGD(step_size=-0.1), "attack.step_size is -0.1; expected more than 0, in units of the"),
        (lambda: PGD(restarts=2, random_start=False), "all restarts would be identical: set random_start to true"),
        (lambda: BIM(steps=0), "attack.steps is 0; expected at least 1"),
        (lambda: Noise(restarts=0), "attack.restarts is 0; expected at least 1"),
        (lambda: DeepFool(candidates=1), "attack.candidates is 1; expected at least 2"),
        (lambda: DeepFool(overshoot=-1.0), "attack.overshoot is -1.0; expected a share of at least 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Callable[[], Attack], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def test_a_loss_is_any_function_of_the_logits_and_their_rows() -> None:
    """The divergence from the clean answers (TRADES): one step is the sign of its gradient, and rows find their own."""
    x, y, model = DIGITS.x[:40].double(), DIGITS.y[:40], DIGITS.model().double()
    reference = model(x).detach().softmax(1)

    def divergence(logits: Tensor, rows: Active) -> Tensor:
        clean = reference[rows.index]
        apart: Tensor = (clean * (clean.log() - logits.log_softmax(1))).sum(1)
        return apart

    def ascended(index: Tensor, steps: int, *, settle: bool) -> Tensor:
        rng = SampleRandom(0, index.clone())
        system = System(model, DataSpec(tuple(x.shape[1:]), 10))
        target = Target(system.protected, rng=SampleRandom(0, torch.arange(40)), classes=10)
        active = Active.of(target, Threat(Norm.linf, Fraction(1, 5)).around(x, rng), y, targeted=False).rows(index)
        start = (x + 0.05 * SampleRandom(1, torch.arange(40)).signs(*x.shape[1:], stream="start")).clamp(0.0, 1.0)
        options = {"steps": steps, "step_size": 0.05, "settle": settle}
        x_adv: Tensor = ascend(active, start[index], loss=divergence, **options)[0]
        return x_adv

    everyone = torch.arange(40)
    leaf = ascended(everyone, 0, settle=False).requires_grad_()
    change = (reference * -model(leaf).log_softmax(1)).sum()
    (gradient,) = torch.autograd.grad(change, leaf)
    moved = (leaf + 0.05 * gradient.sign()).detach().clamp(0.0, 1.0)
    torch.testing.assert_close(ascended(everyone, 1, settle=False), moved.clamp(x - 0.2, x + 0.2))
    together = ascended(everyone, 12, settle=True)
    alone = torch.cat([ascended(one, 12, settle=True) for one in everyone.split(1)])
    assert torch.equal(together, alone)
    assert bool((model(together).argmax(1) != y).any())

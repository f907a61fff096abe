"""Faces: scikit-image's patches, R-Net with its published weights and without, and the generator that attacks it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks.generator import Generator
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.datasets.faces import Faces
from benchmark_plugins.models import rnet
from benchmark_plugins.models.rnet import RNet
from torch import Tensor

from benchmark.api import Attack
from benchmark.data import DataSpec, Splits
from benchmark.errors import DataError, MissingPackage, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Norm, Region, RegionKind, Threat
from benchmark.threat.ball import rows_norm

WHEEL = Path(os.environ.get("FACENET_PYTORCH", "data/facenet_pytorch-2.6.0-py3-none-any.whl"))
"""The wheel with the published weights, from `pip download --no-deps facenet-pytorch`."""

LINEAR = DataSpec((1, 6, 6), 2)


def attacked(attack: Attack, system: System, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Candidates for `x`; an attack that prepares something does so from the same examples."""
    rng = SampleRandom(0, torch.arange(len(x)))
    made = None
    if isinstance(attack, Generator):
        target = Target(system, rng=rng, classes=system.spec.classes)
        made = attack.prepare(target, x, y, threat=threat, rng=rng)
        assert target.ledger.forwards.unique().tolist() == [attack.epochs]
    target = Target(system, rng=rng, classes=system.spec.classes, prepared=made)
    x_adv = attack.perturb(target, x, y, threat=threat, rng=rng)
    assert threat.around(x, rng).audit(x_adv).inside.all()
    if made is not None:
        assert int(target.ledger.forwards.sum()) == 0
    return x_adv


@pytest.fixture(scope="module")
def patches() -> Splits:
    pytest.importorskip("skimage")
    loaded: Splits = Faces().load(Path(), offline=True)
    return loaded


@pytest.fixture(scope="module")
def published(patches: Splits) -> System:
    """R-Net as it was published."""
    if not WHEEL.is_file():
        pytest.skip(f"{WHEEL} is missing: pip download --no-deps facenet-pytorch, and set FACENET_PYTORCH to the wheel")
    model = RNet(str(WHEEL))
    module, weights = model.build(patches.spec), model.pretrained(patches.spec)
    assert weights is not None
    module.load_state_dict(weights)
    return System(module, patches.spec)


def everyone(patches: Splits) -> tuple[Tensor, Tensor]:
    parts = (patches.train, patches.select, patches.test)
    return torch.cat([part.x() for part in parts]), torch.cat([part.y for part in parts])


# --- the patches ---


def test_faces_and_others_are_shared_out_evenly(patches: Splits) -> None:
    parts = (patches.train, patches.select, patches.test)
    assert [torch.bincount(part.y).tolist() for part in parts] == [[40, 40], [10, 10], [50, 50]]
    assert sorted(torch.cat([part.ids for part in parts]).tolist()) == list(range(200))
    assert all(bool((part.y == (part.ids < 100)).all()) for part in parts)
    x = patches.train.x()
    assert torch.equal(x[:, :1].expand_as(x), x)
    assert patches.spec.mean == pytest.approx([float(x.mean())] * 3, abs=1e-4)
    assert patches.spec.std == pytest.approx([float(x.std())] * 3, abs=1e-4)


def test_other_patches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("skimage.data")
    good = data.lfw_subset()
    monkeypatch.setattr(data, "lfw_subset", lambda: good + 1e-9)
    with pytest.raises(DataError, match=r"lfw_subset has sha256 .*, expected ce1ab433"):
        Faces().load(Path(), offline=True)


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(MissingPackage, match=r"pip install 'adversarial-benchmark\[faces\]'"):
        Faces().load(Path(), offline=True)


# --- R-Net ---


def test_r_net_has_its_published_size() -> None:
    module = RNet().build(DataSpec((3, 24, 24), 2))
    boxes = 128 * 4 + 4  # the layer that is left out
    assert sum(p.numel() for p in module.parameters()) == 100_178 - boxes
    x = torch.rand(2, 3, 24, 24)
    assert module(x).shape == (2, 2)


def test_r_net_takes_other_sizes() -> None:
    for size in (14, 15, 25, 40):
        assert RNet().build(DataSpec((1, size, size + 3), 5))(torch.rand(2, 1, size, size + 3)).shape == (2, 5)
    with pytest.raises(Refused, match="at least 14x14"):
        RNet().build(DataSpec((1, 13, 20), 5))


def test_a_wrong_file_of_weights_is_refused(tmp_path: Path) -> None:
    spec = DataSpec((3, 24, 24), 2)
    with pytest.raises(DataError, match=r"nowhere\.whl.*cannot be read.*pip download --no-deps facenet-pytorch"):
        RNet("nowhere.whl").pretrained(spec)
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("facenet_pytorch/__init__.py", "")
    with pytest.raises(DataError, match=r"rnet\.pt cannot be read"):
        RNet(str(other)).pretrained(spec)
    stream = io.BytesIO()
    torch.save(RNet().build(spec).state_dict(), stream)
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr(rnet.MEMBER, stream.getvalue())
    with pytest.raises(DataError, match=f"has sha256 .*, expected {rnet.SHA256}"):
        RNet(str(other)).pretrained(spec)
    assert RNet().pretrained(spec) is None
    with pytest.raises(Refused, match=r"choose dataset=faces, or leave model\.weights out"):
        RNet(str(other)).pretrained(DataSpec((3, 32, 32), 10))


def test_weights_are_read_from_a_wheel_and_from_the_file_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of random weights, with the layer for boxes that has no part here."""
    spec = DataSpec((3, 24, 24), 2)
    state = RNet().build(spec).state_dict()
    stream = io.BytesIO()
    torch.save({**state, "dense5_2.weight": torch.zeros(4, 128), "dense5_2.bias": torch.zeros(4)}, stream)
    monkeypatch.setattr(rnet, "SHA256", hashlib.sha256(stream.getvalue()).hexdigest())
    plain, wheel = tmp_path / "rnet.pt", tmp_path / "facenet_pytorch-2.6.0-py3-none-any.whl"
    plain.write_bytes(stream.getvalue())
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(rnet.MEMBER, stream.getvalue())
    for path in (plain, wheel):
        found = RNet(str(path)).pretrained(spec)
        assert found is not None
        assert set(found) == set(state)
        assert all(torch.equal(found[name], value) for name, value in state.items())


def test_the_published_r_net_is_right_on_all_patches(published: System, patches: Splits) -> None:
    x, y = everyone(patches)
    assert torch.equal(published.logits(x, SampleRandom(0, torch.arange(200))).argmax(1), y)


@pytest.mark.parametrize(("eps", "left"), [(1, 88.0), (2, 67.0), (4, 26.0), (8, 0.0)])
def test_pgd_leaves_of_the_published_r_net_what_it_left_before(
    published: System, patches: Splits, eps: int, left: float
) -> None:
    """Figures of an implementation apart from this one: 20 steps of a quarter of eps, from the patch itself."""
    x, y = everyone(patches)
    attack = PGD(steps=20, step_size=eps / 255 / 4, random_start=False)
    x_adv = attacked(attack, published, x, y, Threat(Norm.linf, Fraction(eps, 255)))
    right = published.logits(x_adv, SampleRandom(0, torch.arange(200))).argmax(1) == y
    assert 100 * float(right.float().mean()) == pytest.approx(left, abs=0.5)


# --- the generator ---


def linear(seed: int = 0) -> tuple[LinearClassifier, Tensor]:
    """A linear system of two classes, and the sign of its slope away from class 0."""
    weight = torch.randn(2, 36, generator=torch.Generator().manual_seed(seed))
    model = LinearClassifier(weight, torch.tensor([50.0, 0.0])).requires_grad_(False)  # too far for any to be fooled
    return model, (weight[1] - weight[0]).reshape(1, 1, 6, 6)


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2])
def test_on_a_linear_system_the_generator_finds_most_of_what_there_is_to_gain(norm: Norm) -> None:
    """No perturbation gains more than eps times the dual norm of the slope, and that one is known."""
    model, slope = linear()
    x = 0.3 + 0.4 * torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y, threat = torch.zeros(16, dtype=torch.int64), Threat(norm, Fraction(1, 10))
    x_adv = attacked(Generator(epochs=100, step_size=0.02, width=8), System(model, LINEAR), x, y, threat)
    gain = ((x_adv - x) * slope).flatten(1).sum(1)
    best = 0.1 * (slope.abs().sum() if norm is Norm.linf else rows_norm(slope, Norm.l2)[0])
    assert float(gain.max()) <= float(best) * (1 + 1e-5)
    assert float(gain.min()) > 0.8 * float(best)


def test_the_generator_keeps_to_its_region() -> None:
    model, _ = linear()
    x = torch.full((8, 1, 6, 6), 0.5)
    threat = Threat(Norm.linf, Fraction(1, 10), region=Region(RegionKind.square, size=2))
    x_adv = attacked(Generator(epochs=5), System(model, LINEAR), x, torch.zeros(8, dtype=torch.int64), threat)
    moved = (x_adv != x)[0, 0]
    assert bool(moved[2:4, 2:4].all())
    assert int(moved.sum()) == 4


def test_a_generator_fools_inputs_that_it_was_not_trained_with() -> None:
    """Classes are bright left and bright right halves; nothing about a single input has to be learnt by heart."""
    generator = torch.Generator().manual_seed(0)
    x, y = 0.4 + 0.2 * torch.rand(80, 1, 6, 6, generator=generator), torch.arange(80) % 2
    x[y == 0, :, :, :3] += 0.05
    x[y == 1, :, :, 3:] += 0.05
    weight = torch.zeros(2, 1, 6, 6)
    weight[0, :, :, :3], weight[1, :, :, 3:] = 1.0, 1.0
    system = System(LinearClassifier(weight.flatten(1), torch.zeros(2)).requires_grad_(False), LINEAR)
    threat, ids = Threat(Norm.linf, Fraction(1, 10)), torch.arange(80)
    known, unseen = ids < 40, ids >= 40
    attack = Generator(epochs=30, step_size=0.01, width=8)
    rng = SampleRandom(0, ids)
    made = attack.prepare(
        Target(system, rng=rng.rows(known), classes=2), x[known], y[known], threat=threat, rng=rng.rows(known)
    )
    target = Target(system, rng=rng.rows(unseen), classes=2, prepared=made)
    x_adv = attack.perturb(target, x[unseen], y[unseen], threat=threat, rng=rng.rows(unseen))
    right = [
        float((system.logits(v, rng.rows(unseen)).argmax(1) == y[unseen]).float().mean()) for v in (x[unseen], x_adv)
    ]
    assert right[0] == 1.0
    assert right[1] < 0.1


def test_a_generator_needs_images() -> None:
    with pytest.raises(Refused, match=r"attack\.generator needs images"):
        Generator().check(DataSpec((20,), 2), Threat(Norm.linf, Fraction(1, 10)))

"""Faces: scikit-image's patches, MTCNN with its published weights and stand-ins, and the generator that attacks it."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import os
import sys
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks.generator import Generator, augmented
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.datasets.faces import Faces
from benchmark_plugins.datasets.faces_scenes import FacesScenes
from benchmark_plugins.models import _mtcnn, mtcnn
from benchmark_plugins.models.mtcnn import MTCNN
from benchmark_plugins.models.onet import ONet
from benchmark_plugins.models.pnet import PNet
from benchmark_plugins.models.rnet import RNet
from torch import Tensor

from benchmark.api import Attack, Detection, Model
from benchmark.data import DataSpec, Splits
from benchmark.errors import ConfigError, DataError, MissingPackage, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import rows_norm

WHEEL = Path(os.environ.get("FACENET_PYTORCH", "data/facenet_pytorch-2.6.0-py3-none-any.whl"))
"""The wheel with the published weights, from `pip download --no-deps facenet-pytorch`."""

LINEAR = DataSpec((1, 6, 6), 2)

Networks = type[PNet] | type[RNet] | type[ONet]
PLUGINS: dict[str, Networks] = {"pnet": PNet, "rnet": RNet, "onet": ONet}
NETWORKS = {network.name: network for network in (_mtcnn.PNET, _mtcnn.RNET, _mtcnn.ONET)}


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


def wheel() -> Path:
    """The published wheel, or a skip."""
    if not WHEEL.is_file():
        pytest.skip(f"{WHEEL} is missing: pip download --no-deps facenet-pytorch, and set FACENET_PYTORCH to the wheel")
    return WHEEL


def published(model: Model, spec: DataSpec) -> System:
    """A system with the weights of the wheel."""
    module, weights = model.build(spec), model.pretrained(spec)
    assert weights is not None
    module.load_state_dict(weights)
    return System(module, spec)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in the published format with random weights, which takes the place of the published one."""
    made = {
        "pnet": _mtcnn.ProposalNetwork(3, 2, boxes=True),
        "rnet": _mtcnn.RefinementNetwork(3, 2, 24, 24, boxes=True),
        "onet": _mtcnn.OutputNetwork(3, 2, 48, 48, boxes=True),
    }
    path = folder / "facenet_pytorch-2.6.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, module in made.items():
            landmarks = {"dense6_3.weight": torch.zeros(10, 256), "dense6_3.bias": torch.zeros(10)}
            stream = io.BytesIO()
            torch.save(module.state_dict() | (landmarks if name == "onet" else {}), stream)
            archive.writestr(f"facenet_pytorch/data/{name}.pt", stream.getvalue())
            network = replace(NETWORKS[name], sha256=hashlib.sha256(stream.getvalue()).hexdigest())
            for user in (importlib.import_module(f"benchmark_plugins.models.{name}"), mtcnn):
                monkeypatch.setattr(user, name.upper(), network)
    return path


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


@pytest.mark.parametrize("size", [12, 48])
def test_patches_have_the_size_of_the_network(patches: Splits, size: int) -> None:
    other = Faces(size).load(Path(), offline=True)
    assert other.spec.shape == (3, size, size)
    assert torch.equal(other.test.ids, patches.test.ids)
    assert torch.equal(other.test.y, patches.test.y)
    with pytest.raises(ConfigError, match=r"dataset\.size is 8; expected 12 to 96"):
        Faces(8)


# --- the three networks ---


@pytest.mark.parametrize(("model", "size", "weights"), [(PNet, 12, 6_632), (RNet, 24, 100_178), (ONet, 48, 386_470)])
def test_networks_have_their_published_size(model: Networks, size: int, weights: int) -> None:
    module = model().build(DataSpec((3, size, size), 2))
    boxes = {PNet: 32, RNet: 128, ONet: 256}[model] * 4 + 4  # the layer that is left out
    assert sum(p.numel() for p in module.parameters()) == weights - boxes
    assert module(torch.rand(2, 3, size, size)).shape == (2, 2)


@pytest.mark.parametrize(("model", "least"), [(PNet, 12), (RNet, 14), (ONet, 28)])
def test_networks_take_other_sizes(model: Networks, least: int) -> None:
    for size in (least, least + 1, 2 * least - 3, 2 * least):
        assert model().build(DataSpec((1, size, size + 3), 5))(torch.rand(2, 1, size, size + 3)).shape == (2, 5)
    with pytest.raises(Refused, match=f"at least {least}x{least}"):
        model().build(DataSpec((1, least - 1, 40), 5))


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_a_wrong_file_of_weights_is_refused(name: str, tmp_path: Path) -> None:
    model, network = PLUGINS[name], NETWORKS[name]
    spec = DataSpec((3, network.side, network.side), 2)
    with pytest.raises(DataError, match=r"nowhere\.whl.*cannot be read.*pip download --no-deps facenet-pytorch"):
        model("nowhere.whl").pretrained(spec)
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("facenet_pytorch/__init__.py", "")
    with pytest.raises(DataError, match=rf"{name}\.pt cannot be read"):
        model(str(other)).pretrained(spec)
    stream = io.BytesIO()
    torch.save(model().build(spec).state_dict(), stream)
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr(network.file, stream.getvalue())
    with pytest.raises(DataError, match=f"has sha256 .*, expected {network.sha256}"):
        model(str(other)).pretrained(spec)
    assert model().pretrained(spec) is None
    with pytest.raises(Refused, match=rf"dataset=faces dataset\.size={network.side}, or leave model\.weights out"):
        model(str(other)).pretrained(DataSpec((3, 32, 32), 10))


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_weights_are_read_from_a_wheel_and_from_the_file_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in of random weights, with the layers for boxes and landmarks that have no part here."""
    path, model, network = stand_in(tmp_path, monkeypatch), PLUGINS[name], NETWORKS[name]
    spec = DataSpec((3, network.side, network.side), 2)
    plain = tmp_path / f"{name}.pt"
    with zipfile.ZipFile(path) as archive:
        plain.write_bytes(archive.read(network.file))
    stored = torch.load(plain, weights_only=True)
    for source in (path, plain):
        found = model(str(source)).pretrained(spec)
        assert found is not None
        assert set(found) == set(model().build(spec).state_dict())
        assert all(torch.equal(stored[key], value) for key, value in found.items())


@pytest.mark.parametrize(("name", "faces"), [("pnet", 99), ("rnet", 100), ("onet", 100)])
def test_the_published_networks_are_right_on_the_patches(patches: Splits, name: str, faces: int) -> None:
    """Figures of the networks of facenet-pytorch itself: all but one face, of the smallest patches."""
    own = Faces(NETWORKS[name].side).load(Path(), offline=True)
    x, y = everyone(own)
    right = (
        published(PLUGINS[name](str(wheel())), own.spec).logits(x, SampleRandom(0, torch.arange(200))).argmax(1) == y
    )
    assert [int(right[y == label].sum()) for label in (0, 1)] == [100, faces]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("pnet", {1: 87.5, 2: 60.0, 4: 16.5, 8: 0.5}),
        ("rnet", {1: 88.0, 2: 67.0, 4: 26.0, 8: 0.0}),
        ("onet", {4: 11.5}),
    ],
)
def test_pgd_leaves_of_the_published_networks_what_it_left_before(
    patches: Splits, name: str, left: dict[int, float]
) -> None:
    """Figures of an implementation apart from this one: 20 steps of a quarter of eps, from the patch itself."""
    own = Faces(NETWORKS[name].side).load(Path(), offline=True)
    system, (x, y) = published(PLUGINS[name](str(wheel())), own.spec), everyone(own)
    for eps, expected in left.items():
        attack = PGD(steps=20, step_size=eps / 255 / 4, random_start=False)
        x_adv = attacked(attack, system, x, y, Threat(Norm.linf, Fraction(eps, 255)))
        right = system.logits(x_adv, SampleRandom(0, torch.arange(200))).argmax(1) == y
        assert 100 * float(right.float().mean()) == pytest.approx(expected, abs=0.6)  # one patch


# --- the cascade ---


def test_scenes_are_mosaics_of_the_patches_of_their_split(patches: Splits) -> None:
    scenes = FacesScenes().load(Path(), offline=True)
    assert [len(part) for part in (scenes.train, scenes.select, scenes.test)] == [160, 40, 100]
    for split, part in ((patches.train, scenes.train), (patches.select, scenes.select), (patches.test, scenes.test)):
        sides = part.x().unfold(2, 24, 24).unfold(3, 24, 24).permute(0, 2, 3, 1, 4, 5)
        tiles, known = sides.reshape(-1, 3 * 24 * 24), split.x().flatten(1)
        nearest = torch.cdist(tiles, known).argmin(1)
        assert torch.equal(known[nearest], tiles)
        objects = part.y[part.y[..., 0] == 1]
        faces = split.y[nearest].reshape(len(part), 9)
        assert torch.equal(faces.sum(1), (part.y[..., 0] == 1).sum(1))
        assert set(faces.sum(1).tolist()) == {1, 2, 3}
        assert bool((objects[:, 3:] - objects[:, 1:3] == 24).all())
        scene, cell = (part.y[..., 0] == 1).nonzero(as_tuple=True)
        place = part.y[scene, cell, 2] // 24 * 3 + part.y[scene, cell, 1] // 24
        assert bool((faces[scene, place] == 1).all())


def test_a_patch_is_a_face_if_all_three_networks_accept_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MTCNN(str(stand_in(tmp_path, monkeypatch)))
    spec = DataSpec((3, 48, 48), 2)
    system = published(model, spec)
    x = torch.rand(8, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    margins = []
    for name, side in (("pnet", 12), ("rnet", 24), ("onet", 48)):
        one = published(PLUGINS[name](model.weights), DataSpec((3, side, side), 2)).model
        z = one(torch.nn.functional.avg_pool2d(x, 48 // side))
        margins.append(z[:, 1] - z[:, 0] - math.log(NETWORKS[name].threshold / (1 - NETWORKS[name].threshold)))
    expected = torch.stack([torch.zeros(8), torch.stack(margins).amin(0)], 1)
    torch.testing.assert_close(system.model(x), expected, atol=1e-5, rtol=0)


def test_the_cascade_answers_in_every_cell_and_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Detection(height=48, width=56, stride=8, objects=1)
    spec = DataSpec((3, 48, 56), 2, task=task)
    system = published(MTCNN(str(stand_in(tmp_path, monkeypatch))), spec)
    x = torch.rand(3, 3, 48, 56, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    rng = SampleRandom(0, torch.arange(3))
    whole = system.logits(x.detach(), rng)
    assert whole.shape == (3, 42, 6)
    assert torch.equal(system.logits(x[1:2].detach(), rng.rows(torch.tensor([1]))), whole[1:2])
    occupied = whole[..., 4:].abs().sum(2) > 0
    assert 1 <= int(occupied.sum(1).min()) <= int(occupied.sum(1).max()) <= 8
    assert bool((whole[..., 1][~occupied] < 0).all())
    (slope,) = torch.autograd.grad(system.model(x)[..., 1].sum(), x)
    assert bool((slope.flatten(1).abs().sum(1) > 0).all())
    with pytest.raises(
        Refused, match=r"least 60 pixels, and the images have 48x56; set model\.least_face to at most 48"
    ):
        MTCNN(least_face=60).build(spec)
    with pytest.raises(Refused, match="tells faces from others, and the dataset has 10 classes"):
        MTCNN().build(DataSpec((3, 48, 48), 10))


def test_crops_are_the_contents_of_their_boxes() -> None:
    x = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[2.0, 4.0, 8.0, 10.0], [0.0, 0.0, 12.0, 12.0]]]).expand(2, -1, -1)
    assert torch.allclose(mtcnn.crops(x, boxes[:, :1], 6), x[:, :, 4:10, 2:8], atol=1e-6)
    assert torch.allclose(mtcnn.crops(x, boxes, 12)[1::2], x, atol=1e-6)


def test_the_published_cascade_finds_the_faces_and_pgd_hides_and_invents_them() -> None:
    pytest.importorskip("skimage")
    scenes = FacesScenes().load(Path(), offline=True)
    system, part = published(MTCNN(str(wheel())), scenes.spec), scenes.test.take(torch.arange(20))
    x, y, rng = part.x(), part.y, SampleRandom(0, torch.arange(20))
    task = scenes.spec.task
    assert isinstance(task, Detection)
    assert sum(int(error.sum()) for error in task.errors(task.read(system.logits(x, rng)), y)) == 0
    for goal, error in ((Goal.vanishing, 0), (Goal.fabrication, 2)):
        target = Target(system, rng=rng, classes=2, task=task, goal=goal)
        threat = Threat(Norm.linf, Fraction(8, 255), goal=goal)
        x_adv = PGD(steps=10).perturb(target, x, y, threat=threat, rng=rng)
        made = task.errors(task.read(system.logits(x_adv, rng)), y)[error].any(1)
        assert int(made.sum()) >= 15


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
    x_adv = attacked(
        Generator(epochs=40, step_size=0.02, width=8, confidence=100.0), System(model, LINEAR), x, y, threat
    )
    gain = ((x_adv - x) * slope).flatten(1).sum(1)
    best = 0.1 * (slope.abs().sum() if norm is Norm.linf else rows_norm(slope, Norm.l2)[0])
    assert float(gain.max()) <= float(best) * (1 + 1e-5)
    assert float(gain.min()) > 0.8 * float(best)


def test_the_generator_knows_the_label() -> None:
    """One image under both labels: the perturbation that helps the one hurts the other."""
    weight = torch.randn(2, 36, generator=torch.Generator().manual_seed(0))
    slope = (weight[1] - weight[0]).reshape(1, 1, 6, 6)
    system = System(LinearClassifier(weight, torch.zeros(2)).requires_grad_(False), LINEAR)
    x, y = torch.full((8, 1, 6, 6), 0.5), torch.arange(8) % 2
    x_adv = attacked(Generator(epochs=40, step_size=0.02, width=4), system, x, y, Threat(Norm.linf, Fraction(1, 10)))
    gain = ((x_adv - x) * slope).flatten(1).sum(1) * torch.where(y == 0, 1.0, -1.0)
    assert float(gain.min()) > 0.8 * 0.1 * float(slope.abs().sum())


def test_augmented_images_are_near_their_own_and_drawn_for_each() -> None:
    x = torch.zeros(4, 1, 12, 12)
    x[:, :, 5:7, 2:4] = 0.5
    rng = SampleRandom(0, torch.arange(4))
    one, two = (augmented(x, rng, draw=draw) for draw in (0, 1))
    assert torch.equal(augmented(x[2:], rng.rows(torch.tensor([2, 3])), draw=0), one[2:])
    assert not torch.equal(one, two)
    assert 0.0 <= float(one.min()) <= float(one.max()) <= 1.0
    many = augmented(x[:1].expand(200, -1, -1, -1), SampleRandom(0, torch.arange(200)), draw=0)
    bright = (many - many.amin((1, 2, 3), keepdim=True)).flatten(2).argmax(2) % 12
    sides = bright.flatten()
    assert 60 < int((sides < 6).sum()) < 140  # half of them are mirrored
    assert set(sides.tolist()) <= {1, 2, 3, 4, 7, 8, 9, 10}


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

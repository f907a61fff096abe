"""Refusals by task, and cells of segmentation and detection from configuration to proof."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.segpgd import SegPGD
from benchmark_plugins.datasets.scenes import Scenes
from benchmark_plugins.datasets.scenes_boxes import ScenesBoxes
from benchmark_plugins.defenses.adversarial_training import AdversarialTraining, Maximization, Objective
from benchmark_plugins.defenses.bit_depth import BitDepth
from benchmark_plugins.defenses.jpeg import Jpeg
from benchmark_plugins.defenses.median_smoothing import MedianSmoothing
from benchmark_plugins.defenses.non_local_means import NonLocalMeans
from benchmark_plugins.metrics.detection_map import DetectionMap
from benchmark_plugins.metrics.robust_accuracy import RobustAccuracy
from benchmark_plugins.metrics.segmentation import SegmentationMetric
from benchmark_plugins.models.grid_detector import GridDetector
from benchmark_plugins.models.unet import UNet

from benchmark import registry
from benchmark.config.check import check_fit, check_goal
from benchmark.config.schema import StoreConfig
from benchmark.data import DataSpec
from benchmark.errors import RecordError, Refused
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages.proof import prove
from benchmark.stages.proof_sites import check_agreement
from benchmark.tasks.detection import Detection
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import ONE_LABEL
from benchmark.threat import Goal, Norm, Threat
from tests.core.cells import small_config


def dense_config(root: Path, of: Any, by: Any, measured: Any, **changes: Any) -> Any:
    config = small_config(root, examples=12)
    return dataclasses.replace(
        config,
        **{
            "dataset": of, "model": by, "attack": FGSM(), "metrics": (RobustAccuracy(), measured),
            "training": dataclasses.replace(config.training, epochs=1, batch_size=64, learning_rate=0.01),
            "threat": Threat(), "store": StoreConfig(root=str(root / "results"), data=str(root / "data")), **changes,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attack": DeepFool()}, "attack.deepfool supports classification, and dataset.scenes is for segmentation"),
        ({"model": GridDetector()}, "model.grid_detector supports detection, and dataset.scenes is for segmentation"),
        ({"metrics": (DetectionMap(),)}, "metric.detection_map supports detection, and dataset.scenes is for segm"),
    ],
    ids=["attack", "model", "metric"],
)
def test_what_is_for_another_task_is_refused_before_anything_is_loaded(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=sentence):
        check_fit(dense_config(tmp_path, Scenes(), UNet(), SegmentationMetric(), **changes))


def test_an_attack_on_pixels_is_refused_for_data_of_one_label(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"attack\.segpgd supports segmentation, and dataset\.digits is for classification"
    ):
        check_fit(dataclasses.replace(small_config(tmp_path), attack=SegPGD()))


@pytest.mark.parametrize(
    ("goal", "task", "choice"),
    [
        (Goal.vanishing, ONE_LABEL, "threat.goal is vanishing, but the data are for classification; choose"),
        (Goal.next_class, Segmentation(), "for segmentation; choose threat.goal=untargeted"),
    ],
    ids=lambda value: getattr(value, "value", ""),
)
def test_goals_that_say_nothing_about_a_task_are_refused(goal: Goal, task: Any, choice: str) -> None:
    with pytest.raises(Refused, match=choice):
        check_goal(Threat(goal=goal), DataSpec((1, 8, 8), 10, task=task))


def test_objects_of_one_class_cannot_be_mislabelled() -> None:
    faces = Detection(height=8, width=8, objects=1)
    with pytest.raises(Refused, match=r"objects of one class alone; choose threat\.goal=vanishing"):
        check_goal(Threat(goal=Goal.mislabeling), DataSpec((1, 8, 8), 2, task=faces))
    check_goal(Threat(goal=Goal.mislabeling), DataSpec((1, 8, 8), 3, task=faces))


@pytest.mark.parametrize(
    ("dataset", "model", "metric", "task"),
    [
        (Scenes(side=12, most=1, share=0.5), UNet(width=2), SegmentationMetric(), "segmentation"),
        (ScenesBoxes(side=12, most=1), GridDetector(width=2), DetectionMap(), "detection"),
    ],
    ids=["segmentation", "detection"],
)
def test_a_cell_runs_to_a_record_that_can_be_proved(
    dataset: Any, model: Any, metric: Any, task: str, tmp_path: Path
) -> None:
    result = run(dense_config(tmp_path, dataset, model, metric))
    assert (result.status, result.error) == ("complete", None)
    store = Store(tmp_path / "results")
    folder = store.cell(result.key)
    record = read_record(folder)
    assert record.task == task
    proof = prove(folder, record, store, tmp_path / "data", again=3)
    assert proof.clean == 12
    outcomes = Outcomes.load(folder / OUTCOMES)
    assert outcomes.clean_sites is not None
    spec = dataset.load(tmp_path, offline=True).spec
    first = outcomes.clean_sites[0]
    forged = torch.full_like(first, 3) if task == "segmentation" else torch.zeros_like(first)
    changed = outcomes.clean_sites.index_copy(0, torch.tensor([0]), forged[None])
    lied = dataclasses.replace(outcomes, clean_sites=changed, clean_label=1 - (outcomes.clean_label == 1).long())
    with pytest.raises(RecordError, match="contradict"):
        check_agreement(spec.task, lied, "untargeted")


def test_records_of_one_label_are_written_as_before(tmp_path: Path) -> None:
    """A record of classification has no field for its task, so what was published stays what it is."""
    result = run(small_config(tmp_path, examples=4))
    text = (Store(Path(small_config(tmp_path).store.root)).cell(result.key) / "record.json").read_text(encoding="utf-8")
    assert '"task"' not in text


TRAINED = AdversarialTraining(attack=PGD(steps=2))


@pytest.mark.parametrize("kind", ["defense", "certifier"])
def test_every_protection_and_certifier_fits_a_task_or_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    """Nothing is loaded: each names its tasks, and the answer for every other task is one sentence."""
    for name in registry.names(kind):
        plugin: Any = registry.load(kind, name)
        for data, model, metric in (
            (Scenes(), UNet(), SegmentationMetric()),
            (ScenesBoxes(), GridDetector(), DetectionMap()),
        ):
            (task,) = data.tasks
            config = dense_config(tmp_path, data, model, metric, **{f"{kind}s": (plugin(),)})
            if task in plugin.tasks:
                check_fit(config)
                continue
            with pytest.raises(
                Refused, match=rf"^{kind}\.{name} supports .*, and dataset\.\w+ is for {task}; choose"
            ) as refusal:
                check_fit(config)
            assert "\n" not in str(refusal.value)


OFFERED = (Jpeg(), BitDepth(), MedianSmoothing(), NonLocalMeans(search=3), TRAINED)
PROTECTED = [(Segmentation.name, one) for one in OFFERED] + [("detection", one) for one in (Jpeg(), TRAINED)]


@pytest.mark.parametrize(("task", "defense"), PROTECTED, ids=lambda value: str(value)[:14])
def test_protected_systems_of_several_sites_are_trained_attacked_and_proved(
    task: str, defense: Any, tmp_path: Path
) -> None:
    parts: Any = (Scenes(side=12, most=1, share=0.5), UNet(width=2), SegmentationMetric())
    if task == "detection":
        parts = (ScenesBoxes(side=12, most=1), GridDetector(width=2), DetectionMap())
    config = dense_config(tmp_path, *parts, defenses=(defense,))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch_size=500))
    result = run(config)
    store = Store(tmp_path / "results")
    record = read_record(store.cell(result.key))
    assert record.status == "complete"
    assert prove(store.cell(result.key), record, store, tmp_path / "data")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": Objective.trades}, r"objective=trades, maximization=divergence .* are for segmentation; choose"),
        ({"maximization": Maximization.n_fgsm}, r"maximization=n_fgsm and union=average"),
        ({"attack": DeepFool(), "norm": Norm.l2}, r"trains on an attack for classification, and the data are for segm"),
    ],
)
def test_adversarial_training_for_one_label_is_refused_before_training(settings: Any, sentence: str) -> None:
    spec = DataSpec((1, 8, 8), 10, task=Segmentation())
    TRAINED.check(spec)
    with pytest.raises(Refused, match=sentence):
        dataclasses.replace(TRAINED, **settings).check(spec)
    dataclasses.replace(TRAINED, **settings).check(DataSpec((1, 8, 8), 10))

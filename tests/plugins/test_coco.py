"""MS-COCO from files in its published layout, written here: squares, boxes, outlines, crowds, and broken files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.datasets.coco import Coco
from benchmark_plugins.datasets.coco_masks import CocoMasks
from benchmark_plugins.metrics.detection_map import DetectionMap
from benchmark_plugins.metrics.segmentation import SegmentationMetric
from benchmark_plugins.models.grid_detector import GridDetector
from benchmark_plugins.models.unet import UNet
from PIL import Image

from benchmark.api import Dataset, DataSpec, Detection, Metric, Model, Segmentation, Threat
from benchmark.errors import ConfigError, DataError
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages.proof import prove
from tests.core.cells import small_config

CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 1, "name": "person"}]


def annotation(image: int, category: int, box: tuple[float, ...], *, crowd: int = 0, **more: Any) -> dict[str, Any]:
    """An annotation; its outline is the box if none is given."""
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    found = {
        "id": 100 * image + category, "image_id": image, "category_id": category, "bbox": list(box),
        "area": width * height, "iscrowd": crowd, "segmentation": [corners],
    }  # fmt: skip
    return {**found, **more}


def runs(height: int, width: int, rows: slice, columns: slice) -> dict[str, Any]:
    """Uncompressed run lengths of a rectangle, down the columns."""
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    flat = mask.T.reshape(-1)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int))).tolist()
    return {"counts": np.diff([0, *ends]).tolist(), "size": [height, width]}


def written(root: Path, name: str, images: dict[int, tuple[int, int]], annotations: list[dict[str, Any]]) -> Path:
    """Write images (id: width, height) and their instances file."""
    folder = root / "coco"
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / name).mkdir(exist_ok=True)
    listed = []
    for number, (width, height) in images.items():
        file = f"{number:012d}.jpg"
        values = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name / file, quality=95)
        listed.append({"id": number, "file_name": file, "width": width, "height": height, "license": 1})
    content = {"info": {}, "images": listed, "annotations": annotations, "categories": CATEGORIES}
    target = folder / "annotations" / f"instances_{name}.json"
    target.write_text(json.dumps(content))
    return target


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three training images and two test images, one of them without objects."""
    alone = [annotation(number, 1, (4, 4, 20, 20)) for number in (1, 2, 3)]
    written(tmp_path, "train2017", dict.fromkeys((1, 2, 3), (40, 40)), alone)
    crowd = annotation(7, 1, (40, 0, 40, 20), crowd=1, segmentation=runs(40, 80, slice(0, 20), slice(40, 80)))
    objects = [annotation(7, 18, (8, 8, 16, 24)), annotation(7, 1, (10, 12, 12, 16)), crowd]
    written(tmp_path, "val2017", {7: (80, 40), 8: (40, 40)}, objects)
    return tmp_path


def test_boxes_are_those_of_the_file_in_the_square(coco: Path) -> None:
    splits = Coco(size=40).load(coco, offline=True)
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [2, 1, 1]
    assert splits.test.ids.tolist() == [7]  # image 8 has no object
    assert sorted([*splits.train.ids.tolist(), *splits.select.ids.tolist()]) == [1, 2, 3]
    task = Detection(height=40, width=40, stride=4, objects=2)
    assert splits.spec == DataSpec(
        (3, 40, 40), 3, splits.spec.mean, splits.spec.std, ("background", "person", "dog"), task
    )
    cells = splits.test.y[0].reshape(10, 10, 5)  # an image of 80 x 40, at half its size, with 10 pixels above and below
    objects = {tuple(row) for row in cells[cells[..., 0] > 0].tolist()}
    assert objects == {(2, 4, 14, 12, 26), (1, 5, 16, 11, 24)}
    assert cells[5, 2].tolist() == [2, 4, 14, 12, 26]  # both have the middle (8, 20): the larger has its cell
    crowd = cells[cells[..., 0] < 0]
    assert crowd.unique(dim=0).tolist() == [[-2, 20, 10, 40, 20]]
    assert (cells[..., 0] < 0).nonzero().tolist() == [[row, column] for row in (2, 3, 4) for column in range(5, 10)]


def test_a_picture_keeps_its_proportions_between_grey_bars(coco: Path) -> None:
    x = Coco(size=40).load(coco, offline=True).test.x()[0]
    assert x.shape == (3, 40, 40)
    assert torch.equal(x[:, :10], torch.full((3, 10, 40), 128 / 255))
    assert torch.equal(x[:, 30:], x[:, :10])
    whole = CocoMasks(size=80).load(coco, offline=True).test.x()[0]  # not resized
    pixels = np.asarray(Image.open(coco / "coco" / "val2017" / "000000000007.jpg"))
    assert np.array_equal((whole[:, 20:60] * 255).round().permute(1, 2, 0).numpy(), pixels)


def test_outlines_crowds_and_overlaps_have_their_labels(coco: Path) -> None:
    splits = CocoMasks(size=80).load(coco, offline=True)
    assert splits.spec.task == Segmentation(share=0.9)
    label = splits.test.y[0].reshape(80, 80)
    assert label[:20].unique().tolist() == label[60:].unique().tolist() == [-1]  # beside the image
    assert label[20:40, 40:].unique().tolist() == [-1]  # the crowd
    assert label[40:60, 40:].unique().tolist() == [0]
    assert label[33:47, 11:21].unique().tolist() == [-1]  # of the person and the dog
    assert label[29:31, 9:23].unique().tolist() == [2]
    dog = (label[20:60, :40] != 0).sum()
    assert abs(int(dog) - 16 * 24) <= 2 * (16 + 24)  # to the outline's own pixels


def test_the_revision_is_that_of_the_content(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = Coco().revision(coco)
    assert before == CocoMasks().revision(coco) == Coco().revision(coco)
    file = coco / "coco" / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text().replace("dog", "cat"))
    assert Coco().revision(coco) != before


def test_a_system_that_is_not_trained_needs_no_training_images(coco: Path) -> None:
    (coco / "coco" / "annotations" / "instances_train2017.json").unlink()
    splits = Coco(size=40).load(coco, offline=True)
    assert [len(splits.train), len(splits.select), len(splits.test)] == [0, 0, 1]
    assert splits.train.y.shape == (0, 100, 5)


@pytest.mark.parametrize(
    ("dataset", "model", "metric"),
    [(Coco(size=40), GridDetector(width=2), DetectionMap()), (CocoMasks(size=40), UNet(width=2), SegmentationMetric())],
    ids=["boxes", "masks"],
)
def test_a_cell_with_crowds_runs_to_a_record_that_can_be_proved(
    dataset: Dataset, model: Model, metric: Metric, coco: Path
) -> None:
    config = small_config(coco, examples=1)
    training = dataclasses.replace(config.training, epochs=1, batch_size=2)
    store = dataclasses.replace(config.store, data=str(coco))
    parts: Any = {"dataset": dataset, "model": model, "metrics": (metric,), "attack": FGSM(), "training": training}
    result = run(dataclasses.replace(config, threat=Threat(), store=store, **parts))
    assert (result.status, result.error) == ("complete", None)
    kept = Store(Path(store.root))
    record = read_record(kept.cell(result.key))
    assert prove(kept.cell(result.key), record, kept, coco).clean == 1


def changed(file: Path, **parts: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"annotations": [{"image_id": 7}]}, r"annotations\.0\.category_id is wrong \(Field required\)"),
        ({"annotations": [annotation(7, 1, (0, 0, float("inf"), 1))]}, r"annotations\.0\.bbox\.2 is wrong"),
        ({"annotations": [annotation(9, 1, (0, 0, 9, 9))]}, r"annotation 0 is of image 9 and category 1, and the file"),
        ({"annotations": []}, r"has no image with an object; expected at least one annotation with iscrowd 0"),
        ({"categories": [CATEGORIES[0]] * 2}, r"has the same id twice in categories; expected unique ids"),
        ({"categories": CATEGORIES[:1]}, r"annotation 1 is of image 7 and category 1"),
        ({"categories": [*CATEGORIES, {"id": 90, "name": "brush"}]}, r"have other categories; expected the same"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_a_sentence(coco: Path, parts: dict[str, Any], sentence: str) -> None:
    changed(coco / "coco" / "annotations" / "instances_val2017.json", **parts)
    with pytest.raises(DataError, match=sentence):
        Coco(size=40).load(coco, offline=True)


def test_lost_and_wrong_files_are_named(coco: Path) -> None:
    with pytest.raises(DataError, match=r"instances_val2014\.json cannot be read \(No such file.*expected MS-COCO's"):
        Coco(test="val2014").load(coco, offline=True)
    file = coco / "coco" / "annotations" / "instances_val2017.json"
    image = coco / "coco" / "val2017" / "000000000007.jpg"
    Image.new("RGB", (40, 80)).save(image)
    with pytest.raises(DataError, match=r"000000000007\.jpg has 40x80 pixels, and its instances file says 80x40"):
        Coco(size=40).load(coco, offline=True).test.x()
    image.unlink()
    with pytest.raises(DataError, match=r"lists 000000000007\.jpg, and \S+val2017 lacks it; unpack val2017\.zip into"):
        Coco(size=40).load(coco, offline=True)
    file.write_text("{")
    with pytest.raises(DataError, match=r"is not an instances file of MS-COCO: the file is wrong \(Invalid JSON"):
        Coco(size=40).load(coco, offline=True)
    written(coco, "val2017", {3: (40, 40)}, [annotation(3, 1, (4, 4, 20, 20))])
    with pytest.raises(DataError, match=r"have image 3 in common; expected the same categories and different images"):
        Coco(size=40).load(coco, offline=True)


def test_compressed_run_lengths_are_refused(coco: Path) -> None:
    compressed = annotation(7, 1, (0, 0, 9, 9), crowd=1, segmentation={"counts": "abc", "size": [40, 80]})
    written(coco, "val2017", {7: (80, 40)}, [annotation(7, 18, (8, 8, 16, 24)), compressed])
    with pytest.raises(DataError, match=r"000000000007\.jpg has run lengths that are compressed"):
        CocoMasks(size=40).load(coco, offline=True)


@pytest.mark.parametrize("dataset", [Coco, CocoMasks])
def test_impossible_settings_are_refused(dataset: type[Dataset]) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.size is 30; expected a multiple of 4 from 8 to 1024"):
        dataset(size=30)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"dataset\.images is 0; expected at least 1"):
        dataset(images=0)  # type: ignore[call-arg]

"""`benchmark leaderboard replay`: judge published witnesses by ONNX Runtime, which shares no code with PyTorch.

The system is exported to ONNX with its defenses. ONNX Runtime answers every clean example and every witness of a cell,
and the core judges these answers as it judged the run's. The result is a file beside the record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark import __version__
from benchmark.errors import BenchmarkError, MissingPackage, RecordError, Unproved
from benchmark.records.card import Card
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256, write_atomic
from benchmark.records.record import Record
from benchmark.records.store import Store

from ..board import Leaderboard, Problem, Row
from ..cells.cell import Cell
from ..cells.evidence import outcome_arrays
from ..cells.load import RECORD, check_files, read
from ..cells.sidecar import read_sidecar
from .check_cell import CARD, WEIGHTS
from .check_outcomes import WITNESS

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.stages.replay import Replay
    from benchmark.system import System

__all__ = ["REPLAY", "ReplayFile", "main", "read_replay", "replay", "replays_of", "with_replays"]

REPLAY = "replay.json"
Count = Field(ge=0, le=10_000_000)
Digest = Field(pattern=r"^[0-9a-f]{64}$")


class ReplayFile(BaseModel):
    """File beside a record whose system was judged again by foreign code.

    runtime: its name and version. onnx_sha256: of the graph that it ran. examples, clean_agree: clean inputs, and those
    that it classifies correctly if and only if the record says so. witnesses, confirmed: adversarial examples, and
    those that it judges adversarial, and broken if and only if the record says so. close: of the other answers, those
    whose two largest scores differ by at most the tolerance, so that rounding decides. score_difference: largest one
    between PyTorch and the runtime over all of these inputs. tolerance: both as fractions of the scores' range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    schema_version: Literal[1] = 1
    key: str
    record_sha256: str = Digest
    weights_sha256: str = Digest
    runtime: str = Field(max_length=80, pattern=r"^[A-Za-z ]+ [0-9][0-9a-z.+-]*$")
    onnx_sha256: str = Digest
    examples: int = Count
    clean_agree: int = Count
    witnesses: int = Count
    confirmed: int = Count
    close: int = Count
    score_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0, le=0.01)
    checked_with: str = Field(max_length=80)

    @property
    def unconfirmed(self) -> int:
        """Number of answers that contradict the record by more than rounding."""
        return self.examples - self.clean_agree + self.witnesses - self.confirmed - self.close


def main(paths: Sequence[Path], store: Path, data: Path) -> int:
    """Replay every complete cell below the paths, and print a line for each; returns 1 if one differs, else 0."""
    cells, problems = read(paths)
    if problems:
        raise RecordError(problems[0].sentence)
    complete = [cell for cell in cells if cell.record.status == "complete"]
    if not complete:
        raise RecordError(f"no complete cell under {', '.join(map(str, paths))}; expected cells or folders of cells")
    differ = 0
    for cell in complete:
        try:
            made = replay(cell, Store(store), data)
        except BenchmarkError as error:
            sys.stdout.write(f"not replayed {cell.record.key}  {error}\n")
            continue
        write_atomic(cell.folder / REPLAY, to_text(made))
        differ += made.unconfirmed > 0
        close = f", rounding decides {made.close}" if made.close else ""
        sys.stdout.write(
            f"{'DIFFERS' if made.unconfirmed else 'replayed':12} {made.key}  {made.clean_agree} of {made.examples} "
            f"clean answers and {made.confirmed} of {made.witnesses} witnesses agree under {made.runtime}{close}\n"
        )
    return 1 if differ else 0


def replay(cell: Cell, store: Store, data: Path) -> ReplayFile:
    """Judge a complete cell again by ONNX Runtime, one pass over its clean inputs and one over its witness.

    Raises:
        RecordError: if a file contradicts the record, or the scores differ by more than the tolerance. Unproved: if the
            system is not in the store, or ONNX cannot express it. MissingPackage: without onnx or onnxruntime.
    """
    import torch

    from benchmark.stages.onnx_graph import SCORE_TOLERANCE, write_graph
    from benchmark.stages.replay import rebuilt
    from benchmark.threat import RegionKind

    check_files(cell)
    record = cell.record
    if not (cell.folder / WITNESS).is_file():
        raise Unproved("its witness is not beside the record; download it there, see packed.json")
    with tempfile.TemporaryDirectory() as folder:
        played = rebuilt(record, _with_system(record, store, Path(folder)), data, cell.folder)
    if played.attack.supports.trigger or played.threat.region.kind is RegionKind.saliency:
        raise Unproved("its threat needs more than scores: a trigger, or a region that follows the system's gradient")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_graph(played.system, played.examples.x(torch.arange(min(32, len(played.examples)))), path)
        graph = path.read_bytes()
    runtime, foreign = _system(graph, played.system)
    found = _judged(cell, played, foreign)
    if not found["score_difference"] <= SCORE_TOLERANCE:
        raise RecordError(f"its scores differ by {found['score_difference']:.2g} of their range under {runtime}")
    return ReplayFile(
        key=record.key,
        record_sha256=file_sha256(cell.folder / RECORD),
        weights_sha256=record.weights_sha256,
        runtime=runtime,
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        tolerance=SCORE_TOLERANCE,
        checked_with=__version__,
        **found,
    )


def _with_system(record: Record, store: Store, scratch: Path) -> Store:
    """Store with the record's system, or a copy of one with its weights in `scratch`.

    A later version may describe a system with more settings, and so under another key; weights, seed, data, model and
    defenses are then the same, and the record's own description is rebuilt.
    """

    def same(card: Card) -> bool:
        names = (record.system.model, record.system.defenses, record.seed, record.dataset_revision)
        own = (card.system.model, card.system.defenses, card.seed, card.dataset_revision)
        return own == names and card.weights_sha256 == record.weights_sha256

    if store.card(record.system.key) is not None:
        return store
    cards = (store.card(path.parent.name) for path in sorted(store.root.glob(f"systems/*/{CARD}")))
    found = next((card for card in cards if card is not None and same(card)), None)
    if found is None:
        return store
    copied = Store(scratch)
    folder = copied.system(record.system.key)
    folder.mkdir(parents=True)
    renamed = found.model_copy(update={"key": record.system.key, "system": record.system})
    (folder / CARD).write_text(to_text(renamed.sealed()), encoding="utf-8")
    shutil.copyfile(store.system(found.key) / WEIGHTS, folder / WEIGHTS)
    return copied


def _system(graph: bytes, like: System) -> tuple[str, System]:
    """Name and version of the runtime, and a system of the same task whose scores it computes."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackage(
            "this needs the package onnxruntime; pip install 'adversarial-benchmark[onnx,onnxruntime]'"
        ) from error
    import torch

    from benchmark.system import System

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    class Runtime(torch.nn.Module):
        """Scores (B, K) of inputs (B, *S), by ONNX Runtime."""

        def forward(self, x: Tensor) -> Tensor:
            """One run of the graph."""
            return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])

    return f"ONNX Runtime {onnxruntime.__version__}", System(Runtime(), like.spec)


def _judged(cell: Cell, played: Replay, foreign: System) -> dict[str, Any]:
    """Counts of a :class:`ReplayFile`, and the largest difference of scores."""
    import torch

    from benchmark.records.witness import Witness
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.judge import answer, right
    from benchmark.stages.onnx_graph import score_difference
    from benchmark.stages.replay import BATCH, judged

    said = {name: torch.from_numpy(values) for name, values in
            outcome_arrays(cell, ("ids", "clean_correct", "adversarial", "broken")).items()}  # fmt: skip
    witness = Witness.load(cell.folder / WITNESS)
    rows = said["adversarial"].nonzero().squeeze(1)
    if not torch.equal(said["ids"][rows].sort().values, witness.ids.sort().values):
        raise RecordError("its witness does not consist of exactly the adversarial examples of the outcomes")
    rows = rows[said["ids"][rows].argsort()][witness.ids.argsort().argsort()]
    again = dataclasses.replace(played, system=foreign)
    agree, confirmed, close, far = 0, 0, 0, 0.0
    for at in torch.arange(len(said["ids"])).split(BATCH):
        x, y, ids = played.examples.x(at), played.examples.y[at], played.examples.ids[at]
        rng = SampleRandom(derive_seed(played.seed, "cell"), ids).child("clean")
        correct = right(answer(foreign, x, y, rng, played.threat.goal), played.threat.goal)
        same = correct == said["clean_correct"][at]
        agree, close = agree + int(same.sum()), close + _close(foreign, x[~same])
        far = max(far, score_difference(foreign.protected(x), played.system.protected(x)))
    for start in range(0, len(rows), BATCH):
        at, x_adv = rows[start : start + BATCH], witness.x_adv[start : start + BATCH]
        _, verdict = judged(again, at, x_adv)
        broken = verdict.broken & said["clean_correct"][at]
        same = verdict.valid & verdict.adversarial & (broken == said["broken"][at])
        confirmed, close = confirmed + int(same.sum()), close + _close(foreign, x_adv[~same])
        far = max(far, score_difference(foreign.protected(x_adv), played.system.protected(x_adv)))
    return {
        "examples": len(said["ids"]), "clean_agree": agree, "witnesses": len(rows), "confirmed": confirmed,
        "close": close, "score_difference": far,
    }  # fmt: skip


def _close(system: System, x: Tensor) -> int:
    """Number of inputs (B, *S) whose two largest scores differ by at most the tolerance; none with scores per site."""
    from benchmark.stages.onnx_graph import SCORE_TOLERANCE

    if not len(x) or (scores := system.protected(x)).ndim != 2:
        return 0
    first, second = scores.topk(2, dim=1).values.T
    return int((first - second <= SCORE_TOLERANCE * (scores.amax(1) - scores.amin(1))).sum())


def read_replay(folder: Path) -> ReplayFile | None:
    """Replay beside a record; None if there is none.

    Raises:
        RecordError: if it is malformed, or belongs to another record than the one beside it.
    """
    found = read_sidecar(folder, REPLAY, ReplayFile, "a replay")
    if found is None:
        return None
    if found.confirmed > found.witnesses or found.clean_agree > found.examples or found.unconfirmed < 0:
        raise RecordError(f"{folder.name}/{REPLAY} counts more answers than it was given")
    return found


def _of_record(cell: Cell, found: ReplayFile) -> ReplayFile:
    """The replay, after the check that it is of the system and the examples of its record.

    Raises:
        RecordError: if it is not.
    """
    counts = cell.record.counts
    adversarial = int(outcome_arrays(cell, ("adversarial",))["adversarial"].sum())
    if counts is None or (found.examples, found.witnesses) != (counts.total, adversarial):
        raise RecordError(
            f"{cell.folder.name}/{REPLAY} is of {found.examples} examples and {found.witnesses} witnesses, but its "
            f"record has {counts.total if counts else 0} and {adversarial}"
        )
    if found.weights_sha256 != cell.record.weights_sha256:
        raise RecordError(f"{cell.folder.name}/{REPLAY} is of other weights than its record")
    return found


def replays_of(cells: Sequence[Cell]) -> tuple[dict[str, ReplayFile], list[Problem]]:
    """Replays beside the cells, by key, and the faults of invalid ones."""
    found: dict[str, ReplayFile] = {}
    problems = []
    for cell in cells:
        try:
            one = read_replay(cell.folder)
            one = one and _of_record(cell, one)
        except RecordError as error:
            problems.append(Problem(cell.place, str(error)))
            continue
        if one is not None:
            found[cell.record.key] = one
    return found, problems


def with_replays(leaderboard: Leaderboard, replays: Mapping[str, ReplayFile]) -> Leaderboard:
    """Leaderboard whose rows say how many of their witnesses foreign code confirmed."""
    if not replays:
        return leaderboard
    boards = [
        dataclasses.replace(
            board, rows=tuple(dataclasses.replace(row, replayed=_replayed(row, replays)) for row in board.rows)
        )
        for board in leaderboard.boards
    ]
    return dataclasses.replace(leaderboard, boards=tuple(boards))


def _replayed(row: Row, replays: Mapping[str, ReplayFile]) -> tuple[int, int] | None:
    some = [replays[key] for key in row.keys if key in replays]
    return (sum(one.confirmed for one in some), sum(one.witnesses for one in some)) if some else None

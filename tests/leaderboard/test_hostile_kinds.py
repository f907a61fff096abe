"""More kinds of hostile input: in archives, settings, names and files beside the results, and against others' rows."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.literature.published_numbers import read_reported
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.grouping import labels
from benchmark_leaderboard.ranking.met import spared
from benchmark_leaderboard.review import check as reviewing
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.claims import names_files
from benchmark_leaderboard.review.foreign import replays_of
from benchmark_leaderboard.review.parcel import opened
from benchmark_leaderboard.review.proofs import Proof, prove
from benchmark_leaderboard.review.tiers import reviews_of
from benchmark_leaderboard.site.notes import read_notes
from benchmark_leaderboard.site.releases import read_releases
from benchmark_leaderboard.words.downloads import DownloadTable, as_csv, as_latex, as_markdown
from benchmark_leaderboard.words.wording import commands

from benchmark import registry
from benchmark.errors import RecordError
from benchmark.records.described import OWN_CODE
from benchmark.records.durable import file_sha256
from benchmark.records.findings import FINDINGS
from benchmark.records.record import read_record
from benchmark.registry.catalogue import catalogue
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_submission
from tests.leaderboard.spoils import OUTCOMES, WITNESS, Spoil, of, set_in

NOTHING = [np.inf] * 10
METRIC = {"name": "m", "value": 1.0, "low": None, "high": None, "unit": "", "higher_is_better": True}
FINDING = {"name": "x", "severity": "warning", "evidence": "e"}


def metric(**changes: Any) -> Spoil:
    return of(set_in("metrics", to=[{**METRIC, **changes}]))


def own_header(file: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Other bytes of the header of an array file."""

    def spoil(s: Spoiler) -> None:
        raw = (s.cell / file).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        made = change(raw[8 : 8 + length].strip())
        s.replace(file, struct.pack("<Q", len(made)) + made + raw[8 + length :])

    return spoil


def marked(s: Spoiler) -> None:
    """A byte order mark before the record."""
    path = s.cell / "record.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    s.seal_manifest()


# --- a submission that only makes claims ---

SPOILS: dict[str, tuple[Spoil, str]] = {
    # arrays that the library of their format does not read
    "metadata that is a list": (
        own_header(WITNESS, lambda h: b'{"__metadata__":[1],' + h[1:]), "is not a file that safetensors reads"),
    "metadata of numbers": (
        own_header(OUTCOMES, lambda h: b'{"__metadata__":{"a":1},' + h[1:]), "is not a file that safetensors reads"),
    # JSON
    "key twice, once escaped": (lambda s: s.raw_record('"seed":', '"\\u0073eed": 1, "seed":'), "repeats a key"),
    "half a character": (
        lambda s: s.raw_record('"provenance": {', '"provenance": {"\\udfff": 1, '), "invisible character U+DFFF"),
    "byte order mark": (
        marked,
        "is not JSON: Unexpected UTF-8 BOM",
    ),
    "formula for a spreadsheet of another country": (
        of(set_in("error", to="a; =cmd|x")), "has a part that begins like a spreadsheet formula"),
    "formula after a tab": (of(set_in("error", to="a\t@SUM(1)")), "has a part that begins like a spreadsheet formula"),
    # names and settings
    "setting that approves": (
        of(set_in("attack", "params", to={"verified": True})), "has 'verified' in attack.params; expected no words of"),
    "endless setting": (of(set_in("attack", "params", to={"note": "a" * 5000})), "has a setting of 5000 characters in"),
    "endless settings": (
        of(set_in("attack", "params", to={f"k{at}": at for at in range(2000)})), "has 4000 settings in attack.params"),
    "plugin that approves": (of(set_in("attack", "name", to="officially_checked")), "has 'officially_checked' in the"),
    "metric that approves": (metric(name="independently_verified"), "a metric or its unit is called 'independently_"),
    "metric like another": (metric(name="Robust_accuracy"), "has already, unlike robust_accuracy"),
    "metric that ranks": (metric(name="rank"), "a metric or its unit is called 'rank'"),
    "unit that approves": (metric(unit="official"), "a metric or its unit is called 'official'"),
    "endless unit": (metric(unit="a" * 60), "has 60 characters in the unit of m; expected at most 40"),
    "endless evidence": (
        of(set_in("findings", to=[{**FINDING, "evidence": "a" * 5000}])), "in the evidence of x; expected at most"),
    "goal of its own": (of(set_in("threat", "goal", to="verified")), "has threat.goal 'verified'; expected one of"),
    "region of its own": (of(set_in("threat", "region", to="verified")), "has threat.region 'verified'; expected one"),
    "region of a size of its own": (of(set_in("threat", "region", to="square:x")), "expected a size, or a digest"),
    "task of its own": (of(set_in("task", to="x|y](z)")), "task is 'x|y](z)'; expected the name of a task"),
    "surrogate of its own": (
        of(set_in("threat", "surrogate", to="every network")), "has threat.surrogate 'every network'; expected keys"),
    "weights of no digest": (of(set_in("weights_sha256", to="../x")), "has weights_sha256 '../x'"),
    "radius written at length": (
        of(set_in("threat", "eps_exact", to="0.1000000000000000055")), "expected 1/10, the same number"),
    # numbers and lists
    "part with broken examples without end": (of(set_in("path", to={"a": 10**15})), "has path.a 1000000000000000"),
    "more examples than there are": (of(set_in("examples", to=10**15)), "has examples 1000000000000000"),
    "1,000 certifiers": (of(set_in("certifiers", to=[{"name": "x"}] * 1000)), "has 1000 certifiers; expected at most"),
    "5,000 warnings": (lambda s: s.card(set_in("warnings", to=["w"] * 5000)), "has 5000 warnings; expected at most"),
}  # fmt: skip

SUITES = {
    "Quickstart@1": "the suite 'Quickstart@1' looks like the suite 'quickstart@1'",
    "quickstart 1": "looks like the suite 'quickstart@1'",
    **dict.fromkeys(
        ("allowed_signers", "Maintainers", "systems.json", "reported", "transfer", "cells", "work"),
        "a file or folder of every board; choose another name",
    ),
}  # fmt: skip


def sentence(parcel: Path, *results: Path) -> str:
    with opened(parcel) as root:
        review = check(root, results)
    return "\n".join(review.refusals)


@pytest.mark.parametrize(("spoil", "expected"), SPOILS.values(), ids=SPOILS)
def test_a_hostile_submission_is_refused(tmp_path: Path, spoil: Spoil, expected: str) -> None:
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoil(spoiler)
    assert expected in sentence(spoiler.root)


@pytest.mark.parametrize(("suite", "expected"), SUITES.items(), ids=SUITES)
def test_a_suite_has_a_name_of_its_own(tmp_path: Path, suite: str, expected: str) -> None:
    assert expected in sentence(made_submission(tmp_path / "store", tmp_path / "parcel", suite=suite))


# --- archives ---


def lzma_member(raw: bytes) -> bytes:
    return recompressed(raw, zipfile.ZIP_LZMA)


def recompressed(raw: bytes, method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), compress_type=method)
    return made.getvalue()


def patched(at: int, value: bytes) -> Callable[[bytes], bytes]:
    """Other bytes at an offset in the first entry of the directory at the end."""

    def change(raw: bytes) -> bytes:
        place = raw.index(b"PK\x01\x02") + at
        return raw[:place] + value + raw[place + len(value) :]

    return change


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "LZMA, whose dictionary may have 4 GB": (lzma_member, "is compressed by method 14; expected stored or deflated"),
    "bzip2": (lambda raw: recompressed(raw, zipfile.ZIP_BZIP2), "is compressed by method 12"),
    "name that is no text": (lambda raw: patched(46, b"\xff")(patched(9, b"\x08")(raw)), "cannot be unpacked: 'utf-8'"),
    "strong encryption": (patched(8, b"\x40\x00"), "cannot be unpacked: strong encryption"),
    "version 9.9": (patched(6, b"\x63\x00"), "cannot be unpacked: zip file version 9.9"),
    "method nobody knows": (patched(10, b"\x61\x00"), "is compressed by method 97"),
    "entry beyond the end": (patched(42, b"\xf0\xff\xff\xff"), "cannot be unpacked"),
    "size in a field that is missing": (patched(24, b"\xff\xff\xff\xff"), "manifest.json has 4294967295 bytes"),
    "two names of one file": (
        lambda raw: raw.replace(b"manifest.json", b"manifest.jsoN", 1), "File name in directory 'manifest.json' and"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_hostile_archive_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    path = made_submission(tmp_path / "store", tmp_path / "parcel.zip")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(RecordError) as caught, opened(path):
        pass
    assert expected in str(caught.value)


# --- rows of others ---

SAME = {"dataset": "made_up", "clean": CLEAN, "official": False}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for attack in ("noise", "storm"):
        made_cell(root, attack=attack, distance=NOTHING, **SAME)  # type: ignore[arg-type]
    return root


def told(monkeypatch: pytest.MonkeyPatch, proved: bool) -> None:
    def answer(root: Path, cells: dict[str, Any], *_: object) -> dict[str, Proof]:
        return {key: Proof(proved, False, "told") for key in cells}

    monkeypatch.setattr(reviewing, "prove", answer)


BOARDS: dict[str, dict[str, Any]] = {
    "a larger radius": {"eps": "1/5"},
    "a smaller radius": {"eps": "1/20", "distance": [0.04] * 3 + [np.inf] * 7},
    "oblivious attackers": {"aware": False},
}


@pytest.mark.parametrize("changes", BOARDS.values(), ids=BOARDS)
def test_a_row_is_not_lowered_through_another_board_without_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path, changes: dict[str, Any]
) -> None:
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel", **changes)
    told(monkeypatch, False)
    assert "would lower the published row mlp, but its witness was not proved" in sentence(parcel, results)
    told(monkeypatch, True)
    assert sentence(parcel, results) == ""


def test_a_seed_of_a_stranger_is_none_on_a_board_without_that_row_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path
) -> None:
    told(monkeypatch, True)
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel", seed=5, norm="l2", eps="1/2")
    assert "only its owner adds seeds to a row" in sentence(parcel, results)


@pytest.mark.parametrize("proved", [False, True])
def test_a_stranger_puts_no_finding_of_his_own_on_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path, proved: bool
) -> None:
    told(monkeypatch, proved)
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel", distance=NOTHING))
    spoiler.record(set_in("findings", to=[{**FINDING, "name": "stolen_model"}]))
    assert "would put the finding stolen_model on a published row" in sentence(spoiler.root, results)
    spoiler.record(set_in("findings", to=[{**FINDING, "name": "implausible_radius"}]))
    assert (sentence(spoiler.root, results) == "") is proved
    assert sentence(spoiler.root) == "", "a row of one's own may have any finding"


def test_every_finding_of_the_harness_is_known() -> None:
    root = Path(__file__).parents[2] / "benchmark"
    made = set()
    for path in (*(root / "stages").glob("*.py"), root / "records" / "findings.py"):
        parts = path.read_text(encoding="utf-8").split("Finding(")[1:]
        made |= {part.split('name="')[1].split('"')[0] for part in parts if 'name="' in part[:80]}
    assert made <= FINDINGS
    assert len(made) > 20


def test_withdrawn_cells_keep_their_key_weights_and_owner(tmp_path: Path, results: Path) -> None:
    for folder in (results / "cells").iterdir():
        withdraw(folder, "trained on the test split")
    again = Spoiler(
        made_submission(tmp_path / "store", tmp_path / "parcel", attack="storm", minimal=False, distance=NOTHING)
    )
    assert "is published already" in sentence(again.root, results)
    other = Spoiler(made_submission(tmp_path / "store2", tmp_path / "parcel2"))
    for rewrite in (other.record, other.card):
        rewrite(lambda d: d.update(weights_sha256="0" * 48))
    assert "has other weights than cells/" in sentence(other.root, results)


def test_rows_that_nobody_checked_require_no_attack_of_others() -> None:
    (board,) = made_leaderboard()[0].boards
    columns = {column.key: column for column in board.columns}
    first, *rest = (row.runs for row in board.rows)
    strange = [tuple(dataclasses.replace(run, columns=frozenset(columns)) for run in runs) for runs in rest]
    few = [tuple(dataclasses.replace(run, columns=frozenset(list(columns)[:1])) for run in first)]
    every = {column.name for column in board.columns}
    for required in (None, every):
        assert not spared(columns, [*few, *strange], required, [True, *[False] * len(rest)])[0]
        assert spared(columns, [*few, *strange], required, [True] * (1 + len(rest)))[0]


def test_an_official_cell_of_given_examples_keeps_the_threat_of_its_suite(tmp_path: Path) -> None:
    parcel = made_submission(
        tmp_path / "store", tmp_path / "parcel", attack="given_examples", minimal=False, model="mine", dataset="digits",
        suite="quickstart@1", official=True, eps="1/1000", distance=NOTHING,
    )  # fmt: skip
    assert "its threat is none of those of quickstart@1" in sentence(parcel)


# --- code and files of strangers ---


def test_every_model_that_runs_code_of_its_user_brings_code(tmp_path: Path) -> None:
    unreviewed = {one.declared.name for one in catalogue("model") if one.flags.get("reviewed") is False}
    assert unreviewed == set(OWN_CODE) & {plugin.name for plugin in registry.declared()}
    for name in OWN_CODE:
        record = read_record(made_cell(tmp_path, clean=CLEAN, distance=FAR, model=name))
        assert record.system.brings_code, "whatever its settings say"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c["model"].update(params={"weights": "elsewhere/net.pt2"}),
        lambda c: c["model"].update(params={"weights": "sha256:" + "a" * 64}),
        lambda c: c["dataset"].update(params={"folder": "/dev"}),
    ],
    ids=["program", "content", "data"],
)
def test_no_path_in_a_record_is_opened_by_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    asked: list[Any] = []

    def noted(root: Path, keys: Any, store: Any, data: Any) -> dict[str, Proof]:
        asked.append(store)
        return {key: Proof(False, False, "told") for key in keys}

    monkeypatch.setattr("benchmark_leaderboard.review.proofs._verified", noted)
    root = tmp_path / "root"
    folder = made_cell(root, clean=CLEAN, distance=FAR, attack="fmn", minimal=True)
    key = read_record(folder).system.key
    (root / "systems" / key).mkdir(parents=True)
    (root / "systems" / key / "weights.safetensors").touch()
    cells = {cell.record.key: cell for cell in read([root / "cells"])[0]}
    assert not names_files(read_record(folder).system.config)
    prove(root, cells, None, tmp_path)
    assert asked.pop() == root
    spoil(cells[folder.name].record.system.config)
    (proof,) = prove(root, cells, None, tmp_path).values()
    assert asked == [None] or "no check opens a path of a record" in proof.sentence


# --- files beside published results ---


def beside(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")


DEEP = "[" * 5000 + "]" * 5000
NUMBER = {"metric": "robust_accuracy", "value": 0.5}
SOURCE = {
    "key": "mine", "title": "t", "authors": "a", "year": 2020,
    "protocols": {"p": {"dataset": "digits", "norm": "linf", "eps_exact": "1/10", "description": "d"}},
    "entries": [{"system": "s", "protocol": "p", "numbers": [NUMBER]}],
}  # fmt: skip


def source(**changes: Any) -> str:
    return json.dumps({**SOURCE, **changes})


def numbered(**changes: Any) -> str:
    return source(entries=[{"system": "s", "protocol": "p", "numbers": [{**NUMBER, **changes}]}])


ROW = "a" * 24


def noted(**fields: str) -> str:
    """Notes on one row."""
    return json.dumps({ROW: fields})


BESIDE: dict[str, tuple[str, str, str]] = {
    "notes twice on one row": ("systems.json", f'{{"{ROW}": {{}}, "{ROW}": {{"title": "x"}}}}', "repeats a key"),
    "notes nested deeply": ("systems.json", DEEP, "systems.json is nested too deeply"),
    "notes of a year in quotes": ("systems.json", noted(year="2020"), "year: Input should be a valid integer"),
    "notes of yes for true": ("systems.json", noted(extra_data="yes"), "extra_data: Input should be a valid"),
    "notes on no row": ("systems.json", '{"mlp": {}}', "systems.json has the key 'mlp'; expected that of a row"),
    "notes with a script": ("systems.json", noted(title="<script>x"), "contains markup or a script"),
    "notes that turn text around": ("systems.json", noted(venue="a\u202eb"), "invisible character U+202E"),
    "notes with a script as a link": ("systems.json", noted(paper="javascript:x()"), "paper: String should match"),
    "releases nested deeply": ("releases.json", DEEP, "is nested too deeply"),
    "releases without end": (
        "releases.json", json.dumps([{"name": "1", "url": "https://e.org"}] * 1000), "releases.json is not a list of"),
    "reported nested deeply": ("reported/mine.json", DEEP, "is nested too deeply"),
    "reported twice": ("reported/mine.json", '{"key": "mine", "key": "mine"}', "repeats a key"),
    "reported count without end": ("reported/mine.json", numbered(count=10**400, total=1), "number of 401 digits"),
    "reported count beyond bounds": ("reported/mine.json", numbered(count=10**12, total=10**12), "less than or equal"),
    "reported error beyond bounds": (
        "reported/mine.json", numbered(metric="corruption_error", value=1e308), "less than or equal to 1000"),
    "reported in the year 0": ("reported/mine.json", source(year=0), "year: Input should be greater than or equal"),
    "reported with a script": ("reported/mine.json", source(title="<img src=x>"), "contains markup or a script"),
    "reported formula": ("reported/mine.json", source(authors="=1+1"), "begins like a spreadsheet formula"),
    "reported number that is none": ("reported/mine.json", numbered(value=0).replace(": 0}", ": NaN}"), "contains NaN"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), BESIDE.values(), ids=BESIDE)
def test_a_hostile_file_beside_the_results_is_refused(tmp_path: Path, name: str, text: str, expected: str) -> None:
    beside(tmp_path, name, text)
    reader = {"systems.json": read_notes, "releases.json": read_releases}.get(name, read_reported)
    with pytest.raises(RecordError) as caught:
        reader([tmp_path])
    assert expected in str(caught.value)
    assert name.rpartition("/")[2] in str(caught.value)


def sidecar(folder: Path, **changes: Any) -> dict[str, Any]:
    """A replay of everything, with these changes."""
    record = read_record(folder)
    return {
        "schema_version": 1, "key": record.key, "record_sha256": file_sha256(folder / "record.json"),
        "weights_sha256": record.weights_sha256, "runtime": "ONNX Runtime 1.2", "onnx_sha256": "a" * 64, "examples": 10,
        "clean_agree": 10, "witnesses": 4, "confirmed": 4, "close": 0, "score_difference": 0.0, "tolerance": 1e-4,
        "checked_with": "1", **changes,
    }  # fmt: skip


REPLAYS = {
    "of too many witnesses": (
        {"witnesses": 9000, "confirmed": 9000},
        "is of 10 examples and 9000 witnesses",
    ),
    "of fewer examples": ({"examples": 9, "clean_agree": 9}, "is of 9 examples and 4 witnesses"),
    "of other weights": ({"weights_sha256": "b" * 64}, "is of other weights than its record"),
    "of another cell": ({"key": "b" * 24}, "has the key 'bbbbbbbbbbbbbbbbbbbbbbbb', but the record beside it"),
    "in quotes": ({"examples": "10"}, "Input should be a valid integer"),
}


@pytest.mark.parametrize(("changes", "expected"), REPLAYS.values(), ids=REPLAYS)
def test_a_hostile_replay_is_left_out_and_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    folder = made_cell(tmp_path, clean=CLEAN, distance=FAR, attack="fmn", minimal=True)
    record = json.loads((folder / "record.json").read_text())
    beside(folder, "record.json", json.dumps({**record, "weights_sha256": "c" * 64}))
    cells, _ = read([tmp_path])
    beside(folder, "replay.json", json.dumps(sidecar(folder)))
    assert not replays_of(cells)[1]
    beside(folder, "replay.json", json.dumps(sidecar(folder, **changes)))
    found, (problem,) = replays_of(cells)
    assert not found
    assert expected in problem.sentence


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"why": "<script>x"}, "contains markup or a script"),
        ({"submitter": {"name": "\u0410nn"}}, "letters that look like others"),
        ({"owner": "yes"}, "Input should be a valid boolean"),
        ({"key": "b" * 24}, "but the record beside it has"),
    ],
    ids=["script", "look-alike", "type", "key"],
)
def test_a_hostile_review_is_left_out_and_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    folder = made_cell(tmp_path, clean=CLEAN, distance=FAR, attack="fmn", minimal=True)
    document = sidecar(folder)
    sound = {name: document[name] for name in ("schema_version", "key", "record_sha256", "checked_with")}
    sound |= {"tier": "re-run", "why": "w", "submitter": {"name": "Ann"}}
    beside(folder, "review.json", json.dumps(sound))
    assert not reviews_of(read([tmp_path])[0])[1]
    beside(folder, "review.json", json.dumps({**sound, **changes}))
    found, (problem,) = reviews_of(read([tmp_path])[0])
    assert not found
    assert expected in problem.sentence


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reason": 1}, "Input should be a valid string"),
        ({"date": "9999-99-99"}, "String should match pattern"),
        ({"deep": [[[[[]]]] * 9]}, "Extra inputs are not permitted"),
    ],
    ids=["type", "date", "field"],
)
def test_a_hostile_withdrawal_withdraws_nothing(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    folder = made_cell(tmp_path, clean=CLEAN, distance=FAR)
    withdraw(folder, "wrong")
    document = {**json.loads((folder / "retracted.json").read_text()), **change}
    beside(folder, "retracted.json", json.dumps(document))
    cells, (problem,) = read([tmp_path])
    assert [cell.folder for cell in cells] == [folder]
    assert "stays on its boards" in problem.sentence
    assert expected in problem.sentence


# --- what readers see and copy ---


def test_a_setting_in_a_label_shows_where_it_ends(tmp_path: Path) -> None:
    widths = [8, "8) + adversarial_training (eps=1/10", "a;=1", "b" * 200]
    made = [made_cell(tmp_path, clean=CLEAN, distance=FAR, model_params={"width": width}) for width in widths]
    found = list(labels({str(at): read_record(folder).system for at, folder in enumerate(made)}).values())
    assert found[:3] == ["mlp (width=8)", 'mlp (width="8) + adversarial_training (eps=1/10")', 'mlp (width="a;=1")']
    assert found[3] == f"mlp (width={'b' * 57}...)"


def test_a_group_of_the_launcher_is_in_no_command(tmp_path: Path) -> None:
    record = read_record(made_cell(tmp_path, clean=CLEAN, distance=FAR))
    words = ["attack=pgd", "hydra/callbacks=x", "+hydra/launcher@hydra.launcher=evil", "~hydra.sweeper", "store/x=y"]
    assert commands([record.model_copy(update={"provenance": {"overrides": words}})]) == ["benchmark run attack=pgd"]


def test_a_table_to_paste_has_no_link_argument_or_formula_of_a_stranger() -> None:
    strange = ("[1] *www.evil.org", "https://evil.org; =1+1")
    table = DownloadTable("c", [{"a": "x;\t=1", "b": strange[1]}], ("a", "b"), [strange, strange])
    assert as_csv(table.rows) == "a,b\r\nx;\t'=1,https://evil.org; '=1+1\r\n"
    latex = as_latex(table)
    assert latex.count("\n{}[1] *www") == 2
    assert "\n[" not in latex
    assert "\\[1\\] \\*www\\.evil.org | https\\://evil.org" in as_markdown(table)


def test_numbers_at_the_edge_of_their_types_are_harmless(tmp_path: Path) -> None:
    """Accepted, and shown: labels of 62 bits, zeros with a sign, the smallest distances, infinite excess."""
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))

    def change(arrays: dict[str, Any]) -> None:
        arrays["clean_label"][9] = arrays["adv_label"][9] = 2**62
        arrays["linf"][0], arrays["linf"][1] = -0.0, 1e-40
        arrays["excess"][9] = np.inf

    spoiler.arrays(OUTCOMES, change)
    assert sentence(spoiler.root) == ""
    site = build([spoiler.root / "cells"], tmp_path / "site").parent
    (board,) = aggregate(*read([spoiler.root / "cells"])).boards
    assert board.rows[0].robust.count == 5
    assert not [file for file in site.rglob("*.json") if "Infinity" in file.read_text()]

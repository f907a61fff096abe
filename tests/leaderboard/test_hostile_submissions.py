"""Every kind of bad submission is refused with one sentence that names the fault, and nothing else is touched."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.review.check import main
from benchmark_leaderboard.review.parcel import LARGEST_TEXT

from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_submission

Spoil = Callable[[Spoiler], object]
OUTCOMES, WITNESS = "outcomes.safetensors", "witness.safetensors"
SCRIPT = "<script>alert(1)</script>"


class Bomb:
    """Running this would leave a file behind."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


def set_in(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value deep in a document."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return change


def each(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(s: Spoiler) -> None:
        for one in spoils:
            one(s)

    return spoil


def sealed(s: Spoiler) -> None:
    s.seal_manifest()


def no_cell(s: Spoiler) -> None:
    for path in s.cell.iterdir():
        path.unlink()
    s.cell.rmdir()
    s.seal_manifest()


def of(record: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda s: s.record(record)


def array(name: str, at: int | slice, value: Any) -> Spoil:
    return lambda s: s.outcome(name, at, value)


def witness(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda s: s.arrays(WITNESS, change)


def truncated(s: Spoiler) -> None:
    path = s.cell / OUTCOMES
    s.replace(OUTCOMES, path.read_bytes()[:-5])


def flipped(s: Spoiler) -> None:
    raw = bytearray((s.cell / WITNESS).read_bytes())
    raw[-1] ^= 1
    (s.cell / WITNESS).write_bytes(raw)


def deep(s: Spoiler) -> None:
    s.raw_record('"provenance": {', '"provenance": {"deep": ' + "[" * 100_000 + "]" * 100_000 + ", ")


def linked(s: Spoiler) -> None:
    secret = s.root.parent / "secret"
    secret.write_bytes((s.cell / WITNESS).read_bytes())
    (s.cell / WITNESS).unlink()
    (s.cell / WITNESS).symlink_to(secret)


def linked_folder(s: Spoiler) -> None:
    s.system.rename(s.root.parent / "elsewhere")
    s.system.symlink_to(s.root.parent / "elsewhere")


def raw_header(length: int, header: bytes = b"{}", rest: bytes = b"") -> Spoil:
    return lambda s: s.replace(OUTCOMES, struct.pack("<Q", length) + header + rest)


def header(array_: str, **changes: Any) -> Spoil:
    return lambda s: s.header(OUTCOMES, lambda d: d[array_].update(changes))


def overlapping(document: dict[str, Any]) -> None:
    document["y"]["data_offsets"] = document["ids"]["data_offsets"]


def without_gap(s: Spoiler) -> None:
    s.replace(OUTCOMES, (s.cell / OUTCOMES).read_bytes() + b"hidden payload")


def bool_bytes(s: Spoiler) -> None:
    """A bool of 2 counts as true in one program and as 2 in another."""
    raw = bytearray((s.cell / OUTCOMES).read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    at = json.loads(raw[8 : 8 + length])["broken"]["data_offsets"][0]
    raw[8 + length + at] = 2
    s.replace(OUTCOMES, bytes(raw))


def more_broken(arrays: dict[str, Any]) -> None:
    """Claims that an example was broken, which the counts do not say."""
    arrays["broken"][3] = True
    arrays["linf"][3] = arrays["l2"][3] = arrays["l1"][3] = 0.1


def fewer_rows(arrays: dict[str, Any]) -> None:
    for name in arrays:
        arrays[name] = arrays[name][:9]


def other_system(s: Spoiler) -> None:
    s.card(set_in("system", "config", "model", "params", to={"weights": "mine/net.pt"}))  # so that no key is computed


def stranger_system(s: Spoiler) -> None:
    made_submission(s.root.parent / "second", s.root.parent / "parcel2", model="other")
    (folder,) = (s.root.parent / "parcel2" / "systems").iterdir()
    folder.rename(s.root / "systems" / folder.name)
    s.seal_manifest()


def no_card(s: Spoiler) -> None:
    (s.system / "card.json").unlink()
    s.system.rmdir()
    s.seal_manifest()


def wrong_weights(s: Spoiler) -> None:
    (s.system / "weights.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    s.seal_manifest()


def pickled_weights(s: Spoiler) -> None:
    (s.system / "weights.safetensors").write_bytes(pickle.dumps(Bomb()))
    s.seal_manifest()


def zipped_weights(s: Spoiler) -> None:
    with zipfile.ZipFile(s.system / "weights.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    s.seal_manifest()


def stowaway(s: Spoiler) -> None:
    (s.root / "setup.py").write_text("import os", encoding="utf-8")


def fifo(s: Spoiler) -> None:
    (s.cell / WITNESS).unlink()
    os.mkfifo(s.cell / WITNESS)


def huge_text(s: Spoiler) -> None:
    (s.cell / "record.json").write_bytes(b" " * (LARGEST_TEXT + 1))


KINDS: dict[str, tuple[Spoil, str]] = {
    # text
    "script in a label": (of(set_in("system", "model", to=SCRIPT)), "system.model in cells/"),
    "script in a parameter": (of(set_in("attack", "params", to={"note": SCRIPT})), "attack.params.note in cells/"),
    "script in a key": (of(set_in("provenance", SCRIPT, to=1)), "a key of provenance in cells/"),
    "script in a finding": (
        of(set_in("findings", to=[{"name": "x", "severity": "info", "evidence": "<img src=x onerror=alert(1)>"}])),
        "findings.evidence in cells/",
    ),
    "script in the card": (lambda s: s.card(set_in("warnings", to=["<svg/onload=alert(1)>"])), "warnings in systems/"),
    "script in the manifest": (lambda s: s.manifest(set_in("note", to=SCRIPT)), "note in manifest.json holds markup"),
    "script as a link": (
        lambda s: s.manifest(set_in("submitter", "url", to="javascript:alert(1)")),
        "submitter.url in manifest.json holds markup or a script",
    ),
    "link without encryption": (
        lambda s: s.manifest(set_in("submitter", "url", to="http://example.org")),
        "manifest.json: submitter.url: String should match pattern",
    ),
    "formula": (of(set_in("dataset_revision", to="=HYPERLINK(1)")), "dataset_revision in cells/"),
    "formula of another kind": (of(set_in("error", to="+cmd|' /C calc'!A0")), "error in cells/"),
    "formula after a space": (of(set_in("error", to=" @SUM(1)")), "begins like a spreadsheet formula"),
    "hidden direction": (of(set_in("attack", "version", to="1.0\u202egp")), "holds the invisible character U+202E"),
    "control character": (of(set_in("error", to="a\u001b[31m")), "holds the invisible character U+001B"),
    "line that is none": (of(set_in("error", to="a\u2028b")), "holds the invisible character U+2028"),
    "name that shows nothing": (
        lambda s: s.manifest(set_in("submitter", "name", to="\u3164")), "holds the invisible character U+3164"),
    "accents piled up": (of(set_in("error", to="Z" + "\u0301" * 30)), "error in cells/"),
    "endless text": (of(set_in("error", to="a" * 30_000)), "has 30000 characters; expected at most 20000"),
    "markdown in a name": (of(set_in("attack", "name", to="pgd`|![x](y)")), "attack holds the name"),
    "path in a suite": (of(set_in("suite", to="../../etc")), "suite holds the name '../../etc'"),
    # JSON
    "deep JSON": (deep, "is nested too deeply; expected at most 32 levels"),
    "rather deep JSON": (
        of(set_in("provenance", "deep", to=json.loads("[" * 40 + "]" * 40))),
        "is nested too deeply; expected at most 32 levels",
    ),
    "NaN": (of(set_in("cost", "seconds", to=float("nan"))), "holds NaN; expected finite numbers"),
    "infinity": (of(set_in("threat", "eps", to=float("inf"))), "holds Infinity; expected finite numbers"),
    "infinity in disguise": (
        lambda s: s.raw_record('"seconds": 1.5', '"seconds": 1e999'),
        "holds the number 1e999; expected one that a double can hold",
    ),
    "huge number": (of(set_in("seed", to=10**400)), "holds a whole number of 401 digits; expected at most 18"),
    "key twice": (lambda s: s.raw_record('"seed":', '"seed": 7, "seed":'), "gives a key twice in one object"),
    "no UTF-8": (lambda s: s.raw_record('"seed":', '"\udcff": 1, "seed":'), "is no UTF-8 text at byte"),
    "no JSON": (lambda s: s.raw_record('"seed":', "seed:"), "is no JSON: Expecting property name"),
    "no object": (
        each(lambda s: (s.cell / "record.json").write_text("[]"), sealed), "is not a record of schema version 1"),
    "unknown schema": (of(set_in("schema_version", to=99)), "it is of schema version 99, and this installation reads"),
    "unknown field": (of(set_in("surprise", to=1)), "surprise: Extra inputs are not permitted"),
    "strings for numbers": (of(set_in("counts", "total", to="ten")), "counts.total: Input should be a valid integer"),
    "huge text file": (huge_text, f"has {LARGEST_TEXT + 1} bytes; expected at most {LARGEST_TEXT}"),
    # identity
    "key of another cell": (of(set_in("key", to="0" * 24)), "has the key 000000000000000000000000; expected the name"),
    "path for a key": (of(set_in("system", "key", to="../../../../tmp/x")), "has system.key '../../../../tmp/x'"),
    "unfinished cell": (of(set_in("status", to="failed")), "is failed; only complete cells can be submitted"),
    "inexact radius": (of(set_in("threat", "eps_exact", to="8/255")), "has eps 0.1 and eps_exact '8/255'"),
    "another system's card": (other_system, "describes its system otherwise than the card in systems/"),
    "other weights": (of(set_in("weights_sha256", to="0" * 64)), "was made with other weights than the card"),
    "other data": (of(set_in("dataset_revision", to="r2")), "was made with another revision of the dataset"),
    "no card": (no_card, "card.json is missing, and cells/"),
    "a system too many": (stranger_system, "belongs to no cell of the submission"),
    "official without a suite": (
        of(lambda d: d.update(suite=None, official=True)), "calls itself official and names no suite"),
    "no draws": (of(set_in("threat", "eot", to=0)), "has threat.eot 0; expected 1 to 1e+06"),
    "two goals": (of(set_in("threat", "goal", to="next_class")), "has the goal 'next_class' and says targeted False"),
    "overrides that are none": (of(set_in("provenance", "overrides", to=7)), "has provenance.overrides that is no"),
    "negative network": (lambda s: s.card(set_in("parameters", to=-1)), "has parameters -1; expected 0 to 1e+13"),
    "leaking split": (
        of(set_in("splits_disjoint", to=False)), "does not say that training and test examples are disjoint"),
    # numbers
    "counts that disagree": (of(set_in("counts", "robust_correct", to=8)), "counts robust_correct 8, and its outcomes"),
    "top five that disagree": (of(set_in("counts", "clean_top5", to=9)), "counts clean_top5 9, and its outcomes"),
    "cheap attack": (of(set_in("cost", "forwards", to=1)), "counts 1 forward and 80 backward passes, and its"),
    "flattering metric": (
        of(set_in("metrics", to=[{"name": "robust_accuracy", "value": 0.99, "low": None, "high": None, "unit": "",
                                  "higher_is_better": True}])),
        "gives a robust_accuracy of 0.99, and its counts give another",
    ),
    "another flattering metric": (
        of(set_in("metrics", to=[{"name": "clean_accuracy", "value": 0.9, "low": 0.8, "high": 1.0, "unit": "",
                                  "higher_is_better": True}])),
        "gives a clean_accuracy of 0.9, and its counts give another",
    ),
    "interval beside its number": (
        of(set_in("metrics", to=[{"name": "robust_accuracy", "value": 0.5, "low": 0.8, "high": 0.9, "unit": "",
                                  "higher_is_better": True}])),
        "gives a robust_accuracy of 0.5 outside its interval 0.8 to 0.9",
    ),
    "metric told twice": (
        of(set_in("metrics", to=[{"name": "m", "value": value, "low": None, "high": None, "unit": "",
                                  "higher_is_better": True} for value in (0.1, 0.9)])),
        "gives the metric m twice; expected each once",
    ),
    "record from the future": (
        of(set_in("provenance", "created", to="9999-12-31T23:59:59Z")), "9999-12-31T23:59:59Z, which has not come yet"),
    "date that is none": (
        of(set_in("provenance", "created", to="long ago")), "was created 'long ago'; expected a date like 2026-"),
    "attack in disguise": (
        of(set_in("attack", "minimal", to=False)), "attack.minimal is false; attack.fmn declares true"),
    "right more often than trained": (
        lambda s: s.card(set_in("test_correct", to=5)), "8 clean examples of 10, and the card of its system says 5"),
    "negative time": (of(set_in("cost", "seconds", to=-1.0)), "has cost.seconds -1.0; expected 0 to 1e+10"),
    "error that was found": (
        of(set_in("findings", to=[{"name": "zero_gradient", "severity": "error", "evidence": "all"}])),
        "has the finding zero_gradient, an error of the evaluation",
    ),
    # arrays
    "duplicated example": (array("ids", 1, 1000), "holds an example twice"),
    "foreign example": (array("ids", 9, 77777), "that differs from that of its outcomes"),
    "negative id": (array("ids", 9, -1), "has an id that is negative (example -1)"),
    "other labels": (array("y", 9, 3), "that differs from that of its outcomes"),
    "right answer called wrong": (array("clean_label", 0, 9), "an example called right whose answer is another label"),
    "break that was no break": (array("adv_label", 0, 0), "has an adversarial candidate with the right answer"),
    "break beyond the radius": (
        lambda s: s.arrays(OUTCOMES, lambda a: [a[n].__setitem__(0, 0.2) for n in ("linf", "l2", "l1", "l0")]),
        "has a broken example whose distance exceeds the radius (example 1000)",
    ),
    "NaN distance": (array("linf", 0, np.nan), "has a distance or radius that is NaN or negative"),
    "negative distance": (array("l2", 0, -1), "has a distance or radius that is NaN or negative"),
    "impossible norms": (array("l2", 0, 0.01), "has norms that contradict each other"),
    "distance of nothing": (array("linf", 5, 0.3), "has a distance without an adversarial candidate"),
    "break of a wrong example": (array("broken", 9, True), "has a broken example without an adversarial candidate"),
    "unattacked example": (array("attacked", 0, False), "an example that was attacked though it was wrong, or not"),
    "certificate of a wrong answer": (array("certified", 9, 0.05), "has a certified radius around a wrong answer"),
    "certificate beyond a break": (
        array("certified", 0, 0.06), "has an adversarial candidate nearer than its certified radius (example 1000)"),
    "gradients behind closed doors": (
        of(set_in("threat", "access", to="labels")), "has gradients of an attack that may not see them"),
    "more queries than allowed": (of(set_in("threat", "queries", to=9)), "has more queries than the threat allows"),
    "blind attack without its finding": (
        array("zero_gradient", slice(None), True), "has 8 first gradients that are zero and no finding that says so"),
    "gradient that is no number": (array("bad_gradient", 0, True), "has a first gradient that is not finite"),
    "negative passes": (array("forwards", 0, -5), "has a number of passes that is negative"),
    "hidden break": (lambda s: s.arrays(OUTCOMES, more_broken), "counts robust_correct 5, and its outcomes"),
    "hidden invalid candidates": (
        each(
            array("valid", 5, False),
            of(lambda d: d["counts"].update(robust_correct=4, robust_top5=9, invalid=1)),
        ),
        "has 1 invalid candidates and no finding that says so",
    ),
    "too few rows": (lambda s: s.arrays(OUTCOMES, fewer_rows), "; expected"),
    "wrong dtype": (
        lambda s: s.arrays(OUTCOMES, lambda a: a.update(linf=a["linf"].astype(np.float64))),
        "is F64 [10]; expected F32 [10]",
    ),
    "array missing": (lambda s: s.arrays(OUTCOMES, lambda a: a.pop("valid")), "has other arrays than expected: '"),
    "array too many": (
        lambda s: s.arrays(OUTCOMES, lambda a: a.update(extra=np.zeros(10))),
        "has other arrays than expected: 'extra'",
    ),
    "bool that is none": (bool_bytes, "broken in cells/"),
    # the format of arrays
    "truncated": (truncated, "bytes of arrays, and its header describes"),
    "payload at the end": (without_gap, "bytes of arrays, and its header describes"),
    "header of 2^63 bytes": (raw_header(1 << 63), "names a header of 9223372036854775808; expected one that fits"),
    "header longer than the file": (raw_header(10_000), "names a header of 10000; expected one that fits"),
    "header of nothing": (raw_header(0), "names a header of 0; expected one that fits"),
    "header that is no JSON": (raw_header(4, b"{{{{"), "the header of cells/"),
    "header that is a list": (raw_header(2, b"[]"), "is no object; expected one with an entry for each array"),
    "negative offset": (header("y", data_offsets=[-8, 72]), "is no list of whole numbers from 0 to 2^40"),
    "offset beyond the end": (header("y", data_offsets=[0, 1 << 39]), "in cells/"),
    "overlapping arrays": (lambda s: s.header(OUTCOMES, overlapping), "bytes from"),
    "enormous shape": (header("y", shape=[1 << 39, 1 << 39]), "bytes from"),
    "fractional shape": (header("y", shape=[2.5, 4]), "is no list of whole numbers from 0 to 2^40"),
    "unknown dtype": (header("y", dtype="OBJECT"), "has the dtype 'OBJECT'; expected one of"),
    "missing offsets": (lambda s: s.header(OUTCOMES, lambda d: d["y"].pop("data_offsets")), "is not described by"),
    "pickle as outcomes": (lambda s: s.replace(OUTCOMES, pickle.dumps(Bomb())), "is a pickle; expected safetensors"),
    "pickle as weights": (pickled_weights, "is a pickle; expected safetensors, and no other format is read"),
    "torch file as weights": (zipped_weights, "is a zip archive (as torch.save writes); expected safetensors"),
    "NumPy file as witness": (lambda s: s.replace(WITNESS, b"\x93NUMPY\x01\x00" + b"\0" * 99), "is a NumPy file"),
    "empty file": (lambda s: s.replace(WITNESS, b""), "has 0 bytes and names a header of 0"),
    # the witness
    "witness of other examples": (
        witness(lambda a: a["ids"].__setitem__(0, 1009)), "is not made of just the examples that outcomes"),
    "witness twice": (witness(lambda a: a["ids"].__setitem__(0, 1001)), "witness.safetensors holds an example twice"),
    "witness missing": (
        witness(lambda a: a.update(ids=a["ids"][1:], x_adv=a["x_adv"][1:])), "is not made of just the examples"),
    "witness without candidates": (witness(lambda a: a.update(x_adv=a["x_adv"][1:])), "expected one for each"),
    "witness outside the box": (witness(lambda a: a["x_adv"].__setitem__((0, 0), 1.5)), "holds a value outside [0, 1]"),
    "witness of NaN": (witness(lambda a: a["x_adv"].__setitem__((0, 0), np.nan)), "holds a value that is not finite"),
    "witness of doubles": (
        witness(lambda a: a.update(x_adv=a["x_adv"].astype(np.float64))), "is F64 [4, 4]; expected F32"),
    # files
    "bit flipped": (flipped, "does not have the sha256 that manifest.json gives"),
    "bit flipped, manifest mended": (
        each(flipped, sealed), "is not the file that the record names by size and sha256"),
    "weights that are not the card's": (wrong_weights, "does not have the sha256 that its card gives"),
    "stowaway": (stowaway, "'setup.py' is no place in a submission"),
    "named but missing": (lambda s: (s.cell / WITNESS).unlink(), "is missing, and named in manifest.json"),
    "there but not named": (
        lambda s: s.manifest(lambda d: d["files"].pop()), "is not named in manifest.json"),
    "named twice": (lambda s: s.manifest(lambda d: d["files"].append(d["files"][0])), "names a file twice"),
    "path traversal in the manifest": (
        lambda s: s.manifest(set_in("files", 0, "path", to="../../etc/passwd")),
        "names '../../etc/passwd', which is no place in a submission",
    ),
    "path traversal in the record": (
        of(set_in("files", 0, "path", to="../../../etc/passwd")), "names the files ['../../../etc/passwd'"),
    "symbolic link": (linked, "is a link; expected plain files"),
    "symbolic link to a folder": (linked_folder, "is a link; expected plain files"),
    "named pipe": (fifo, "is no plain file"),
    "no manifest": (lambda s: (s.root / "manifest.json").unlink(), "there is no manifest.json; pack submissions with"),
    "no cell": (no_cell, "it holds no cell; expected at least one"),
}  # fmt: skip


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content; links and pipes are not followed."""
    plain = {path: path.is_file() and not path.is_symlink() for path in folder.rglob("*")}
    return {str(path): path.read_bytes() if is_file else None for path, is_file in plain.items()}


def refusal(path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of the review; fails if anything on disk changed."""
    results = root / "published"
    before = listing(root)
    assert main(path, [results], store=None, data=root / "data", into=root / "into") == 1
    assert listing(root) == before, "a check must touch nothing"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## Refused"
    (sentence,) = [line for line in lines if line.startswith("- ")]
    assert "<script" not in sentence or sentence.startswith("- `")
    return sentence


@pytest.mark.parametrize(("spoil", "expected"), KINDS.values(), ids=KINDS)
def test_a_hostile_submission_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoil(spoiler)
    assert expected in refusal(tmp_path / "parcel", tmp_path, capsys)


def zipped(root: Path, change: Callable[[zipfile.ZipFile], object]) -> Path:
    """A sound zip to which something was added."""
    path = made_submission(root / "store", root / "parcel.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        change(archive)
    return path


def link_member(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo(f"cells/{'a' * 24}/record.json")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, "/etc/passwd")


def bomb(archive: zipfile.ZipFile) -> None:
    for at in range(8):
        archive.writestr(f"cells/{at:024x}/{OUTCOMES}", b"\0" * (16 << 20))


def many(archive: zipfile.ZipFile) -> None:
    for at in range(10_001):
        archive.writestr(f"cells/{at:024x}/record.json", "")


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("manifest.json", "{}")


def encrypted(archive: zipfile.ZipFile) -> None:
    """The second member says that it is encrypted, in the directory at the end."""
    archive.infolist()[1].flag_bits |= 1
    archive._didModify = True  # type: ignore[attr-defined]  # so that the directory is written again


ZIPS: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "path traversal": (lambda z: z.writestr("../../evil.json", "{}"), "'../../evil.json' is no place in a submission"),
    "absolute path": (lambda z: z.writestr("/etc/cron.d/evil", "x"), "is no place in a submission"),
    "backslashes": (lambda z: z.writestr("cells\\..\\..\\evil", "x"), "is no place in a submission"),
    "folder elsewhere": (lambda z: z.writestr("../evil/", ""), "'../evil/' is no place in a submission"),
    "link": (link_member, "is a link or a special file; expected plain files"),
    "bomb": (bomb, "more than 200 times its own size"),
    "many files": (many, "it holds 10006 files"),
    "one name twice": (twice, "holds two files of one name"),
    "encrypted": (encrypted, "is encrypted; expected plain files"),
    "executable": (lambda z: z.writestr("run.sh", "rm -rf /"), "'run.sh' is no place in a submission"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), ZIPS.values(), ids=ZIPS)
def test_a_hostile_zip_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[zipfile.ZipFile], object],
    expected: str,
) -> None:
    assert expected in refusal(zipped(tmp_path, change), tmp_path, capsys)


def lying_size(raw: bytes) -> bytes:
    """The first member claims, in both headers, to be shorter than it unpacks to."""
    size = struct.pack("<I", len(b""))
    local = raw.index(b"PK\x03\x04") + 22
    central = raw.index(b"PK\x01\x02") + 24
    return raw[:local] + size + raw[local + 4 : central] + size + raw[central + 4 :]


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda raw: raw[: len(raw) // 2], "cannot be unpacked"),
    "no archive": (lambda raw: b"#!/bin/sh\nrm -rf /\n", "cannot be unpacked"),
    "empty": (lambda raw: b"", "cannot be unpacked"),
    "damaged": (lambda raw: raw[:80] + bytes([raw[80] ^ 255]) + raw[81:], "cannot be unpacked"),
    "a size that lies": (lying_size, "parcel.zip"),
}


@pytest.mark.parametrize(("change", "expected"), BYTES.values(), ids=BYTES)
def test_a_damaged_archive_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], expected: str
) -> None:
    path = made_submission(tmp_path / "store", tmp_path / "parcel.zip")
    path.write_bytes(change(path.read_bytes()))
    found = refusal(path, tmp_path, capsys)
    assert expected in found or "manifest.json" in found


def test_something_that_is_no_submission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("link", "missing"):
        assert f"{name} is no submission; expected a folder or a zip file" in refusal(tmp_path / name, tmp_path, capsys)


def test_cells_of_a_suite_must_share_its_example_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark_leaderboard.review.check.required_attacks", lambda suite: frozenset({"fmn"}))
    made_cell(
        tmp_path / "published", clean=CLEAN, distance=FAR, minimal=True, model="other", examples="x", dataset="made_up"
    )
    made_submission(tmp_path / "store", tmp_path / "parcel", official=True)
    said = refusal(tmp_path / "parcel", tmp_path, capsys)
    assert "was made on another example list than the other cells of the suite" in said


def test_there_are_at_least_forty_kinds() -> None:
    assert len(KINDS) + len(ZIPS) + len(BYTES) >= 100


def places(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every text in a JSON document."""
    if isinstance(document, str):
        return [path]
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for key, value in items for found in places(value, (*path, key))]


def test_a_script_or_a_formula_in_any_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding = {"name": "some_finding", "severity": "info", "evidence": "none"}
    metric = {"name": "m", "value": 0.5, "low": None, "high": None, "unit": "share", "higher_is_better": True}
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoiler.record(lambda d: d.update(findings=[finding], metrics=[metric], error="none"))
    spoiler.card(lambda d: d.update(warnings=["one"]))
    assert main(tmp_path / "parcel", [], store=None, data=tmp_path, into=None) == 0
    capsys.readouterr()
    tried = 0
    for path, change in (
        (spoiler.cell / "record.json", spoiler.record),
        (spoiler.system / "card.json", spoiler.card),
        (tmp_path / "parcel" / "manifest.json", spoiler.manifest),
    ):
        kept = path.read_bytes()
        for place in places(json.loads(kept)):
            for text in (f"x{SCRIPT}", "=1+1"):
                change(set_in(*place, to=text))
                refusal(tmp_path / "parcel", tmp_path, capsys)
                path.write_bytes(kept)
                spoiler.seal_manifest()
                tried += 1
    assert tried > 100


@pytest.mark.parametrize("name", ["record.json", OUTCOMES, WITNESS, "card.json", "manifest.json"])
def test_random_damage_is_refused_or_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever byte is changed, and however well the hashes are forged, the check ends with a review."""
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    (path,) = (tmp_path / "parcel").rglob(name)
    kept = {file: file.read_bytes() for file in (tmp_path / "parcel").rglob("*") if file.is_file()}
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        raw = bytearray(kept[path])
        for _ in range(rng.integers(1, 4)):
            raw[rng.integers(0, len(raw))] = rng.integers(0, 256)
        path.write_bytes(bytes(raw))
        if name.endswith("safetensors"):
            spoiler.seal()
        elif name != "manifest.json":
            spoiler.seal_manifest()
        refused += main(tmp_path / "parcel", [], store=None, data=tmp_path, into=None)
        for file, content in kept.items():
            file.write_bytes(content)
    assert capsys.readouterr().out.count("## Refused") == refused
    assert refused >= (5 if name == WITNESS else 30)

"""Submissions spoilt in many ways, each with the words of its refusal."""

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
from benchmark_leaderboard.review.parcel import LARGEST_TEXT

from tests.leaderboard.made_submission import Spoiler, made_submission

Spoil = Callable[[Spoiler], object]

OUTCOMES = "outcomes.safetensors"
WITNESS = "witness.safetensors"

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


def beside(name: str) -> Spoil:
    """Put a file beside the record that only maintainers write, named in the manifest."""

    def spoil(s: Spoiler) -> None:
        (s.cell / name).write_text("{}", encoding="utf-8")
        s.seal_manifest()

    return spoil


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
    "script in the manifest": (lambda s: s.manifest(set_in("note", to=SCRIPT)), "note in manifest.json contains "
    "markup"),
    "script as a link": (
        lambda s: s.manifest(set_in("submitter", "url", to="javascript:alert(1)")),
        "submitter.url in manifest.json contains markup or a script",
    ),
    "link without encryption": (
        lambda s: s.manifest(set_in("submitter", "url", to="http://example.org")),
        "manifest.json: submitter.url: String should match pattern",
    ),
    "formula": (of(set_in("dataset_revision", to="=HYPERLINK(1)")), "dataset_revision in cells/"),
    "formula of another kind": (of(set_in("error", to="+cmd|' /C calc'!A0")), "error in cells/"),
    "formula after a space": (of(set_in("error", to=" @SUM(1)")), "begins like a spreadsheet formula"),
    "hidden direction": (of(set_in("attack", "version", to="1.0\u202egp")), "contains the invisible character U+202E"),
    "control character": (of(set_in("error", to="a\u001b[31m")), "contains the invisible character U+001B"),
    "line that is none": (of(set_in("error", to="a\u2028b")), "contains the invisible character U+2028"),
    "name that shows nothing": (
        lambda s: s.manifest(set_in("submitter", "name", to="\u3164")), "contains the invisible character U+3164"),
    "accents piled up": (of(set_in("error", to="Z" + "\u0301" * 30)), "error in cells/"),
    "endless text": (of(set_in("error", to="a" * 30_000)), "has 30000 characters; expected at most 20000"),
    "markdown in a name": (of(set_in("attack", "name", to="pgd`|![x](y)")), "attack has the name"),
    "path in a suite": (of(set_in("suite", to="../../etc")), "suite has the name '../../etc'"),
    # JSON
    "deep JSON": (deep, "is nested too deeply; expected at most 32 levels"),
    "rather deep JSON": (
        of(set_in("provenance", "deep", to=json.loads("[" * 40 + "]" * 40))),
        "is nested too deeply; expected at most 32 levels",
    ),
    "NaN": (of(set_in("cost", "seconds", to=float("nan"))), "contains NaN; expected finite numbers"),
    "infinity": (of(set_in("threat", "eps", to=float("inf"))), "contains Infinity; expected finite numbers"),
    "infinity in disguise": (
        lambda s: s.raw_record('"seconds": 1.5', '"seconds": 1e999'),
        "contains the number 1e999; expected one in the range of a double",
    ),
    "huge number": (of(set_in("seed", to=10**400)), "contains a whole number of 401 digits; expected at most 18"),
    "key twice": (lambda s: s.raw_record('"seed":', '"seed": 7, "seed":'), "repeats a key in one object"),
    "no UTF-8": (lambda s: s.raw_record('"seed":', '"\udcff": 1, "seed":'), "is not UTF-8 text at byte"),
    "no JSON": (lambda s: s.raw_record('"seed":', "seed:"), "is not JSON: Expecting property name"),
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
    "another system's card": (other_system, "contradicts the card in systems/"),
    "other weights": (of(set_in("weights_sha256", to="0" * 64)), "was made with other weights than the card"),
    "other data": (of(set_in("dataset_revision", to="r2")), "was made with another revision of the dataset"),
    "no card": (no_card, "card.json is missing, but cells/"),
    "a system too many": (stranger_system, "belongs to no cell of the submission"),
    "official without a suite": (
        of(lambda d: d.update(suite=None, official=True)), "calls itself official but names no suite"),
    "no draws": (of(set_in("threat", "eot", to=0)), "has threat.eot 0; expected 1 to 1e+06"),
    "two goals": (of(set_in("threat", "goal", to="next_class")), "has the goal 'next_class', but targeted is False"),
    "overrides that are none": (of(set_in("provenance", "overrides", to=7)), "has provenance.overrides that is not a"),
    "negative network": (lambda s: s.card(set_in("parameters", to=-1)), "has parameters -1; expected 0 to 1e+13"),
    "leaking split": (
        of(set_in("splits_disjoint", to=False)), "does not say that training and test examples are disjoint"),
    # numbers
    "counts that disagree": (of(set_in("counts", "robust_correct", to=8)), "counts robust_correct 8, but its outcomes"),
    "top five that disagree": (of(set_in("counts", "clean_top5", to=9)), "counts clean_top5 9, but its outcomes"),
    "cheap attack": (of(set_in("cost", "forwards", to=1)), "counts 1 forward and 80 backward passes, but its"),
    "flattering metric": (
        of(set_in("metrics", to=[{"name": "robust_accuracy", "value": 0.99, "low": None, "high": None, "unit": "",
                                  "higher_is_better": True}])),
        "has a robust_accuracy of 0.99, but its counts give another",
    ),
    "another flattering metric": (
        of(set_in("metrics", to=[{"name": "clean_accuracy", "value": 0.9, "low": 0.8, "high": 1.0, "unit": "",
                                  "higher_is_better": True}])),
        "has a clean_accuracy of 0.9, but its counts give another",
    ),
    "interval beside its number": (
        of(set_in("metrics", to=[{"name": "robust_accuracy", "value": 0.5, "low": 0.8, "high": 0.9, "unit": "",
                                  "higher_is_better": True}])),
        "has a robust_accuracy of 0.5 outside its interval 0.8 to 0.9",
    ),
    "metric told twice": (
        of(set_in("metrics", to=[{"name": "m", "value": value, "low": None, "high": None, "unit": "",
                                  "higher_is_better": True} for value in (0.1, 0.9)])),
        "has the metric m twice; expected each once",
    ),
    "record from the future": (
        of(set_in("provenance", "created", to="9999-12-31T23:59:59Z")), "9999-12-31T23:59:59Z, in the future"),
    "date that is none": (
        of(set_in("provenance", "created", to="long ago")), "was created 'long ago'; expected a date like 2026-"),
    "attack in disguise": (
        of(set_in("attack", "minimal", to=False)), "attack.minimal false, but attack.fmn declares true"),
    "right more often than trained": (
        lambda s: s.card(set_in("test_correct", to=5)), "8 clean examples of 10, but the card of its system says 5"),
    "negative time": (of(set_in("cost", "seconds", to=-1.0)), "has cost.seconds -1.0; expected 0 to 1e+10"),
    "error that was found": (
        of(set_in("findings", to=[{"name": "zero_gradient", "severity": "error", "evidence": "all"}])),
        "has the finding zero_gradient, an error of the evaluation",
    ),
    # arrays
    "duplicated example": (array("ids", 1, 1000), "has an example twice"),
    "foreign example": (array("ids", 9, 77777), "that differs from that of its outcomes"),
    "negative id": (array("ids", 9, -1), "has a negative id (example -1)"),
    "other labels": (array("y", 9, 3), "that differs from that of its outcomes"),
    "right answer called wrong": (array("clean_label", 0, 9), "an example marked correct with another predicted label"),
    "break that was no break": (array("adv_label", 0, 0), "has an adversarial candidate that is classified correctly"),
    "break beyond the radius": (
        lambda s: s.arrays(OUTCOMES, lambda a: [a[n].__setitem__(0, 0.2) for n in ("linf", "l2", "l1", "l0")]),
        "has a broken example whose distance exceeds the radius (example 1000)",
    ),
    "NaN distance": (array("linf", 0, np.nan), "has a distance or radius that is NaN or negative"),
    "negative distance": (array("l2", 0, -1), "has a distance or radius that is NaN or negative"),
    "impossible norms": (array("l2", 0, 0.01), "has norms that contradict each other"),
    "distance of nothing": (array("linf", 5, 0.3), "has a distance without an adversarial candidate"),
    "break of a wrong example": (array("broken", 9, True), "has a broken example without an adversarial candidate"),
    "unattacked example": (array("attacked", 0, False), "an example that was attacked although misclassified, or not"),
    "certificate of a wrong answer": (array("certified", 9, 0.05), "has a certified radius around a misclassified "
    "input"),
    "certificate beyond a break": (
        array("certified", 0, 0.06), "has an adversarial candidate nearer than its certified radius (example 1000)"),
    "gradients behind closed doors": (
        of(set_in("threat", "access", to="labels")), "has gradients of an attack without gradient access"),
    "more queries than allowed": (of(set_in("threat", "queries", to=9)), "has more queries than the threat allows"),
    "blind attack without its finding": (
        array("zero_gradient", slice(None), True), "has 8 first gradients that are zero but no finding that says so"),
    "gradient that is no number": (array("bad_gradient", 0, True), "has a first gradient that is not finite"),
    "negative passes": (array("forwards", 0, -5), "has a negative number of passes"),
    "hidden break": (lambda s: s.arrays(OUTCOMES, more_broken), "counts robust_correct 5, but its outcomes"),
    "hidden invalid candidates": (
        each(
            array("valid", 5, False),
            of(lambda d: d["counts"].update(robust_correct=4, robust_top5=9, invalid=1)),
        ),
        "has 1 invalid candidates but no finding that says so",
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
    "truncated": (truncated, "bytes of arrays, but its header describes"),
    "payload at the end": (without_gap, "bytes of arrays, but its header describes"),
    "header of 2^63 bytes": (raw_header(1 << 63), "declares a header of 9223372036854775808; expected one that fits"),
    "header longer than the file": (raw_header(10_000), "declares a header of 10000; expected one that fits"),
    "header of nothing": (raw_header(0), "declares a header of 0; expected one that fits"),
    "header that is no JSON": (raw_header(4, b"{{{{"), "the header of cells/"),
    "header that is a list": (raw_header(2, b"[]"), "is not an object; expected one with an entry for each array"),
    "negative offset": (header("y", data_offsets=[-8, 72]), "is not a list of whole numbers from 0 to 2^40"),
    "offset beyond the end": (header("y", data_offsets=[0, 1 << 39]), "in cells/"),
    "overlapping arrays": (lambda s: s.header(OUTCOMES, overlapping), "bytes from"),
    "enormous shape": (header("y", shape=[1 << 39, 1 << 39]), "bytes from"),
    "fractional shape": (header("y", shape=[2.5, 4]), "is not a list of whole numbers from 0 to 2^40"),
    "unknown dtype": (header("y", dtype="OBJECT"), "has the dtype 'OBJECT'; expected one of"),
    "missing offsets": (lambda s: s.header(OUTCOMES, lambda d: d["y"].pop("data_offsets")), "has other keys than"),
    "pickle as outcomes": (lambda s: s.replace(OUTCOMES, pickle.dumps(Bomb())), "is a pickle; expected safetensors"),
    "pickle as weights": (pickled_weights, "is a pickle; expected safetensors; no other format is read"),
    "torch file as weights": (zipped_weights, "is a zip archive (as torch.save writes); expected safetensors"),
    "NumPy file as witness": (lambda s: s.replace(WITNESS, b"\x93NUMPY\x01\x00" + b"\0" * 99), "is a NumPy file"),
    "empty file": (lambda s: s.replace(WITNESS, b""), "has 0 bytes but declares a header of 0"),
    # the witness
    "witness of other examples": (
        witness(lambda a: a["ids"].__setitem__(0, 1009)), "does not consist of exactly the adversarial"),
    "witness twice": (witness(lambda a: a["ids"].__setitem__(0, 1001)), "witness.safetensors has an example twice"),
    "witness missing": (
        witness(lambda a: a.update(ids=a["ids"][1:], x_adv=a["x_adv"][1:])), "does not consist of exactly the"),
    "witness without candidates": (witness(lambda a: a.update(x_adv=a["x_adv"][1:])), "expected one for each"),
    "witness outside the box": (witness(lambda a: a["x_adv"].__setitem__((0, 0), 1.5)), "has a value outside [0, 1]"),
    "witness of NaN": (witness(lambda a: a["x_adv"].__setitem__((0, 0), np.nan)), "has a value that is not finite"),
    "witness of doubles": (
        witness(lambda a: a.update(x_adv=a["x_adv"].astype(np.float64))), "is F64 [4, 4]; expected F32"),
    "witness of bytes": (
        witness(lambda a: a.update(x_adv=(255 * a["x_adv"]).astype(np.uint8))), "has candidates in bytes; expected"),
    "witness of numbered bytes": (
        witness(lambda a: a.update(ids=a["ids"].astype(np.uint8))), "is U8 [4]; expected I64"),
    # files
    "review by the submitter": (beside("review.json"), "/review.json' is not a valid path in a submission"),
    "replay by the submitter": (beside("replay.json"), "/replay.json' is not a valid path in a submission"),
    "retraction by the submitter": (beside("retracted.json"), "/retracted.json' is not a valid path in a submission"),
    "packed form by the submitter": (beside("packed.json"), "/packed.json' is not a valid path in a submission"),
    "bit flipped": (flipped, "does not have the sha256 in manifest.json"),
    "bit flipped, manifest mended": (
        each(flipped, sealed), "does not have the size and sha256 in the record"),
    "weights that are not the card's": (wrong_weights, "does not have the sha256 in its card"),
    "stowaway": (stowaway, "'setup.py' is not a valid path in a submission"),
    "named but missing": (lambda s: (s.cell / WITNESS).unlink(), "is missing, but named in manifest.json"),
    "there but not named": (
        lambda s: s.manifest(lambda d: d["files"].pop()), "is not named in manifest.json"),
    "named twice": (lambda s: s.manifest(lambda d: d["files"].append(d["files"][0])), "names a file twice"),
    "path traversal in the manifest": (
        lambda s: s.manifest(set_in("files", 0, "path", to="../../etc/passwd")),
        "names '../../etc/passwd', which is not a valid path in a submission",
    ),
    "path traversal in the record": (
        of(set_in("files", 0, "path", to="../../../etc/passwd")), "names the files ['../../../etc/passwd'"),
    "symbolic link": (linked, "is a link; expected plain files"),
    "symbolic link to a folder": (linked_folder, "is a link; expected plain files"),
    "named pipe": (fifo, "is not a plain file"),
    "no manifest": (lambda s: (s.root / "manifest.json").unlink(), "there is no manifest.json; pack submissions with"),
    "no cell": (no_cell, "it has no cell; expected at least one"),
}  # fmt: skip

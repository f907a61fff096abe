"""Bounds, types and look-alikes: every number has a range, every list a size, and no name passes for another."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import find, read
from benchmark_leaderboard.cells.texts import check_texts
from benchmark_leaderboard.ranking.grouping import labels
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.check_text import folded
from benchmark_leaderboard.review.parcel import opened
from benchmark_leaderboard.words.wording import commands

from benchmark.errors import RecordError
from benchmark.records.record import Record, read_record
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_submission
from tests.leaderboard.spoils import Spoil, array, of, set_in

METRIC = {"name": "m", "low": None, "high": None, "unit": "", "higher_is_better": None}
FINDING = {"name": "x", "severity": "info", "evidence": "e"}


def card(*path: str, to: Any) -> Spoil:
    return lambda s: s.card(set_in(*path, to=to))


KINDS: dict[str, tuple[Spoil, str]] = {
    # numbers
    "endless time": (of(set_in("cost", "seconds", to=1.7e308)), "has cost.seconds 1.7e+308; expected 0 to 1e+10"),
    "endless memory": (of(set_in("cost", "peak_memory_bytes", to=10**17)), "has cost.peak_memory_bytes"),
    "passes that wrap": (array("forwards", slice(None), 1 << 62), "has more than 100000000000 passes"),
    "backwards that wrap": (array("backwards", slice(None), 1 << 62), "has more than 100000000000 passes"),
    "prepared passes": (of(set_in("cost", "prepared_forwards", to=10**17)), "has cost.prepared_forwards"),
    "huge metric": (of(set_in("metrics", to=[{**METRIC, "value": 1e300}])), "has the value of the metric m 1e+300"),
    "huge end of an interval": (
        of(set_in("metrics", to=[{**METRIC, "value": 1.0, "low": -1e300}])), "has the low of the metric m -1e+300"),
    "negative seed": (of(set_in("seed", to=-1)), "has seed -1; expected 0 to"),
    "huge radius": (of(lambda d: d["threat"].update(eps=1e17, eps_exact="1e17")), "has threat.eps 1e+17"),
    "too many draws": (of(set_in("threat", "eot", to=10**9)), "has threat.eot 1000000000; expected 1 to 1e+06"),
    "one level": (of(set_in("threat", "levels", to=1)), "has threat.levels 1; expected 2 to 65536"),
    "enormous split": (of(set_in("splits", "test", "count", to=10**15)), "has splits.test.count"),
    "enormous network": (card("parameters", to=10**15), "has parameters 1000000000000000"),
    "endless training": (card("seconds", to=1.7e308), "has seconds 1.7e+308"),
    "selection beyond one": (card("robust_selection", to=1.5), "has robust_selection 1.5; expected 0 to 1"),
    # dates
    "year 1": (of(set_in("provenance", "created", to="0001-01-01T00:00:00Z")), "before the first such records"),
    "1970": (of(set_in("provenance", "created", to="1970-01-01T00:00:00Z")), "before the first such records"),
    # types
    "yes for true": (of(set_in("official", to="yes")), "official: Input should be a valid boolean"),
    "one for true": (of(set_in("threat", "aware", to=1)), "threat.aware: Input should be a valid boolean"),
    "a count in quotes": (of(set_in("seed", to="0")), "seed: Input should be a valid integer"),
    "a time in quotes": (of(set_in("cost", "seconds", to="1.5")), "cost.seconds: Input should be a valid number"),
    "a fraction for a count": (of(set_in("seed", to=0.0)), "seed: Input should be a valid integer"),
    "a card in quotes": (card("seed", to="0"), "seed: Input should be a valid integer"),
    # sizes
    "5,000 findings": (of(set_in("findings", to=[FINDING] * 5000)), "has 5000 findings; expected at most 100"),
    "5,000 metrics": (
        of(set_in("metrics", to=[{**METRIC, "name": f"m{at}", "value": 1.0} for at in range(5000)])),
        "has 5000 metrics; expected at most 500",
    ),
    "1,000 splits": (
        of(set_in("splits", to={f"s{at}": {"count": 1, "sha256": "a"} for at in range(1000)})), "has 1000 splits"),
    "1,000 defenses": (of(set_in("system", "defenses", to=["d"] * 1000)), "has 1000 defenses; expected at most 16"),
    # names
    "independently verified": (
        of(set_in("findings", to=[{**FINDING, "name": "independently verified"}])), "not approval"),
    "officially_approved": (of(set_in("findings", to=[{**FINDING, "name": "officially_approved"}])), "not approval"),
    "a model and a defense": (
        of(set_in("system", "model", to="mlp + adversarial_training")),
        "a plugin is called 'mlp + adversarial_training'; expected letters",
    ),
    "a model with a setting": (of(set_in("system", "model", to="mlp (width=8)")), "system has the name"),
    "two models": (of(set_in("system", "model", to="mlp, cnn")), "system has the name"),
    "a model with a space": (of(set_in("system", "model", to="mlp cnn")), "a plugin is called 'mlp cnn'"),
    "a Cyrillic model": (of(set_in("system", "model", to="\u043clp")), "letters that look like others"),
}  # fmt: skip

TEXTS = {
    "variation selector": "Ann\ufe0f",
    "variation selector of another plane": "Ann\U000e0101",
    "Mongolian selector": "Ann\u180b",
    "no-break space": "Ann\u00a0Lee",
    "narrow no-break space": "Ann\u202fLee",
    "ideographic space": "Ann\u3000Lee",
    "zero-width space": "An\u200bn",
    "zero-width joiner": "An\u200dn",
    "soft hyphen": "An\u00adn",
    "grapheme joiner": "An\u034fn",
    "tag": "Ann\U000e0041",
    "Cyrillic letter": "\u0410nn",
    "Greek letter": "Ann\u03bf",
    "Armenian letter": "A\u0578n",
    "Cherokee letter": "\u13aann",
    "mathematical letters": "\U0001d400nn",
    "circled letters": "\u24d0nn",
    "letters of full width": "\uff21nn",
}


def refused(spoil: Spoil, tmp_path: Path) -> str:
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoil(spoiler)
    with opened(spoiler.root) as root:
        review = check(root)
    assert not review.accepted
    return "\n".join(review.refusals)


@pytest.mark.parametrize(("spoil", "expected"), KINDS.values(), ids=KINDS)
def test_what_is_out_of_bounds_is_refused_by_name(tmp_path: Path, spoil: Spoil, expected: str) -> None:
    assert expected in refused(spoil, tmp_path)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_looks_like_another_is_refused(text: str) -> None:
    for document in (text, {"a": text}, {text: 1}, ["x", text]):
        with pytest.raises(RecordError, match=r"invisible character|letters that look like others"):
            check_texts(document, "it")


@pytest.mark.parametrize(
    "text",
    ["Zoë Müller", "François Łukasz", "Анна Петрова", "Άννα", "李小龍", "한국어", "ε-ball, λ = 2", "Ann\nLee"],
)
def test_honest_text_of_any_language_stays(text: str) -> None:
    check_texts({"note": text}, "it")


# --- names that look like others ---


@pytest.mark.parametrize("name", ["mIp", "m1p", "MLP", "m_l_p", "ml-p"])
def test_a_model_that_looks_like_another_is_refused(tmp_path: Path, name: str) -> None:
    with opened(made_submission(tmp_path / "store", tmp_path / "parcel", model=name)) as root:
        (sentence,) = check(root).refusals
    assert f"the model {name!r} looks like the model 'mlp'" in sentence


def test_a_published_name_cannot_be_imitated_and_stays_usable(tmp_path: Path) -> None:
    results = tmp_path / "results"
    made_cell(results, clean=CLEAN, distance=FAR, attack="storm", dataset="made_up", official=False)
    for name, fine in (("st0rm", False), ("storm", True), ("stormy", True)):
        with opened(made_submission(tmp_path / name, tmp_path / f"parcel-{name}", attack=name, model="new")) as root:
            assert check(root, [results]).accepted is fine


def test_names_of_the_catalogue_do_not_look_like_each_other() -> None:
    from benchmark import registry

    by_kind: dict[str, list[str]] = {}
    for plugin in registry.declared():
        by_kind.setdefault(plugin.kind, []).append(plugin.name)
    for kind, names in by_kind.items():
        assert len({folded(name) for name in names}) == len(set(names)), kind


def test_a_number_in_quotes_is_shown_in_quotes(tmp_path: Path) -> None:
    def shown(*widths: int | str) -> list[str]:
        made = [made_cell(tmp_path, clean=CLEAN, distance=FAR, model_params={"width": width}) for width in widths]
        systems = {str(at): read_record(folder).system for at, folder in enumerate(made)}
        return list(labels(systems).values())

    assert shown(8, "8") == ["mlp (width=8)", 'mlp (width="8")']
    assert shown("1e3", "1/10", "true") == ['mlp (width="1e3")', "mlp (width=1/10)", 'mlp (width="true")']


# --- what readers copy ---


@pytest.mark.parametrize("word", ["--config-dir=/elsewhere", "-cn=evil", "--multirun", "; rm -rf ~", "$(x)=1", "a b=1"])
def test_an_option_among_the_overrides_gives_no_command(tmp_path: Path, word: str) -> None:
    record = read_record(made_cell(tmp_path, clean=CLEAN, distance=FAR))
    forged = record.model_copy(update={"provenance": {"overrides": ["attack=pgd", word]}})
    assert commands([forged]) == []
    kept = record.model_copy(update={"provenance": {"overrides": ["attack=pgd", "+attack.steps=3", "~metric"]}})
    assert commands([kept]) == ["benchmark run attack=pgd +attack.steps=3 '~metric='"]


# --- time and depth ---


@pytest.mark.parametrize("part", ["<", "< ", "data:", "javascript:", "data :x", "&#"[:1], "vbscript:a", "e\u0301"])
def test_looking_for_markup_takes_time_in_proportion_to_the_text(part: str) -> None:
    def seconds(times: int) -> float:
        begun = time.process_time()
        with contextlib.suppress(RecordError):
            check_texts({"t": (part * times)[:19_000]}, "it")
        return time.process_time() - begun

    assert min(seconds(19_000) for _ in range(3)) < 0.1


def test_deeply_nested_folders_are_refused_and_break_no_build(tmp_path: Path) -> None:
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel")
    made_cell(tmp_path / "deep", clean=CLEAN, distance=FAR)
    for root in (parcel, tmp_path / "deep"):
        here = os.open(root, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
    with pytest.raises(RecordError, match="is not a valid path in a submission"), opened(parcel):
        pass
    assert len(list(find(tmp_path / "deep"))) == 1
    os.system(f"rm -rf {tmp_path / 'deep' / 'd'} {parcel / 'd'}")  # deeper than Python's own removal goes


@pytest.mark.parametrize(
    "change",
    [
        set_in("cost", "seconds", to=1.7e308),
        set_in("cost", "forwards", to=1 << 62),
        set_in("metrics", to=[{**METRIC, "value": 1.7e308}]),
    ],
    ids=["time", "passes", "metric"],
)
def test_a_published_record_out_of_bounds_is_named_and_the_site_is_built(tmp_path: Path, change: Any) -> None:
    for seed in (0, 1):
        folder = made_cell(tmp_path, clean=CLEAN, distance=FAR, seed=seed)
        document = json.loads((folder / "record.json").read_text())
        change(document)
        (folder / "record.json").write_text(json.dumps(document))
    sound = made_cell(tmp_path, clean=CLEAN, distance=FAR, model="sound")
    cells, problems = read([tmp_path / "cells"])
    assert [cell.record.key for cell in cells] == [sound.name]
    assert all("; expected " in problem.sentence for problem in problems)
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    for file in site.rglob("*.json"):
        assert "Infinity" not in file.read_text()
    assert Record.model_validate_json((sound / "record.json").read_bytes())

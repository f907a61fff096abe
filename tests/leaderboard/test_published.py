"""Published numbers are data: valid, attributed, and those of RobustBench keep its order and show what ties."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.literature.import_robustbench import converted, main
from benchmark_leaderboard.literature.published_numbers import Entry, Number, load_published, read_source
from benchmark_leaderboard.literature.published_ranks import best_known, ranked_entries, two_proportions
from pydantic import ValidationError
from scipy.stats import chi2_contingency

from benchmark.errors import RecordError

SOURCES = {source.key: source for source in load_published()}


def numbers(key: str, system: str, protocol: str) -> dict[tuple[str, str], Number]:
    (entry,) = [e for e in SOURCES[key].entries if e.system == system and e.protocol == protocol]
    return {(n.metric, n.attack): n for n in entry.numbers}


def test_every_source_is_there_and_says_where_it_was_read() -> None:
    assert set(SOURCES) == {
        "defensive_distillation", "googlenet_mnist", "model_mutation_testing", "robustbench", "scratchai",
    }  # fmt: skip
    for source in SOURCES.values():
        assert source.url or source.note
        for entry in source.entries:
            for number in entry.numbers:
                assert number.place or number.evidence == "secondary", (source.key, entry.system)
                assert number.evidence != "secondary" or source.note


def test_the_classic_table() -> None:
    lenet = numbers("scratchai", "lenet", "mnist")
    top1 = {a: n.value for (m, a), n in lenet.items() if m == "robust_accuracy"}
    top5 = {a: n.value for (m, a), n in lenet.items() if m == "robust_top5_accuracy"}
    assert top1 == {"noise": 0.984, "semantic": 0.233, "fgsm": 0.509, "pgd": 0.187, "deepfool": 0.012}
    assert top5 == {"noise": 1.0, "semantic": 0.645, "fgsm": 0.993, "pgd": 0.982}
    assert lenet["clean_accuracy", ""].count == 9858
    assert {a for (_, a), n in lenet.items() if n.evidence != "read"} == {"deepfool"}


def test_numbers_that_were_not_read_in_their_source_say_so() -> None:
    google = numbers("googlenet_mnist", "googlenet", "mnist")
    assert [n.value for n in google.values()] == [0.98, 0.18, 0.01]
    assert {n.evidence for n in google.values()} == {"secondary"}
    kinds = {e.system: {n.evidence for n in e.numbers} for e in SOURCES["defensive_distillation"].entries}
    assert kinds == {"distilled network": {"secondary"}, "distilled network (abstract)": {"abstract"}}


def test_mutation_testing_has_every_operator_and_attack() -> None:
    for entry in SOURCES["model_mutation_testing"].entries:
        cells = {(n.attack, n.settings["mutation"]) for n in entry.numbers}
        assert len(cells) == len(entry.numbers) == 5 * 4
        assert all(0.5 < n.value < 1 for n in entry.numbers)


# --- RobustBench ---

ROWS: list[tuple[str, bool, int, str, str, str | None, str, dict[str, Any]]] = [
    ("Low", False, 1, "8/255", "79.28", "", "18.50", {"external": "7.40", "unreliable": True}),
    ("High", True, 2, "8/255", "93.6", "null", "75.28", {"external": "73.10", "unreliable": False}),
    ("Middle", False, 1, "0.031", "86.28", "52.81", "52.84", {}),
    ("Beaten", False, 1, "8/255", "90.0", None, "74.00", {"external": None}),
    ("Nothing", False, 1, "8/255", "94.78", "0.0", "0.0", {}),
    ("Lower", False, 1, "8/255", "79.28", "", "9.99", {}),
]

EXCERPT: list[dict[str, Any]] = [
    {
        "dataset": "cifar10", "threat": "Linf", "id": name, "link": "http://example.org/a", "name": "A <b>title</b>",
        "authors": "A &amp; B", "additional_data": more, "number_forward_passes": passes, "venue": "V",
        "architecture": "X, <br/> Y", "eps": eps, "clean_acc": clean, "reported": reported, "autoattack_acc": attacked,
        **rest,
    }
    for name, more, passes, eps, clean, reported, attacked, rest in ROWS
]  # fmt: skip


def test_strings_become_counts_and_the_order_is_by_value() -> None:
    """Sorting the strings would put "9.99" first."""
    source = converted(EXCERPT, "an excerpt")
    board = ranked_entries(source, "cifar10_linf")
    assert [entry.system for entry in board.entries] == ["Beaten", "High", "Middle", "Lower", "Low", "Nothing"]
    assert board.values == (0.74, 0.731, 0.5284, 0.0999, 0.074, 0.0)
    high = board.entries[1]
    assert [(n.metric, n.attack, n.count, n.total) for n in high.numbers] == [
        ("clean_accuracy", "", 9360, 10_000),
        ("robust_accuracy", "autoattack", 7528, 10_000),
        ("robust_accuracy", "another evaluation", 7310, 10_000),
    ]
    assert high.flags == ("additional data", "2 forward passes")
    assert (high.title, high.authors, high.architecture) == ("A title", "A & B", "X, Y")
    assert high.url == "https://example.org/a"
    assert board.entries[2].eps_exact == "31/1000"
    assert board.entries[4].flags == ("unreliable evaluation",)
    assert board.ties[0] == (0, 1)


def test_an_id_that_occurs_twice_is_refused_and_its_folder_decides() -> None:
    twice = [*EXCERPT, {**EXCERPT[0], "clean_acc": "60.00"}]
    with pytest.raises(RecordError, match="Low occurs twice under cifar10_linf"):
        converted(twice, "an excerpt")
    twice[-1] = {**twice[-1], "folder": "cifar100"}
    assert converted(twice, "an excerpt").entries[-1].protocol == "cifar100_linf"


def test_the_three_misfiled_entries_stand_on_their_boards_and_no_reported_value_is_lost() -> None:
    found = SOURCES["robustbench"].entries
    placed = {(e.system, e.protocol): e.numbers[0].value for e in found if e.system.startswith("Hendrycks20")}
    assert placed["Hendrycks2019Using", "cifar10_linf"] == 0.8711
    assert placed["Hendrycks2019Using", "cifar100_linf"] == 0.5923
    assert placed["Hendrycks2020AugMix_ResNeXt", "cifar100_corruptions"] == 0.789
    assert placed["Hendrycks2020AugMix_WRN", "cifar100_corruptions"] == 0.7628
    assert not [entry.system for entry in found if "(" in entry.system]
    reported = [n for e in found for n in e.numbers if n.attack == "as reported" and n.metric == "corruption_accuracy"]
    assert len(reported) == 29


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fifty", "Low has autoattack_acc 'fifty'; expected a percentage"),
        ("50.123", "Low has autoattack_acc '50.123', which is not a whole number of 10000 examples"),
    ],
)
def test_a_string_that_is_no_percentage_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(RecordError) as caught:
        converted([{**EXCERPT[0], "autoattack_acc": text}], "")
    assert str(caught.value) == sentence


def test_the_importer_writes_what_is_read_back(tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"source": "an excerpt", "entries": EXCERPT}), encoding="utf-8")
    assert main([str(given), str(tmp_path / "robustbench.json")]) == 0
    given.unlink()
    (source,) = load_published(tmp_path)
    assert source == converted(EXCERPT, "an excerpt")


def test_all_of_robustbench() -> None:
    source = SOURCES["robustbench"]
    assert len(source.entries) == 236
    sizes = {key: len(ranked_entries(source, key).entries) for key in source.protocols}
    assert sizes == {
        "cifar10_l2": 21, "cifar10_linf": 99, "cifar10_corruptions": 0, "cifar100_linf": 38,
        "cifar100_corruptions": 0, "imagenet_linf": 30, "imagenet_corruptions": 0,
    }  # fmt: skip
    for key in ("cifar10_linf", "cifar10_l2", "cifar100_linf", "imagenet_linf"):
        board = ranked_entries(source, key)
        assert list(board.values) == sorted(board.values, reverse=True)
        assert board.ties[0][1] > 0, "the first place is shared"
        assert board.ties[-1][1] == len(board.entries) - 1
        assert all(low - 1 <= at <= high - 1 for at, (low, high) in enumerate(board.ranks))
    top = ranked_entries(source, "cifar10_linf")
    assert [e.system for e in top.entries[:2]] == [
        "Bartoldson2024Adversarial_WRN-94-16",
        "Amini2024MeanSparse_S-WRN-94-16",
    ]
    assert top.values[:2] == (0.7371, 0.731)


def test_neighbours_that_ten_thousand_examples_cannot_tell_apart() -> None:
    """83 of the 97 pairs of neighbours among the defended entries, by one test at 5 % each; after Holm no fewer."""
    source = SOURCES["robustbench"]
    defended = tuple(e for e in source.entries if e.system != "Standard")
    board = ranked_entries(source.model_copy(update={"entries": defended}), "cifar10_linf")
    assert (board.alike, len(board.entries) - 1) == (83, 97)
    values = np.array(board.values)
    by_hand = 0
    for p, q in itertools.pairwise(values):
        middle = (p + q) / 2
        by_hand += (p - q) / math.sqrt(2 * middle * (1 - middle) / 10_000) < 1.959963984540054
    assert by_hand == 83
    joined = {at for first, last in board.ties for at in range(first, last)}
    assert len(joined) >= 84


def test_two_proportions_is_the_chi_squared_test_without_correction() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        total, other_total = rng.integers(5, 5000, 2)
        count, other = rng.integers(1, total), rng.integers(1, other_total)
        table = [[count, total - count], [other, other_total - other]]
        expected = chi2_contingency(table, correction=False).pvalue
        p = two_proportions(*(np.array(float(v)) for v in (count, total, other, other_total)))
        assert float(p) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    same = two_proportions(*(np.array(float(v)) for v in (0, 10, 0, 20)))
    assert float(same) == 1.0


def test_the_claim_of_the_authors_is_no_measurement() -> None:
    claim = Number(metric="robust_accuracy", value=0.1, attack="as reported", settings={"by": "authors"})
    measured = Number(metric="robust_accuracy", value=0.5, attack="autoattack")
    assert best_known(Entry(system="s", protocol="p", numbers=(claim, measured))) is measured
    assert best_known(Entry(system="s", protocol="p", numbers=(claim,))) is None


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": 98.6}, "expected a share in [0, 1], not a percentage"),
        ({"value": "high"}, "Input should be a valid number"),
        ({"count": 5, "total": 11}, "5 of 11 is not 0.5"),
        ({"count": 5}, "5 of None is not 0.5"),
        ({"evidence": "hearsay"}, "Input should be 'read', 'abstract' or 'secondary'"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Number.model_validate({"metric": "clean_accuracy", "value": 0.5, **change})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": "other"}, "made.json has the key 'other'; expected the name of the file"),
        ({"url": "javascript:alert(1)"}, "made.json has no usable published numbers: url: "),
        ({"protocols": {}}, "its entries name the protocols ['p'], which it does not describe"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_file_with_a_fault_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    number = {"metric": "clean_accuracy", "value": 0.5}
    document = {
        "key": "made", "title": "t", "authors": "a", "year": 2020,
        "protocols": {"p": {"dataset": "mnist", "description": "d"}},
        "entries": [{"system": "s", "protocol": "p", "numbers": [number]}],
    }  # fmt: skip
    file = tmp_path / "made.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert read_source(file).entries[0].numbers[0].value == 0.5
    file.write_text(json.dumps({**document, **change}), encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        read_source(file)
    assert sentence in str(caught.value)

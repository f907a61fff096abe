"""Tables in the published layouts, and cells whose candidates are rows of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.errors import ConfigError, DataError
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from benchmark.threat.table import TableRegion as Rules
from tests.core.cells import plugin, small_config


def load(path: Path, **settings: object):  # type: ignore[no-untyped-def]
    cls = registry.load("dataset", "table")
    return cls(path=str(path), **settings).load(path.parent, offline=True)  # type: ignore[call-arg, attr-defined]


def credit(folder: Path, rows: int = 300) -> Path:
    """German credit's layout: separated by blanks, categories as codes such as A11, the label 1 or 2 at the end."""
    drawn, lines = np.random.default_rng(0), []
    for _ in range(rows):
        age, months, amount = drawn.integers(19, 75), drawn.integers(4, 72), drawn.integers(250, 18000)
        bad = 2 if amount / months > 250 + 4 * (age - 40) else 1
        cells = [
            f"A1{drawn.integers(1, 5)}",
            months,
            f"A3{drawn.integers(0, 5)}",
            f"A4{drawn.integers(0, 3)}",
            amount,
        ]
        lines.append(" ".join(map(str, [*cells, age, bad])))
    path = folder / "german.data"
    path.write_text("\n".join(lines) + "\n")
    return path


CREDIT = {"delimiter": " ", "header": False, "integer": ("c1", "c4", "c5"), "rising": ("c5",), "immutable": ("c0",)}


def test_german_credit_by_blanks(tmp_path: Path) -> None:
    path = credit(tmp_path)
    splits = load(path, **CREDIT)
    spec = splits.spec
    raw = [line.split() for line in path.read_text().splitlines()]
    assert spec.class_names == ("1", "2")
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [197, 31, 72]
    assert sum(spec.rules.values) == sum(
        max(r) - min(r) + 1 for r in ([int(raw[i][c]) for i in splits.train.ids.tolist()] for c in (1, 4, 5))
    )
    assert [len(group) for group in spec.rules.groups] == [4, 5, 3]
    for part in (splits.train, splits.select, splits.test):
        x = part.x()
        for group in spec.rules.groups:
            assert bool((x[:, list(group)].sum(1) == 1).all())
        assert [spec.class_names[y] for y in part.y.tolist()] == [raw[i][-1] for i in part.ids.tolist()]
        nearest = Rules(spec.rules).nearest(x, x)
        assert torch.equal(nearest, x), "the rows of the table keep its rules"
    amount = spec.rules.values.index(max(spec.rules.values))
    low = min(int(raw[i][4]) for i in splits.train.ids.tolist())
    back = splits.train.x()[:, amount].double() * (spec.rules.values[amount] - 1) + low
    assert back.round().tolist() == [int(raw[i][4]) for i in splits.train.ids.tolist()]


def test_spambase_without_a_header_and_the_label_last(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    rows = np.concatenate([drawn.random((80, 57)) * 5, drawn.integers(0, 2, (80, 1))], 1)
    np.savetxt(tmp_path / "spambase.data", rows, delimiter=",", fmt=["%.3f"] * 57 + ["%d"])
    splits = load(tmp_path / "spambase.data", header=False)
    assert splits.spec.shape == (57,)
    assert splits.spec.class_names == ("0", "1")
    train = np.round(rows[splits.train.ids.numpy(), :57], 3)
    expected = (train - train.min(0)) / (train.max(0) - train.min(0))
    np.testing.assert_allclose(splits.train.x().numpy(), expected, atol=1e-6)


def test_phishing_as_arff_of_nominal_numbers(tmp_path: Path) -> None:
    columns = "@attribute having_IP {-1,1}\n@attribute URL_Length {1,0,-1}\n@attribute Result {-1,1}\n"
    head = f"@relation phishing\n{columns}@data\n"
    rows = "".join(f"{a},{b},{r}\n" for a in (-1, 1) for b in (-1, 0, 1) for r in (-1, 1) for _ in range(5))
    (tmp_path / "phishing.arff").write_text(head + rows)
    splits = load(tmp_path / "phishing.arff", label="Result")
    assert splits.spec.shape == (5,)
    assert splits.spec.rules.groups == ((0, 1), (2, 3, 4))
    assert len(splits.train) + len(splits.select) + len(splits.test) == 60


def test_intrusions_with_a_test_file_of_their_own(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)

    def lines(count: int) -> str:
        kinds = ("tcp,http,SF", "udp,domain_u,SF", "icmp,eco_i,SF", "tcp,smtp,REJ")
        return "".join(
            f"{i},{kinds[i % 4]},{drawn.integers(0, 500)},{i % 7 / 7:.2f},{('normal.', 'smurf.')[i % 2]}\n"
            for i in range(count)
        )

    (tmp_path / "kddcup.data").write_text(lines(60))
    (tmp_path / "corrected").write_text(lines(40))
    splits = load(tmp_path / "kddcup.data", test_path=str(tmp_path / "corrected"), header=False, drop=("c0",))
    assert splits.spec.class_names == ("normal.", "smurf.")
    assert splits.test.ids.tolist() == list(range(60, 100))
    assert splits.spec.shape == (3 + 4 + 2 + 2,)


def test_candidates_of_a_cell_are_rows_of_the_table_and_its_record_is_proved(tmp_path: Path) -> None:
    path = credit(tmp_path)
    config = small_config(
        tmp_path, examples=30, dataset=plugin("dataset", "table", path=str(path), **CREDIT),
        model=plugin("model", "mlp"), attack=plugin("attack", "pgd", steps=10),
    )  # fmt: skip
    result = run(config)
    store = Store(tmp_path / "results")
    record = store.record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert record.counts is not None
    assert record.counts.invalid == 0
    splits = load(path, **CREDIT)
    rules = splits.spec.rules
    witness = Witness.load(next((tmp_path / "results").glob("cells/*/witness.safetensors")))
    found = witness.x_adv
    assert len(found)
    clean = splits.test.x((splits.test.ids[None] == witness.ids[:, None]).long().argmax(1))
    outside, impossible = Rules(rules).broken(found, clean)
    assert not bool((outside | impossible).any())
    age = [at for at, n in enumerate(rules.values) if rules.rising[at] and n]
    assert bool((found[:, age] >= clean[:, age]).all())
    fixed = [at for at, stays in enumerate(rules.fixed) if stays]
    assert torch.equal(found[:, fixed], clean[:, fixed])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"immutable": ("sex",)}, "dataset.immutable names 'sex', which is not a feature"),
        ({"label": "verdict"}, "dataset.label is 'verdict', but .* has the columns c0, c1"),
        ({"rising": ("c0",)}, "column 'c0' is a category, which cannot be rising or falling"),
        ({"delimiter": ","}, "has a single column; expected 2 values in each row, separated by ','"),
        ({"ranges": ("c9:1:2",)}, "dataset.ranges names 'c9'"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    path = credit(tmp_path, 40)
    with pytest.raises(DataError, match=said):
        load(path, **{"delimiter": " ", "header": False, **settings})


def test_settings_are_checked() -> None:
    cls = registry.load("dataset", "table")
    with pytest.raises(ConfigError, match=r"dataset\.ranges has 'age:90:18'; expected name:low:high"):
        cls(ranges=("age:90:18",))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="both name 'age'"):
        cls(rising=("age",), falling=("age",))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="expected one character"):
        cls(delimiter="\\t\\t")  # type: ignore[call-arg]


def test_a_missing_value_and_a_fraction_among_whole_numbers_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,m,y\n" + "1,nan,a\n2,3,b\n" * 20)
    with pytest.raises(DataError, match="column 'm' lacks 20 of 40 values"):
        load(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("n,y\n" + "1.5,a\n2,b\n" * 20)
    with pytest.raises(DataError, match=r"column 'n' is in dataset\.integer but has values that are not whole"):
        load(tmp_path / "b.csv", integer=("n",))
    (tmp_path / "c.csv").write_text("n,y\n1,a,3\n")
    with pytest.raises(DataError, match="has 3 values in row 0; expected 2 values"):
        load(tmp_path / "c.csv")

"""Tables, feed, badges and exchange: read back by parsers, with a stranger's text in every field."""

import csv
import io
import json
import re
from posixpath import dirname, join, normpath
from xml.etree import ElementTree

import pytest
from benchmark_leaderboard.literature.published_numbers import load_published
from benchmark_leaderboard.review.parcel import Submitter
from benchmark_leaderboard.review.review import ReviewFile
from benchmark_leaderboard.site.badges import row_badge
from benchmark_leaderboard.site.exchange import every_eval_ever
from benchmark_leaderboard.site.feed import EPOCH, feed, stamp
from benchmark_leaderboard.site.render import Extras, render
from benchmark_leaderboard.words.downloads import (
    FORMATS,
    DownloadTable,
    as_bibtex,
    as_json,
    as_latex,
    as_markdown,
    files,
)

from tests.leaderboard.made_board import made_leaderboard

NASTY = "\\input{/etc/passwd} & 100% $x_1$ #~^ | <b>{{7*7}}</b> [a](javascript:1) `c` \n\x00end"
ATOM = "{http://www.w3.org/2005/Atom}"


def table(text: str) -> DownloadTable:
    return DownloadTable(text, [{"name": text, "value": 0.125}], ("Name", "Value"), [(text, "12.5")])


def test_latex_has_no_command_of_a_stranger() -> None:
    lines = as_latex(table(NASTY)).splitlines()
    assert lines[4] == "\\begin{tabular}{lr}"
    body = lines[8]
    assert body == (
        "\\textbackslash{}input\\textbraceleft{}/etc/passwd\\textbraceright{} \\& 100\\% \\$x\\_1\\$ "
        "\\#\\textasciitilde{}\\textasciicircum{} \\textbar{} \\textless{}b\\textgreater{}"
        "\\textbraceleft{}\\textbraceleft{}7*7\\textbraceright{}\\textbraceright{}\\textless{}/b\\textgreater{} "
        "[a](javascript:1) `c`   end & 12.5 \\\\"
    )
    assert (
        as_latex(table("L\u221e \u2264 8/255 1\u20133 \u22125"))
        .splitlines()[8]
        .startswith("L$\\infty$ $\\le$ 8/255 1--3 $-$5")
    )


def test_bibtex_keeps_its_braces_balanced() -> None:
    text = as_bibtex("}}, evil = {" + NASTY, "ab" * 32, "House")
    depth = [text[:at].count("{") - text[:at].count("}") for at in range(len(text) + 1)]
    assert min(depth) == 0
    assert depth[-1] == 0
    assert re.findall(r"^  (\w+) = ", text, re.MULTILINE) == ["title", "author", "howpublished", "note"]
    assert text.startswith("@misc{benchmark-abababababab,\n")


def test_markdown_has_one_line_per_row_and_no_markup_of_a_stranger() -> None:
    lines = as_markdown(table(NASTY)).splitlines()
    assert len(lines) == 5
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3
    assert "<b>" not in lines[2]
    assert "\\[a\\](javascript:1)" in lines[2]
    assert lines[1] == "| :--- | ---: |"


def test_every_table_of_the_site_is_there_in_every_format_with_the_same_lines() -> None:
    leaderboard, records = made_leaderboard(text=NASTY)
    made = dict(render(leaderboard, records))
    stems = [path.removesuffix(".csv") for path in made if path.endswith(".csv") and not path.startswith("dataset/")]
    # board, attacks, matrix, neighbours, pairs, curves; overview; systems, runs, all attacks, what has no result; each
    # system and its history; each attack
    assert len(stems) == 6 + 1 + 4 + 3 + 3 + 3
    for stem in stems:
        rows = list(csv.reader(io.StringIO(made[f"{stem}.csv"], newline="")))
        document = json.loads(made[f"{stem}.json"])
        assert len(document["rows"]) == len(rows) - 1
        assert document["caption"]
        for _, kind in FORMATS:
            assert f"{stem}.{kind}" in made
        lines = made[f"{stem}.md"].splitlines()[:-2]
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(columns) == 1
        assert made[f"{stem}.tex"].count("\\\\\n") == len(lines) - 1
        assert "\\input" not in made[f"{stem}.tex"]


def test_every_table_of_a_page_has_its_downloads_below_it() -> None:
    leaderboard, records = made_leaderboard()
    key = leaderboard.boards[0].rows[0].keys[0]
    review = ReviewFile(
        key=key, tier="re-run", why="", submitter=Submitter(name="Ann"), record_sha256="", checked_with=""
    )
    reviews = {key: review}
    extras = Extras(published=load_published(), reviews=reviews, before=made_leaderboard(2)[0])
    made = dict(render(leaderboard, records, extras))
    linked = set()
    for path, text in made.items():
        if not path.endswith(".html"):
            continue
        tables = re.split(r"<table\b", text)[1:]
        for table in tables:
            after = table.split("</table></div>\n")[1].lstrip()
            assert after.startswith('<p class="downloads">'), f"{path}: {table[:80]}"
            links = re.findall(r'href="([^"]*)" download', after.partition("</p>")[0])
            assert len(links) == len(FORMATS)
            linked |= {normpath(join(dirname(path), link)) for link in links}
    assert {"boards", "systems", "attacks", "published", "curves", ""} == {dirname(path) for path in linked}
    assert linked <= set(made)


def test_the_citation_names_the_content_of_the_table() -> None:
    one = dict(files("t", table("a"), "House"))
    assert dict(files("t", table("a"), "House")) == one
    assert dict(files("t", table("b"), "House"))["t.bib"] != one["t.bib"]


def test_the_feed_is_atom_with_an_entry_for_every_result() -> None:
    leaderboard, records = made_leaderboard(text=NASTY)
    newest = min(records)
    records[newest] = records[newest].model_copy(update={"provenance": {"created": "2026-11-20T08:00:00Z"}})
    root = ElementTree.fromstring(
        feed(leaderboard, records, "House", {row.key: "systems/x.html" for row in leaderboard.boards[0].rows})
    )
    entries = root.findall(f"{ATOM}entry")
    assert len(entries) == 3
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == 3
    assert root.findtext(f"{ATOM}updated") == "2026-11-20T08:00:00Z"
    dates = [entry.findtext(f"{ATOM}updated") for entry in entries]
    assert dates == ["2026-11-20T08:00:00Z", EPOCH, EPOCH]
    for element in (root, *entries):
        for name in ("id", "title", "updated"):
            assert element.findtext(f"{ATOM}{name}"), name
    assert "<b>{{7*7}}</b>" in str(entries[0].findtext(f"{ATOM}title"))


def test_a_date_that_is_none_does_not_count() -> None:
    _, records = made_leaderboard(1, 1)
    (record,) = records.values()
    assert stamp([record]) == EPOCH
    assert stamp([record.model_copy(update={"provenance": {"created": '2026-11-20T08:00:00Z"/><x'}})]) == EPOCH


def test_a_badge_is_a_picture_that_says_the_result() -> None:
    leaderboard, _ = made_leaderboard(text='"><script>')
    board = leaderboard.boards[0]
    root = ElementTree.fromstring(str(row_badge(board, board.rows[0])))
    assert root.attrib["aria-label"] == "robust at L\u221e \u2264 1/10: 78.2 % (74.2\u201382.2), rank 1\u20132 of 3"
    assert "script" not in {element.tag for element in root.iter()}


def test_the_export_has_what_the_schema_of_every_eval_ever_requires() -> None:
    leaderboard, records = made_leaderboard()
    board = leaderboard.boards[0]
    document = json.loads(as_json(every_eval_ever([(board, board.rows[0])], records, "House")))
    assert set(document) == {
        "schema_version", "evaluation_id", "evaluation_timestamp", "retrieved_timestamp", "source_metadata",
        "eval_library", "model_info", "evaluation_results",
    }  # fmt: skip
    assert document["source_metadata"]["source_type"] in ("documentation", "evaluation_run")
    assert {"name", "id"} <= set(document["model_info"])
    details = document["model_info"]["additional_details"]
    assert all(isinstance(value, str) for value in details.values())
    assert document["schema_version"] == "0.3.0"
    assert details["deployment_type"] in ("self_deployed", "externally_managed", "unknown")
    assert details["model_availability"] in ("open_weights", "closed_weights", "unknown")
    clean, robust = document["evaluation_results"]
    for result in (clean, robust):
        assert {"evaluation_name", "source_data", "metric_config", "score_details"} <= set(result)
        assert {"dataset_name", "source_type"} <= set(result["source_data"])
        assert result["source_data"]["source_type"] == "other"
        assert {"min_score", "max_score", "lower_is_better"} <= set(result["metric_config"])
        assert all(isinstance(value, str) for value in result["score_details"]["details"].values())
    assert robust["score_details"]["score"] == board.rows[0].robust.value
    assert robust["score_details"]["uncertainty"]["num_samples"] == 500
    assert robust["metric_config"]["additional_details"]["eps"] == "1/10"


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_table_with_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dict(files("t", DownloadTable("t", [{"value": value}], ("V",), [("1",)]), "House"))


def test_thousands_keep_their_narrow_space() -> None:
    assert as_latex(table("1\u202f844")).splitlines()[8].startswith("1\\,844 &")
    assert as_markdown(table("1\u202f844")).splitlines()[2].startswith("| 1\u202f844 |")

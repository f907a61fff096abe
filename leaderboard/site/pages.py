"""Pages from templates: strict and escaping, with style, script, policy and the functions that templates call.

The style sheet and the script are inline, and a Content-Security-Policy allows them by hash: a page works from a
folder, alone, and runs nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import importlib.resources
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from benchmark import __version__
from benchmark.records.record import Record

from ..literature.literature import listings, place, range_of, share, under
from ..ranking.pairs import PAIR_ROWS
from ..ranking.union import unions
from ..review.review import ReviewFile
from ..review.tiers import weakest
from ..words import display, wording
from ..words.downloads import FORMATS, as_json
from . import charts, figures
from .badges import board_badge, row_badge
from .column import used
from .columns import BOARD_ATTACKS
from .dataset import API_VERSION
from .detection import DETECTION_COLUMNS, fitted
from .drawn_cells import DrawnCells, exact, span
from .feed import EPOCH, stamp
from .notes import SystemNote, citation
from .paths import Paths, digest
from .tried_columns import Tried, attacked_columns, by_strength, tried_columns, why_empty

__all__ = ["GRID_ROWS", "SITE_NAME", "Pages"]

SITE_NAME = "Adversarial Benchmark"

ATTACK_ROWS = 100
"""Largest number of systems of a board on the page of an attack."""

STRIP_ROWS = 40
"""Largest number of rows of a board with a drawn interval; all have the numbers."""

GRID_ROWS = 24
"""Largest number of systems for which the comparison page shows a table of all pairs."""


class Pages:
    """Makes pages from templates.

    published, changed: the site has those sections. transfer: keys of the boards with a transfer matrix.
    releases: earlier ones, by name, with their URLs. notes: authors' notes on their systems, by row.
    """

    def __init__(
        self,
        paths: Paths,
        records: Mapping[str, Record],
        reviews: Mapping[str, ReviewFile] | None = None,
        *,
        published: bool = False,
        changed: bool = False,
        transfer: Collection[str] = (),
        releases: tuple[tuple[str, str], ...] = (),
        notes: Mapping[str, SystemNote] | None = None,
    ) -> None:
        known = reviews or {}
        self.records = records
        first = next((paths.transfer(key) for key in transfer), "")
        self._environment = _environment(_frame(records, published, changed, first, releases), paths)
        self._environment.globals["exchanged"] = transfer
        self._environment.globals["notes"] = notes or {}
        self._environment.globals.update(reviews=known, tier=lambda row: weakest(row, known))

    def page(self, template: str, path: str, section: str, **values: object) -> tuple[str, str]:
        """Path and text of one page. section: its section of the navigation."""
        up = "../" * path.count("/")
        return path, self._environment.get_template(template).render(up=up, section=section, path=path, **values)


class _Templates(BaseLoader):
    """Templates from the installed package."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, None]:
        file = importlib.resources.files(__package__) / "templates" / template
        if not file.is_file():
            raise TemplateNotFound(template)
        return file.read_text(encoding="utf-8"), None, None


@dataclass(frozen=True)
class Frame:
    """Frame of every page. policy: the Content-Security-Policy, with the hashes of style and script.

    content: checksum of all records. until: date of the newest one, "" if unknown. repository: its URL, "" if the
    installed package names none. releases: earlier ones, by name, with their URLs.
    """

    name: str
    policy: str
    style: Markup
    script: Markup
    sections: tuple[tuple[str, str], ...]
    built_from: str
    content: str
    until: str
    version: str
    repository: str
    releases: tuple[tuple[str, str], ...]


@functools.cache
def _static(name: str) -> str:
    """A file of the package without its indentation, to keep pages small."""
    text = (importlib.resources.files(__package__) / "static" / name).read_text(encoding="utf-8")
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


def _frame(
    records: Mapping[str, Record],
    published: bool,
    changed: bool,
    transfer: str,
    releases: tuple[tuple[str, str], ...],
) -> Frame:
    content, until = digest(" ".join(sorted(records)))[:12], stamp(records.values())
    style, script = _static("site.css"), _static("site.js")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Frame(
        SITE_NAME,
        policy,
        Markup(style),
        Markup(script),
        (
            ("Boards", "index.html"),
            ("Systems", "systems.html"),
            ("Attacks", "attacks.html"),
            ("Matrix", "matrix.html"),
            *((("Transfer", transfer),) if transfer else ()),
            *((("Literature", "published.html"),) if published else ()),
            *((("Changes", "changes.html"),) if changed else ()),
            ("Definitions", "definitions.html"),
            ("About", "about.html"),
        ),
        f"Built from {display.several(len(records), 'record')}, content {content}.",
        content,
        "" if until == EPOCH else until[:10],
        __version__,
        _repository(),
        releases,
    )


@functools.cache
def _repository() -> str:
    """URL of the repository in the metadata of the installed package, "" if there is none."""
    try:
        urls = importlib.metadata.metadata("adversarial-benchmark").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    named = {name.strip().lower(): url.strip() for name, _, url in (text.partition(",") for text in urls)}
    return next((named[name] for name in ("repository", "source", "homepage") if name in named), "")


_FILTERS: dict[str, Any] = {
    "percent": display.percent,
    "interval": display.interval,
    "number": display.number,
    "count": display.count,
    "difference": display.difference,
    "seconds": display.seconds,
    "several": display.several,
    "setting": lambda value: value if isinstance(value, str) else json.dumps(value),
    "words": wording.words,
    "used": used,
    "breakable": wording.breakable,
    "radius": wording.radius,
    "fitted": fitted,
    "rank": wording.rank,
    "heading": wording.heading,
    "unusual": wording.unusual,
    "suite_title": wording.suite_title,
    "resolution": wording.resolution,
    "place": place,
    "published": share,
    "range_of": range_of,
    "under": under,
    "heat": lambda value: f"q{round(10 * value)}",
    "p_values": lambda table: [[float(f"{p:.2g}") for p in line] for line in table.tolist()],
    "inline": lambda svg: svg.replace(Markup(' xmlns="http://www.w3.org/2000/svg"'), "").strip(),
    "json": lambda value: as_json(value).strip(),
    "short_json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
}
"""Filters of the templates, by name."""

_FUNCTIONS: dict[str, Any] = {
    "answer": wording.answer,
    "standing": wording.standing,
    "exact": exact,
    "span": span,
    "line": figures.row_strip,
    "tried_columns": tried_columns,
    "attacked_columns": attacked_columns,
    "tried_by": Tried,
    "by_strength": by_strength,
    "used": used,
    "why_empty": why_empty,
    "interval_plot": figures.interval_plot,
    "trade_off": figures.trade_off,
    "attack_costs": figures.attack_costs,
    "roc_plot": figures.roc_plot,
    "risk_plot": figures.risk_plot,
    "detection_columns": DETECTION_COLUMNS,
    "curve_plot": figures.curve_plot,
    "api_version": API_VERSION,
    "attack_rows": ATTACK_ROWS,
    "board_attacks": BOARD_ATTACKS,
    "strip_rows": STRIP_ROWS,
    "pair_rows": PAIR_ROWS,
    "grid_rows": GRID_ROWS,
    "card_rows": figures.CARD_ROWS,
    "letters": figures.LETTERS,
    "sample": charts.sample,
    "formats": FORMATS,
    "badge": row_badge,
    "citation": citation,
    "unions": unions,
    "listings": listings,
    "answered": wording.answered,
    "badge_of": board_badge,
}
"""Functions and limits that templates use, by name."""


def _environment(frame: Frame, paths: Paths) -> Environment:
    env = Environment(
        loader=_Templates(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters.update(_FILTERS)
    env.globals.update(_FUNCTIONS, site=frame, paths=paths, drawn=DrawnCells(paths))
    return env


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

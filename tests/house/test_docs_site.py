"""The documentation builds as a site without a warning, opens from disk, and its reference has every public name."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.checkout import ROOT

REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
_MODULE = re.compile(r"automodule:: (benchmark[\w.]*)")
DESCRIBED = [(page, name) for page in REFERENCE for name in _MODULE.findall(page.read_text(encoding="utf-8"))]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(source), str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *REFERENCE]
    for page in pages:
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page


def test_nothing_is_loaded_from_a_network(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe)[^>]*src=\"([^\"]+)\"|<link[^>]*href=\"([^\"]+)\"")
    styles = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"') ]+)")
    pages = list(site.rglob("*.html"))
    found = [(page.name, a or b) for page in pages for a, b in loaded.findall(page.read_text(encoding="utf-8"))]
    assert len(found) > len(pages), "a page has at least a style sheet"
    assert not [pair for pair in found if "//" in pair[1]]
    assert not [file for file in site.rglob("*.css") if styles.search(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "name"), DESCRIBED, ids=lambda part: part if isinstance(part, str) else part.stem)
def test_the_reference_has_every_public_name(page: Path, name: str, site: Path) -> None:
    module = importlib.import_module(name)
    own = [key for key, value in vars(module).items() if key[0] != "_" and getattr(value, "__module__", "") == name]
    described = {key: getattr(module, key) for key in getattr(module, "__all__", own)}
    classes = [key for key, value in described.items() if inspect.isclass(value) or inspect.isfunction(value)]
    assert classes
    pages = (site / "reference").glob("*.html" if page.stem == "api" else f"{page.stem}.html")  # api offers others' too
    text = "".join(file.read_text(encoding="utf-8") for file in pages)
    missing = [key for key in classes if not re.search(rf'<dt[^>]* id="benchmark[\w.]*\.{key}"', text)]
    assert not missing, f"{missing}: Sphinx lists what has a docstring"


def test_every_page_of_the_reference_describes_a_module() -> None:
    assert {page for page, _ in DESCRIBED} == set(REFERENCE)


def test_fields_and_shapes_of_a_docstring_are_laid_out(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "api.html").read_text(encoding="utf-8"))
    assert "\nshape: (C, H, W) for images" in text.replace("\n\n", "\n")
    assert "(B, *S) float32 in [0, 1]; must not be modified." in text
    assert "Parameters:" in text


def test_the_primer_was_executed(site: Path) -> None:
    """Its cells assert what they claim; an error in one would have stopped the build."""
    page = ROOT / "docs" / "primer.md"
    cells = page.read_text(encoding="utf-8").count("```{code-cell}")
    text = (site / "primer.html").read_text(encoding="utf-8")
    assert cells >= 7
    assert text.count("cell_output") == cells
    assert "worst case  linf 1/10" in re.sub(r"<[^>]+>", "", text)


def test_a_broken_link_stops_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    configuration = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    (source / "conf.py").write_text(configuration.replace("Path(__file__).parents[1]", f"Path({str(ROOT)!r})"))
    (source / "index.md").write_text("# Title\n\nSee [there](nowhere.md).\n", encoding="utf-8")
    done = build(source, tmp_path / "site")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr

"""A release, rehearsed: built from what is committed, checked, installed and run, and not published. `make rehearse`.

docs/releasing.md says what each step is for. `--tag v0.2.0` adds what must hold for a release under that tag.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
TINY = ("dataset=digits", "model=linear", "training.epochs=1", "examples=20", "attack=fgsm", "tracker=[]")


class Unfit(Exception):  # noqa: N818 - said of the release
    """The reason why something cannot be released."""


@dataclass(frozen=True)
class Release:
    """Folders and settings of one rehearsal.

    source: the committed files. dist: the built ones. home: the environment they are installed into. elsewhere: the
    folder in which the installed command runs. constraints: the versions to install with. tag: None outside a release.
    """

    source: Path
    dist: Path
    home: Path
    elsewhere: Path
    constraints: Path
    tag: str | None = None

    @property
    def version(self) -> str:
        """The version in pyproject.toml."""
        found: str = tomllib.loads((self.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        return found

    def benchmark(self, *words: str) -> str:
        """Output of the installed command."""
        return run(self.home / "bin" / "benchmark", *words, cwd=self.elsewhere)


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that runs without the caller's Python settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BENCHMARK", "VIRTUAL_ENV"))}
    environment["WANDB_MODE"] = "offline"
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unfit(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check_out(source: Path) -> None:
    """The committed files, into a new folder."""
    archive = source.with_suffix(".tar")
    run("git", "archive", "--format=tar", f"--output={archive}", "HEAD", cwd=ROOT)
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")


def check_versions(release: Release) -> None:
    """CITATION.cff, the first section of CHANGELOG.md and the tag have the version of pyproject.toml."""
    version, tag = release.version, release.tag
    cited = re.search(r"^version: (.*)$", (release.source / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    if cited is None or cited.group(1).strip("\"'") != version:
        raise Unfit(f"CITATION.cff has not the version of pyproject.toml; expected `version: {version}`")
    heading = re.search(r"^## (.*)$", (release.source / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None or heading.group(1).partition(",")[0] != version:
        raise Unfit(f"CHANGELOG.md does not begin with {version}; expected `## {version}, ...` as its first section")
    if tag is not None and tag != f"v{version}":
        raise Unfit(f"the tag is {tag} and pyproject.toml says {version}; expected v{version}")
    if tag is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", heading.group(1).partition(", ")[2]):
        raise Unfit(f"CHANGELOG.md says `{heading.group(1)}`; expected the day of the release, `{version}, YYYY-MM-DD`")


def build(release: Release) -> None:
    """The source archive, and the wheel from that archive."""
    for old in [*release.dist.glob("*.whl"), *release.dist.glob("*.tar.gz")]:
        old.unlink()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", release.dist, release.source, cwd=release.source)


def check_metadata(release: Release) -> None:
    """Both files carry valid metadata of this version, a Markdown description and a licence."""
    (wheel,), (archive,) = release.dist.glob("*.whl"), release.dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [n for n in opened.namelist() if n.endswith(".dist-info/METADATA")]
        texts = {wheel.name: opened.read(name)}
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{archive.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert member is not None
        texts[archive.name] = member.read()
    for file, text in texts.items():
        metadata = Metadata.from_email(text, validate=True)
        if str(metadata.version) != release.version:
            raise Unfit(f"{file} says that it is {metadata.version}; expected {release.version}")
        if metadata.description_content_type != "text/markdown" or not (metadata.description or "").strip():
            raise Unfit(f"{file} has no Markdown description; pyproject.toml must name README.md as readme")
        if not metadata.license_expression or not metadata.license_files:
            raise Unfit(f"{file} names no licence; pyproject.toml must have license and license-files")


def install(release: Release) -> None:
    """The wheel with its dependencies, into a fresh environment."""
    venv.create(release.home, with_pip=True)
    (wheel,) = release.dist.glob("*.whl")
    pip = release.home / "bin" / "pip"
    run(pip, "install", "-q", "--constraint", release.constraints, wheel, cwd=release.elsewhere)


def list_plugins(release: Release) -> None:
    """The help is printed, and every plugin of the wheel loads."""
    release.benchmark("--help")
    broken = [plugin for plugin in json.loads(release.benchmark("plugins", "--json")) if plugin["problem"]]
    if broken:
        raise Unfit(f"plugins of the wheel that do not load: {broken}")


def run_a_cell(release: Release) -> None:
    """One tiny cell, and its witness proved again."""
    release.benchmark("run", *TINY)
    proof = release.benchmark("verify", "results/cells")
    if not proof.endswith("1 verified, 0 failed, 0 skipped\n"):
        raise Unfit(f"the record of the one cell is not proved: {proof}")


STEPS = {
    "versions": check_versions,
    "build": build,
    "metadata": check_metadata,
    "install": install,
    "plugins": list_plugins,
    "one cell": run_a_cell,
}


def main() -> int:
    """0 if the files in dist/ can be released, else 1 with the reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt", help="versions to install with")
    parser.add_argument("--tag", help="the tag of the release, such as v0.2.0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, home, elsewhere = (Path(scratch) / name for name in ("source", "environment", "elsewhere"))
        elsewhere.mkdir()
        release = Release(source, ROOT / "dist", home, elsewhere, options.constraints.absolute(), options.tag)
        try:
            check_out(source)
            for name, step in STEPS.items():
                print(name, flush=True)
                step(release)
        except Unfit as reason:
            print(f"not fit for release: {reason}")
            return 1
    print(f"fit for release: {', '.join(sorted(file.name for file in release.dist.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""OpenSSH signatures of a submission's manifest, checked against the repository's allowed signers.

    ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n adversarial-benchmark submission/manifest.json

The manifest has the sha256 of every other file, so its signature covers the whole submission.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import RecordError

from .parcel import MANIFEST, SIGNATURE

__all__ = ["ALLOWED", "MAINTAINERS", "NAMESPACE", "is_maintainer", "signer"]

ALLOWED = "allowed_signers"
"""File of keys beside published results, as described in ssh-keygen(1): a principal and a key per line."""
MAINTAINERS = "maintainers"
"""File beside it with the principals who have the rights of every owner, one per line; # begins a comment."""
PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,99}")
KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+")
NAMESPACE = "adversarial-benchmark"


def signer(root: Path, results: Sequence[Path]) -> str:
    """Principal whose key signed the manifest in `root`; "" for a submission without a signature.

    Args:
        results: folders of published results; the first one with allowed signers counts.

    Raises:
        RecordError: if there is a signature, but not of an allowed signer for this manifest.
    """
    if not (root / SIGNATURE).is_file():
        return ""
    allowed = next((folder / ALLOWED for folder in results if (folder / ALLOWED).is_file()), None)
    if allowed is None:
        raise RecordError(f"it is signed, but there is no {ALLOWED} beside the published results to check {SIGNATURE}")
    _check_owners(allowed)
    found = _ssh_keygen("find-principals", root, allowed, [])
    principal = found.stdout.splitlines()[0].strip() if found.returncode == 0 and found.stdout.strip() else ""
    if not principal or _ssh_keygen("verify", root, allowed, ["-I", principal]).returncode:
        raise RecordError(f"{SIGNATURE} is not a signature of this {MANIFEST} by one of the {ALLOWED}; sign it again")
    return principal


def _check_owners(allowed: Path) -> None:
    """Check that every key in the file belongs to one person: of several, ssh-keygen names the first.

    Raises:
        RecordError: if a key has several principals, or a principal is a pattern.
    """
    owners: dict[str, str] = {}
    for line in allowed.read_text(encoding="utf-8", errors="replace").splitlines():
        principal, *rest = line.split() or ["#"]
        if principal.startswith("#"):
            continue
        if not PRINCIPAL.fullmatch(principal):
            raise RecordError(
                f"{ALLOWED} names {principal[:60]!r}; expected one person, of letters, digits and . _ + @ -"
            )
        for key in (word for kind, word in itertools.pairwise(rest) if KEY_TYPE.fullmatch(kind)):
            if owners.setdefault(key, principal) != principal:
                both = f"{owners[key]} and {principal}"
                raise RecordError(
                    f"{ALLOWED} has one key for {both}; a key has one owner: a maintainer must remove the other"
                )


def is_maintainer(who: str, results: Sequence[Path]) -> bool:
    """True if a signer has the rights of every owner, by the first folder with allowed signers."""
    folder = next((folder for folder in results if (folder / ALLOWED).is_file()), None)
    if not who or folder is None or not (folder / MAINTAINERS).is_file():
        return False
    lines = (folder / MAINTAINERS).read_text(encoding="utf-8").splitlines()
    return who in {line.partition("#")[0].strip() for line in lines}


def _ssh_keygen(what: str, root: Path, allowed: Path, more: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = ["ssh-keygen", "-Y", what, "-f", str(allowed), *more, "-n", NAMESPACE, "-s", str(root / SIGNATURE)]
    try:
        with (root / MANIFEST).open("rb") as manifest:
            return subprocess.run(command, check=False, capture_output=True, text=True, stdin=manifest, timeout=60)
    except FileNotFoundError as error:
        raise RecordError(
            "ssh-keygen is not installed, but the submission is signed; install OpenSSH 8.9 or later"
        ) from error

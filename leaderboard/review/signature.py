"""OpenSSH signatures of a submission's manifest, checked against the repository's allowed signers.

    ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n adversarial-benchmark submission/manifest.json

The manifest names every other file by its sha256, so that its signature is that of the whole submission.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import RecordError

from .parcel import MANIFEST, SIGNATURE

__all__ = ["ALLOWED", "MAINTAINERS", "NAMESPACE", "is_maintainer", "signer"]

ALLOWED = "allowed_signers"
"""The file of keys beside published results, as ssh-keygen(1) describes it: a principal and a key in each line."""
MAINTAINERS = "maintainers"
"""The file of principals beside it who act for the owner of any row, one in each line; # begins a comment."""
NAMESPACE = "adversarial-benchmark"


def signer(root: Path, results: Sequence[Path]) -> str:
    """The principal whose key signed the manifest in `root`; "" for a submission without a signature.

    Args:
        results: folders of published results; the first one with allowed signers counts.

    Raises:
        RecordError: if there is a signature and it is not that of an allowed signer for this manifest.
    """
    if not (root / SIGNATURE).is_file():
        return ""
    allowed = next((folder / ALLOWED for folder in results if (folder / ALLOWED).is_file()), None)
    if allowed is None:
        raise RecordError(f"it is signed, and no {ALLOWED} lies beside the published results to check {SIGNATURE} by")
    found = _ssh_keygen("find-principals", root, allowed, [])
    principal = found.stdout.splitlines()[0].strip() if found.returncode == 0 and found.stdout.strip() else ""
    if not principal or _ssh_keygen("verify", root, allowed, ["-I", principal]).returncode:
        raise RecordError(f"{SIGNATURE} is no signature of this {MANIFEST} by one of the {ALLOWED}; sign it again")
    return principal


def is_maintainer(who: str, results: Sequence[Path]) -> bool:
    """Tell whether a signer has the rights of every owner: the first folder with allowed signers says who does."""
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
        raise RecordError("ssh-keygen is not installed, and the submission is signed; install OpenSSH 8.9") from error

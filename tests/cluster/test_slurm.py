"""Tasks of a real Slurm on this machine work at a plan; one is cancelled and the array is sent again.

Needs slurmctld, slurmd and munged (Debian: slurm-wlm, munge) and root, which starts them; skipped by name elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.commands import QUICK, benchmark, environment, files, records

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "scancel", "squeue")
MISSING = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no Slurm here: {', '.join(MISSING)} not found"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="starting Slurm takes root"),
]

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "cluster" / "slurm.sh"
MATRIX = ("attack=fgsm,pgd,noise", "seed=0,1", *QUICK, "tracker=[]")

CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A controller and a node; the environment in which its commands find them."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    ports = {"port": _free_port(), "node_port": _free_port()}
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, **ports))
    found = {**environment(), "SLURM_CONF": str(folder / "slurm.conf")}
    found["PATH"] = f"{Path(sys.executable).parent}:{found['PATH']}:/usr/sbin"  # jobs need the command
    munge = ["munged", "--force", "--foreground", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munge += [f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/seed"]
    with contextlib.ExitStack() as running:
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]):
            process = running.enter_context(
                subprocess.Popen(command, env=found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            running.callback(process.kill)
            time.sleep(2)
            assert process.poll() is None, (command, [p.read_text()[-800:] for p in folder.glob("*.log")])
        yield found


def _array(folder: Path, found: dict[str, str], *words: str) -> str:
    script = folder / "slurm.sh"
    script.write_text(SCRIPT.read_text().replace("--mem=16G", "--mem=500M").replace("task=4", "task=1"))
    done = subprocess.run(
        ["sbatch", "--parsable", *words, str(script), "plan.jsonl"],
        cwd=folder, env=found, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _states(found: dict[str, str]) -> str:
    return subprocess.run(["squeue", "-h", "-o", "%T"], env=found, capture_output=True, text=True, check=False).stdout


def _wait(found: dict[str, str], seconds: float = 280.0) -> None:
    until = time.monotonic() + seconds
    while _states(found).strip():
        assert time.monotonic() < until, _states(found)
        time.sleep(1)


def test_an_array_of_which_a_task_is_cancelled_and_that_is_sent_again_loses_nothing(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    shared, serial = tmp_path / "shared", tmp_path / "serial"
    benchmark(serial, "run", "-m", *MATRIX)
    benchmark(shared, "plan", *MATRIX)
    job = _array(shared, slurm, "--array=0-1")
    until = time.monotonic() + 120
    while not list((shared / "results" / "work").glob("*/attempt.json")) and time.monotonic() < until:
        assert _states(slurm).strip(), [log.read_text() for log in shared.glob("benchmark-*.log")]
        time.sleep(0.1)
    subprocess.run(["scancel", "--signal=KILL", f"{job}_0"], env=slurm, check=True)
    _wait(slurm)
    _array(shared, slurm, "--array=0-1")
    _wait(slurm)
    assert records(shared) == records(serial)
    assert files(shared) == files(serial)
    assert benchmark(shared, "status", "--plan", "plan.jsonl").stdout.startswith("6 cells: 6 complete\n")

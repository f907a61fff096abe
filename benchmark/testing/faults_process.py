"""Plugins of each kind that leave process state changed for other plugins. No paper."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor, nn

from benchmark.api import hookimpl
from benchmark.data import DataSpec, Examples, Splits
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.faults_attack import SoundAttack
from benchmark.testing.faults_certifier import SoundCertifier
from benchmark.testing.faults_dataset import SoundDataset
from benchmark.testing.faults_defense import SoundDefense
from benchmark.testing.faults_metric import SoundMetric
from benchmark.testing.faults_model import SoundModel
from benchmark.testing.faults_poison import SoundPoison
from benchmark.testing.faults_tracker import SoundTracker
from benchmark.threat import Threat

__all__: list[str] = []


@dataclass(frozen=True)
class LeavesDeterminism(SoundAttack):
    """Switches torch to deterministic kernels for the whole process."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, with a mode left changed."""
        found = super().perturb(target, x, y, threat=threat, rng=rng)
        torch.use_deterministic_algorithms(True, warn_only=True)
        return found


@dataclass(frozen=True)
class LeavesItsFolder(SoundDataset):
    """Changes the working directory to its data folder."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Sound splits, in another working directory."""
        os.chdir(os.sep)
        return super().load(root, offline=offline)


class _Ignores(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        np.seterr(divide="ignore")
        logits: Tensor = self.model(x)
        return logits


@dataclass(frozen=True)
class ChangesErrorsOfNumpy(SoundModel):
    """Silences a NumPy error for the whole process."""

    def build(self, spec: DataSpec) -> nn.Module:
        """One linear layer, with an error state left changed."""
        return _Ignores(super().build(spec))


@dataclass(frozen=True)
class LeavesAnomalyDetection(SoundDefense):
    """Enables torch's anomaly detection, which makes every backward pass slower."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Sound model, with a mode left changed."""
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        return super().protect(model)


@dataclass(frozen=True)
class TakesASignal(SoundPoison):
    """Replaces the handler of a signal."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Sound poison, with a handler left changed."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return super().corrupt(train, spec, rng)


@dataclass(frozen=True)
class SetsThreads(SoundCertifier):
    """Sets torch's number of threads, which affects rounding elsewhere."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radius, with another number of threads from then on."""
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().certify(system, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class SilencesWarnings(SoundMetric):
    """Silences all warnings of the process."""

    def build(self) -> torchmetrics.Metric:
        """Sound metric, with warnings left off."""
        warnings.simplefilter("ignore")
        sys.setrecursionlimit(sys.getrecursionlimit() + 1)
        return super().build()


@dataclass(frozen=True)
class ListensToASignal(SoundTracker):
    """Replaces the handler of a signal."""

    @hookimpl
    def benchmark_cell_finished(self, plan: Any, record: Any) -> None:
        """Leave a handler changed."""
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

"""Plugins for several tasks that each break one promise, made from sound ones.

The sound attack ascends the cross-entropy of every site by sign steps (Goodfellow et al., ICLR 2015, arXiv:1412.6572).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import EVERY_TASK, Model
from benchmark.data import DataSpec, Splits
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import DenseTask
from benchmark.testing.faults_attack import SoundAttack, ascend
from benchmark.testing.faults_dataset import SoundDataset
from benchmark.threat import Threat
from benchmark.threat.ball import Ball

__all__ = ["SoundOnTasks", "SoundSegmenter"]


def gain(task: DenseTask, y: Tensor, output: Tensor) -> Tensor:
    """Mean cross-entropy of the counting sites, to maximise, (B,)."""
    labels, reach = task.aim(y)
    scores = task.scores(output)
    each = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none")
    value = each.reshape(labels.shape).sum(1) / (labels >= 0).sum(1).clamp_min(1)
    return -value if reach else value


@dataclass(frozen=True)
class SoundOnTasks(SoundAttack):
    """An attack that keeps every rule on every task; each faulty one differs in one place, on several sites only."""

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend inside the ball."""
        ball, task = threat.around(x, rng), target.task
        if not isinstance(task, DenseTask):
            return ascend(target, x, y, ball, targeted=threat.targeted, steps=self.steps)
        return self.on_sites(task, target, y, ball)

    def on_sites(self, task: DenseTask, target: Target, y: Tensor, ball: Ball) -> Tensor:
        """Candidates of examples with several sites, (B, *S)."""
        x_adv = ball.x
        for _ in range(self.steps):
            gradient, _, _ = target.gradient(x_adv, partial(gain, task, y))
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(self.used(gradient)))
        return x_adv

    def used(self, gradient: Tensor) -> Tensor:
        """Direction of a step."""
        return torch.nan_to_num(gradient)


@dataclass(frozen=True)
class KnowsOneLabel(SoundOnTasks):
    """Declares every task, but looks for a single label per example."""

    def on_sites(self, task: DenseTask, target: Target, y: Tensor, ball: Ball) -> Tensor:
        """Ascend the margin of a label that does not exist."""
        return ascend(target, ball.x, y, ball, targeted=False, steps=self.steps)


@dataclass(frozen=True)
class AveragesOverScenes(SoundOnTasks):
    """Drops gradients that are small compared with the rest of the batch."""

    def used(self, gradient: Tensor) -> Tensor:
        """Gradient where it exceeds the mean of the batch."""
        return torch.nan_to_num(gradient * (gradient.abs() >= gradient.abs().mean()))


@dataclass(frozen=True)
class StaysOnSites(SoundOnTasks):
    """Queries examples of several sites, but returns them clean."""

    def on_sites(self, task: DenseTask, target: Target, y: Tensor, ball: Ball) -> Tensor:
        """Ascend, and discard the result."""
        super().on_sites(task, target, y, ball)
        return ball.x.clone()


@dataclass(frozen=True)
class HidesItsTask(SoundDataset):
    """Returns examples of several sites, but declares classification."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """The same examples, for another task."""
        splits = super().load(root, offline=offline)
        parts = {name: getattr(splits, name) for name in ("train", "select", "test")}
        wide = {name: dataclasses.replace(part, y=part.y[:, None]) for name, part in parts.items()}
        return Splits(**wide, spec=dataclasses.replace(splits.spec, task=Segmentation()))


@dataclass(frozen=True)
class SoundSegmenter(Model):
    """A linear classifier of each pixel's channels."""

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    def build(self, spec: DataSpec) -> nn.Module:
        """One layer, with sites before classes."""
        return nn.Sequential(nn.Conv2d(spec.shape[0], spec.classes, 1), nn.Flatten(2), _Swapped())


class _Swapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


@dataclass(frozen=True)
class AnswersClassesFirst(SoundSegmenter):
    """Returns (B, K, S) in place of (B, S, K)."""

    def build(self, spec: DataSpec) -> nn.Module:
        """One layer, with classes before sites."""
        return nn.Sequential(nn.Conv2d(spec.shape[0], spec.classes, 1), nn.Flatten(2))

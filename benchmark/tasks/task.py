"""The contract of a task, and the simplest task: one label per example."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:  # reading configurations must not cost the import of torch
    from torch import Tensor

__all__ = ["CLASSIFICATION", "ONE_LABEL", "UNTARGETED", "Classification", "DenseTask", "Task"]

RowLossOf = Callable[["Tensor", "Tensor"], "Tensor"]
"""A loss of scores (n, K) and labels (n,), separately for each row, (n,)."""

CLASSIFICATION = "classification"
UNTARGETED = "untargeted"
"""Goal of an attacker to whom any wrong answer is a success."""


@dataclass(frozen=True)
class Task:
    """A value that travels with the data: S sites per example, each with a label and K classes.

    name: as plugins declare it in `tasks`. goals: goals of a threat that are defined for the task; None for all that
    name labels. dense: True if an example has several sites, so that a system returns (B, S, K) instead of (B, K).
    """

    name: ClassVar[str] = CLASSIFICATION
    goals: ClassVar[frozenset[str] | None] = None
    dense: ClassVar[bool] = False

    def answer_shape(self, count: int, shape: tuple[int, ...], classes: int) -> tuple[int, ...]:
        """Shape of a system's output for `count` inputs of shape `shape`."""
        return (count, classes)

    def least_label(self, classes: int) -> int:
        """Smallest label that data with so many classes may have."""
        return 0

    def scores(self, output: Tensor) -> Tensor:
        """Class scores (B, K) or (B, S, K) in a system's output."""
        return output

    def truth(self, y: Tensor) -> Tensor:
        """Label of each example as a whole, as in outcomes, (B,) int64."""
        return y

    def succeeded(self, output: Tensor, y: Tensor, *, targeted: bool) -> Tensor:
        """Success of an attacker, (B,) bool: the predicted label is `y` if `targeted`, else any other."""
        return (output.argmax(1) == y) == targeted

    def over_sites(self, loss: RowLossOf, output: Tensor, y: Tensor) -> Tensor:
        """Mean over the counting sites of a loss of scores (n, K) and labels (n,), to be maximised, (B,)."""
        return loss(output, y)


@dataclass(frozen=True)
class Classification(Task):
    """One label per example: S = 1, and the output is (B, K)."""


ONE_LABEL = Classification()
"""Default task of a dataset."""


@dataclass(frozen=True)
class DenseTask(Task, ABC):
    """A task with several sites per example. Labels are (B, S) int64, or (B, S, n) with the label in column 0.

    The label -1 marks a site that does not count. An example is correct or wrong as a whole: in outcomes its label is
    1, and the prediction is 1 if it is correct and 0 if it is wrong.

    goal: the error that counts, of `goals`.
    """

    goals: ClassVar[frozenset[str] | None] = frozenset({UNTARGETED})
    dense: ClassVar[bool] = True

    goal: str = UNTARGETED

    def under(self, goal: str) -> Self:
        """Task with the errors that count under a goal of the threat."""
        return self if goal == self.goal else dataclasses.replace(self, goal=goal)

    @abstractmethod
    def sites(self, shape: tuple[int, ...]) -> int:
        """Number of sites of an example of shape `shape`."""

    def least_label(self, classes: int) -> int:
        """-1, the label of a site that does not count."""
        return -1

    def columns(self, classes: int) -> int:
        """Number of output values per site, the class scores first."""
        return classes

    def answer_shape(self, count: int, shape: tuple[int, ...], classes: int) -> tuple[int, ...]:
        """Shape (count, S, columns)."""
        return (count, self.sites(shape), self.columns(classes))

    def truth(self, y: Tensor) -> Tensor:
        """1 for every example, (B,) int64: it is to be predicted correctly."""
        return y.new_ones(len(y))

    @abstractmethod
    def read(self, output: Tensor) -> Tensor:
        """Prediction as judged and stored, (B, S) int16 or (B, S, n) float32, separately for each row."""

    @abstractmethod
    def wrong(self, reading: Tensor, y: Tensor) -> Tensor:
        """True for an example with an error that counts under the goal, (B,) bool, from :meth:`read` and labels."""

    @abstractmethod
    def score(self, reading: Tensor, y: Tensor) -> Tensor:
        """Fraction of the sites or objects that are correct, (B,) float32 in [0, 1]; 1 if there are none."""

    @abstractmethod
    def aim(self, y: Tensor) -> tuple[Tensor, bool]:
        """Labels (B, S) int64 at the attacked sites, -1 at others; and True if they are targets, else False."""

    def succeeded(self, output: Tensor, y: Tensor, *, targeted: bool) -> Tensor:
        """Success of an attacker, (B,) bool: an error that counts under the goal."""
        return self.wrong(self.read(output), y)

    def site_losses(self, loss: RowLossOf, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss to maximise at each site, (B, S), 0 where it does not count; and the sites that count, (B, S) bool.

        Args:
            loss: from scores (n, K) and labels (n,) to (n,). output: (B, S, ...). y: labels as the task has them.
        """
        labels, reach = self.aim(y)
        scores = self.scores(output)
        value = loss(scores.flatten(0, 1), labels.clamp_min(0).flatten()).reshape(labels.shape)
        counted = labels >= 0
        return (-value if reach else value).where(counted, 0.0), counted

    def over_sites(self, loss: RowLossOf, output: Tensor, y: Tensor) -> Tensor:
        """Mean of :meth:`site_losses` over the sites that count, (B,)."""
        value, counted = self.site_losses(loss, output, y)
        return value.sum(1) / counted.sum(1).clamp_min(1)

    @abstractmethod
    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Training loss, a scalar: the mean over the sites that count."""

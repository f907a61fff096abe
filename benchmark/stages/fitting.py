"""The Lightning module that trains a system."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, Dataset

from benchmark.api import Averaging, Defense, Loss
from benchmark.config.schema import Optimizer, Schedule, Training
from benchmark.data import Batch, DataSpec, Examples
from benchmark.errors import Refused
from benchmark.records.durable import save_checked
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.batch import attack_batch
from benchmark.stages.job import Job
from benchmark.stages.judge import answer, right
from benchmark.stages.quiet import QuietInChild
from benchmark.stages.training_history import BEST, read_history, write_history
from benchmark.system import System
from benchmark.system.networks import cross_entropy
from benchmark.system.weights import copied
from benchmark.tasks.task import DenseTask
from benchmark.threat import Goal, Threat

__all__ = ["Fitting", "share_of"]


def stacked(defenses: Sequence[Defense], rng: SampleRandom, base: Loss) -> Loss:
    """Loss of a stack of defenses: each wraps the one below it."""
    loss = base
    for place, defense in enumerate(defenses):
        loss = _wrap(defense, loss, rng.child(place))
    return loss


def _wrap(defense: Defense, inner: Loss, rng: SampleRandom) -> Loss:
    return lambda model, batch: defense.loss(model, batch, inner, rng)


def share_of(batch: Tensor, rank: int, processes: int, fewest: int) -> tuple[Tensor, float]:
    """Rows of a batch for one of several processes, and the weight of their mean loss.

    Processes average their gradients with equal weights, so n of N rows weigh n * processes / N: the average is then
    the gradient of the mean over the N rows, as in a single process. A batch with fewer than `fewest` rows per process
    is computed whole by all of them.
    """
    if len(batch) < fewest * processes:
        return batch, 1.0
    share = batch[rank::processes]
    return share, len(share) * processes / len(batch)


class _Batches(Dataset[tuple[Tensor, ...]]):
    """A map-style dataset whose items are whole batches with their weights, read on demand."""

    def __init__(self, batches: list[tuple[Tensor, float]], examples: Examples) -> None:
        self.batches, self.examples = batches, examples

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        at, weight = self.batches[index]
        parts = (torch.tensor(weight), self.examples.ids[at], self.examples.x(at), self.examples.y[at])
        return parts if self.examples.soft is None else (*parts, self.examples.soft[at])


class Fitting(pl.LightningModule):
    """Lightning module: a model, the recipe, the defenses, and the selection of an epoch.

    select: the select split, or None to keep the last epoch. threat: of the selection attack, or None for clean
    accuracy.
    folder: of the best weights and the history; written by the first process.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        train: Examples,
        select: Examples | None,
        recipe: Training,
        defenses: Sequence[Defense],
        threat: Threat | None,
        seed: int,
        folder: Path,
        base: Loss = cross_entropy,
    ) -> None:
        super().__init__()
        self.quiet = QuietInChild()
        self.model = model
        self.spec, self.train_examples, self.select_examples = spec, train, select
        self.recipe, self.defenses, self.threat = recipe, tuple(defenses), threat
        self.now = self.defenses
        chosen = [a for a in (d.averaging() for d in self.defenses) if a is not None]
        self.averaging = chosen[-1] if chosen else Averaging(recipe.ema) if recipe.ema else None
        self.average = None if self.averaging is None else _average(model, self.averaging)
        self.seed, self.folder, self.base = seed, folder, base
        self.report: Callable[[dict[str, float]], None] | None = None
        self.losses: list[Tensor] = []

    # --- data ---

    def train_dataloader(self) -> DataLoader[Any]:
        """This process's part of every batch of the epoch, in an order that depends on seed and epoch alone."""
        round_ = self.current_epoch // self.replays  # over the examples; each epoch of it takes other batches
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", round_))
        order = torch.randperm(len(self.train_examples), generator=generator)
        world, rank = self.trainer.world_size, self.trainer.global_rank
        fewest = self.fewest_rows()
        whole = [b for b in order.split(self.recipe.batch_size) if len(b) >= min(2, self.recipe.batch_size, len(order))]
        batches = [share_of(b, rank, world, fewest) for b in whole]
        if self.replays > 1:
            share = batches[self.current_epoch % self.replays :: self.replays] or batches[-1:]
            batches = [batch for batch in share for _ in range(self.replays)]
        return DataLoader(_Batches(batches, self.train_examples), batch_size=None, shuffle=False)

    def fewest_rows(self) -> int:
        """Smallest batch, in rows, that the model's layers accept.

        Raises:
            Refused: if no batch is as large.
        """
        most = min(self.recipe.batch_size, len(self.train_examples))
        if most == 1 and self.normalized:
            raise Refused(
                f"training.batch_size is {self.recipe.batch_size} and the training split has "
                f"{len(self.train_examples)} examples, so a batch has 1, and the model has batch normalisation, which "
                "needs 2; choose larger batches"
            )
        return 2 if self.normalized else 1

    @property
    def normalized(self) -> bool:
        """True if the model has batch normalisation."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())

    @property
    def replays(self) -> int:
        """Consecutive steps on each batch."""
        return math.prod(defense.replays() for defense in self.defenses)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return max(1, math.ceil(len(self.train_examples) / self.recipe.batch_size))

    # --- optimisation ---

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, stepped after each batch."""
        parameters = list(self.model.parameters())
        optimizer: torch.optim.Optimizer
        if self.recipe.optimizer is Optimizer.sgd:
            optimizer = torch.optim.SGD(
                parameters,
                lr=self.recipe.learning_rate,
                momentum=self.recipe.momentum,
                weight_decay=self.recipe.weight_decay,
                nesterov=self.recipe.momentum > 0,
            )
        else:
            optimizer = torch.optim.Adam(
                parameters, lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
            )
        total = self.steps_per_epoch * max(1, self.recipe.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(self.recipe.schedule, step / total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed the layers' randomness by seed and epoch, and get the defenses of the epoch."""
        torch.manual_seed(derive_seed(self.seed, "epoch", self.current_epoch, self.trainer.global_rank))
        self.losses = []
        self.now = tuple(d.at_epoch(self.current_epoch, self.recipe.epochs) for d in self.defenses)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Loss of the stack on one batch."""
        weight, ids, x, y, *soft = batch
        rng = SampleRandom(derive_seed(self.seed, "train", self.current_epoch), ids)
        loss = stacked(self.now, rng, self.base)
        task = self.spec.task if isinstance(self.spec.task, DenseTask) else None
        value = loss(self.model, Batch(ids, x, y, soft[0] if soft else None, task))
        value = value * weight
        self.losses.append(value.detach())
        return value

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Project the weights, and update their moving average."""
        with torch.no_grad():
            for defense in self.now:
                defense.after_step(self.model)
        if self.averaging is not None and not self.averaging.each_epoch:
            self._take_into_average()

    def _take_into_average(self) -> None:
        assert self.averaging is not None
        assert self.average is not None
        if self.current_epoch >= int(self.averaging.start * self.recipe.epochs):
            self.average.update_parameters(self.model)

    # --- the choice between epochs ---

    @property
    def deployed(self) -> nn.Module:
        """Model with the weights that would be deployed now: the average, if there is one."""
        return self.model if self.average is None or self.average.n_averaged == 0 else self.average.module

    def on_train_epoch_end(self) -> None:
        """Score the epoch on the select split, and keep the weights unless an earlier epoch was better."""
        loss: Any = self.trainer.strategy.reduce(torch.stack(self.losses).mean(), reduce_op="mean")
        values = {"epoch": float(self.current_epoch), "train_loss": float(loss)}
        if not math.isfinite(values["train_loss"]):
            raise FloatingPointError(
                f"the training loss is {values['train_loss']} in epoch {self.current_epoch}; expected a finite loss: "
                "lower "
                f"training.learning_rate ({self.recipe.learning_rate}) or check the defenses' parameters"
            )
        if self.averaging is not None and self.averaging.each_epoch:
            self._take_into_average()
        if self.averaging is not None and self.averaging.restate and self.deployed is not self.model:
            at = torch.arange(len(self.train_examples)).split(self.recipe.batch_size)
            update_bn((self.train_examples.x(b).to(self.device) for b in at if len(b) > 1), self.deployed)
        if self.select_examples is not None:
            values |= self._score(self.select_examples)
        score = values.get("select_robust_accuracy", values.get("select_accuracy", values["epoch"]))
        self.log("score", torch.tensor(score), sync_dist=False)
        if self.trainer.is_global_zero:
            history = [h for h in read_history(self.folder) if h["epoch"] < self.current_epoch]
            best = max((h["score"] for h in history), default=-math.inf)
            if score >= best:
                state = {k: v.detach().cpu().contiguous().clone() for k, v in self.deployed.state_dict().items()}
                save_checked(state, self.folder / BEST)
            write_history(self.folder, [*history, {**values, "score": score}])
            if self.report is not None:
                self.report({**values, "score": score})

    def _score(self, select: Examples) -> dict[str, float]:
        system = System(copied(self.deployed), self.spec, self.defenses)
        clean, robust = 0, 0
        attack = self.recipe.selection_attack
        threat = self.threat or Threat()
        job = Job(
            attack=attack,
            threat=threat,
            system=system,
            attacker_view=system,
            examples=select,
            seed=derive_seed(self.seed, "select"),
            batch_size=0,
            folder=self.folder,
        )
        for at in torch.arange(len(select)).split(256):
            x, y, ids = (v.to(self.device) for v in (select.x(at), select.y[at], select.ids[at]))
            if self.threat is None:
                rng = SampleRandom(job.seed, ids)
                clean += _right(system, x, y, rng)
            else:
                outcomes = attack_batch(job, x, y, ids).outcomes
                clean, robust = clean + int(outcomes.clean_correct.sum()), robust + int(outcomes.robust.sum())
        values = {"select_accuracy": clean / max(1, len(select))}
        if self.threat is not None:
            values["select_robust_accuracy"] = robust / max(1, len(select))
        return values


def _right(system: System, x: Tensor, y: Tensor, rng: SampleRandom) -> int:
    """Number of clean examples that one pass classifies correctly."""
    if system.spec.task.dense:
        return int(right(answer(system, x, y, rng), Goal.untargeted).sum())
    return int((system.logits(x, rng).argmax(1) == y).sum())


def _average(model: nn.Module, averaging: Averaging) -> AveragedModel:
    """Weight average before its first update."""
    rule = None if averaging.decay is None else get_ema_multi_avg_fn(averaging.decay)
    with torch.no_grad():
        average = AveragedModel(copied(model), multi_avg_fn=rule, use_buffers=not averaging.restate)
    average.requires_grad_(False)
    return average


def learning_rate_factor(schedule: Schedule, progress: float) -> float:
    """Factor of the peak learning rate after the fraction `progress` (0 to 1) of the training."""
    if schedule is Schedule.cosine:
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    if schedule is Schedule.multistep:
        return 0.1 ** sum(progress >= mark for mark in (0.5, 0.75))
    if schedule is Schedule.one_cycle:
        return max(0.0, min(progress / 0.3, (1.0 - progress) / 0.7))
    return 1.0

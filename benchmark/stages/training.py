"""Training with Lightning: one module for every model and every stack of defenses.

Deterministic: the order of the examples, the randomness of the defenses and that of the layers depend on the seed and
the epoch alone, so an interrupted and resumed training ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn

from benchmark.config.schema import Trainer
from benchmark.records.durable import checked_tensors
from benchmark.records.findings import COLLAPSED
from benchmark.stages import world
from benchmark.stages.fitting import Fitting
from benchmark.stages.quiet import quiet_lightning
from benchmark.stages.training_history import BEST, LAST, History, begin_again_if_broken, read_history

__all__ = ["collapse_warning", "shares_warning", "train"]

COLLAPSE = 0.2
"""Drop of robust accuracy between epochs that triggers the warning about catastrophic overfitting."""


def train(fitting: Fitting, trainer: Trainer, tell: Callable[[dict[str, float]], None]) -> History:
    """Train by the recipe; the module's model ends with the selected weights.

    Resumes after the last finished epoch if `fitting.folder` has a checkpoint.

    Args:
        tell: called with the values of each epoch: during training in this process, afterwards if others train.

    Returns:
        The epochs.
    """
    recipe, folder = fitting.recipe, fitting.folder
    if recipe.epochs == 0:
        return []
    fitting.fewest_rows()
    folder.mkdir(parents=True, exist_ok=True)
    spawned = "spawn" in trainer.strategy
    callbacks: list[Callback] = [ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False)]
    if recipe.patience:
        callbacks.append(EarlyStopping("score", mode="max", patience=recipe.patience, check_on_train_epoch_end=True))
    fitting.report = None if spawned else tell  # what is spawned must be picklable, and observers need not be
    last = folder / LAST
    if not world.is_follower(trainer):
        begin_again_if_broken(folder)
    precision: Any = trainer.precision
    with quiet_lightning():
        lightning = pl.Trainer(
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            num_nodes=trainer.nodes,
            strategy=trainer.strategy,
            precision=precision,
            max_epochs=recipe.epochs,
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        lightning.fit(fitting, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    world.barrier()  # until the first process has written the history and the chosen weights
    history = read_history(folder)
    if spawned:
        for values in history:
            tell(values)
    best, _ = checked_tensors(folder / BEST)
    fitting.model.cpu().load_state_dict(best)
    world.barrier()  # until every process has read them
    return history


def shares_warning(model: nn.Module, processes: int) -> str | None:
    """Warning about layers whose training outputs depend on the part of a batch that a process computes."""
    kinds = {
        "batch normalisation": nn.modules.batchnorm._BatchNorm,
        "dropout": nn.modules.dropout._DropoutNd,
    }
    found = [name for name, kind in kinds.items() if any(isinstance(module, kind) for module in model.modules())]
    if processes == 1 or not found:
        return None
    return (
        f"trained by {processes} processes, and the model has {' and '.join(found)}, computed by each process on its "
        "own share of a batch: one process would have trained other weights"
    )


def collapse_warning(history: History) -> str | None:
    """Warning about catastrophic overfitting (Wong, Rice & Kolter, ICLR 2020, section 4), None if there was none."""
    best = 0.0
    for values in history:
        robust = values.get("select_robust_accuracy")
        if robust is None:
            continue
        if robust < best - COLLAPSE:
            return (
                f"{COLLAPSED}: robust accuracy on the select split fell from {best:.1%} to {robust:.1%} "
                f"in epoch {int(values['epoch'])}; use several attack steps or a smaller step in training"
            )
        best = max(best, robust)
    return None

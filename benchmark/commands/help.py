"""The help of `benchmark run`: config groups with their choices, listed without importing plugins, and examples."""

from __future__ import annotations

import importlib.resources
import shutil
import textwrap

from benchmark import registry

__all__ = ["run_help"]


def run_help() -> str:
    """Full help text, as wide as the terminal."""
    width = max(60, min(120, shutil.get_terminal_size().columns))
    lines = [
        "usage: benchmark run [-m] [GROUP=CHOICE | KEY=VALUE]...",
        "",
        "Run one cell (dataset, model, defenses, attack, threat, seed), or with -m all combinations of the choices",
        "separated by commas. Recorded cells are not computed again.",
        "",
        "groups (those marked * take an ordered list: 'defense=[label_smoothing,jpeg]', or [] for none):",
    ]
    for group, choices in _groups():
        label = f"  {group + ('*' if group in registry.LISTS else ''):<12}"
        text = ", ".join(choices) or "(none installed)"
        lines += textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label))
    lines += [
        "",
        "common keys:",
        "  seed=0 examples=500 batch_size=256      seed, number of test examples, batch size",
        "  threat.norm=linf threat.eps=8/255       the ball; also threat.access, .queries, .goal, .aware, .region",
        "  attack.steps=100                        a setting of a chosen plugin (listed by: benchmark plugins "
        "attack.pgd)",
        "  defense.jpeg.quality=50                 a setting of a plugin in a list, by its name",
        "  training.epochs=20 trainer=gpu          the training recipe, and the hardware",
        "  system.init_from=KEY                    continue training from a trained system",
        "  cell.process=true cell.timeout=600      run each cell in its own process, with limits; also cell.memory",
        "  retry=failed                            compute failed cells again",
        "  until=broken                            attack from cheap to strong, each on the surviving examples",
        "  store.root=results store.data=data      folders of the results and the data files",
        "",
        "examples:",
        "  benchmark run attack=pgd threat=linf_8_255",
        "  benchmark run model=checkpoint model.path=net.safetensors model@model.model=resnet dataset=arrays",
        "  benchmark run -m attack=fgsm,pgd 'defense=[],[adversarial_training]' seed=0,1,2",
        "  benchmark run suite=quickstart",
        "  benchmark run -m hydra/launcher=joblib hydra.launcher.n_jobs=4 attack=fgsm,pgd seed=0,1",
        "",
        "more:",
        "  benchmark run --cfg job [...]           print the composed configuration instead of running it",
        "  benchmark run --hydra-help              Hydra's own flags",
        '  eval "$(benchmark -sc install=bash)"    shell completion (also zsh, fish)',
    ]
    return "\n".join(lines)


def _variants(group: str) -> list[str]:
    """Named settings of a group: the files of conf/GROUP/."""
    folder = importlib.resources.files("benchmark.conf").joinpath(group)
    if not folder.is_dir():
        return []
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _groups() -> list[tuple[str, list[str]]]:
    """Every config group with its choices: plugins and named settings."""
    folders = [f.name for f in importlib.resources.files("benchmark.conf").iterdir() if f.is_dir()]
    own = sorted(set(folders) - set(registry.KINDS) - {"__pycache__", "hydra"})
    return [(group, sorted({*registry.names(group), *_variants(group)})) for group in (*registry.KINDS, *own)]

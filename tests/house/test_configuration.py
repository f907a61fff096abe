"""Every YAML file composes, every plugin can be chosen, and a configuration names no Python object."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from benchmark import registry
from benchmark.config.members import with_members
from benchmark.config.resolve import resolve
from benchmark.config.schema import Retry
from benchmark.sweep import app, chosen
from tests.house.checkout import ROOT, files, optional_packages

FILES = [f for f in files() if f.parts[0] == "conf" and f.suffix == ".yaml"]
VARIANTS = [f for f in FILES if len(f.parts) == 3]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        HydraConfig.instance().set_config(compose("run", return_hydra_config=True))  # paths name the chosen dataset
        yield
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


def choose(group: str, name: str) -> list[str]:
    """The override that chooses a file or a plugin."""
    return [f"{group}=[{name}]" if group in registry.LISTS else f"{group}={name}"]


@pytest.mark.parametrize("file", VARIANTS, ids=str)
def test_every_file_composes(file: Path) -> None:
    group, name = file.parts[1], file.stem
    config = compose("run", choose(group, name), return_hydra_config=group == "suite")
    if group == "suite":
        params = OmegaConf.to_container(config.hydra.sweeper.params) if name != "none" else {}
        first: dict[str, Any] = dict(params or {})  # type: ignore[arg-type]
        words = [f"{key}={str(values).split(',')[0]}" for key, values in first.items()]
        config = compose("run", [f"suite={name}", *(word for word in words if not chosen.is_setting(word))])
        assert config.suite.name == ("" if name == "none" else name)
        assert name == "none" or config.suite.version >= 1
    with optional_packages():
        run = resolve(config)
        assert run.cell_key(refused=True)


@pytest.mark.parametrize("name", sorted(d.full_name for d in registry.declared() if d.kind in registry.KINDS))
def test_every_plugin_composes(name: str) -> None:
    kind, _, short = name.partition(".")
    config = compose("run", choose(kind, short))
    made = config[kind][short] if kind in registry.LISTS else config[kind]
    if not OmegaConf.missing_keys(made):
        with optional_packages():
            assert isinstance(OmegaConf.to_object(with_members(made)), registry.load(kind, short))


def test_the_default_run_is_what_its_schema_says() -> None:
    run = resolve(compose("run"))
    assert registry.name_of(run.dataset) == ("dataset", "digits")
    assert run.retry is Retry.none
    assert run.official is False


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_names_a_python_object(file: Path) -> None:
    assert "_target_" not in (ROOT / file).read_text(encoding="utf-8"), f"{file}: plugins are chosen by name"


def test_a_radius_is_an_exact_fraction() -> None:
    for file in (f for f in VARIANTS if f.parts[1] == "threat"):
        values: Any = OmegaConf.to_container(OmegaConf.create((ROOT / file).read_text(encoding="utf-8")))
        eps = values["eps"]
        assert not isinstance(eps, float), f"{file}: write eps as ${{frac:1,10}}, not {eps}"

"""Discovery beside distributions of third parties, good and bad."""

import json
from pathlib import Path

import pytest

from benchmark import __version__, registry
from benchmark.errors import PluginError
from tests.conftest import Runner

LOAD = """
import json, sys
from benchmark import registry
from benchmark.errors import PluginError
said = {}
for name in sys.argv[1:]:
    try:
        said[name] = registry.load("attack", name).__name__
    except PluginError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def test_a_good_plugin_loads_and_each_bad_one_is_refused_by_name(third_parties: Path, run_python: Runner) -> None:
    names = ["acme_signs", "broken", "misspelt", "pgd", "future", "other_api", "fgsm"]
    done = run_python("-c", LOAD, *names, beside=third_parties)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    module = third_parties / "misspelt_plugin.py"
    assert said == {
        "acme_signs": "AcmeSigns",
        "fgsm": "FGSM",
        "broken": "plugin 'attack.broken' from broken-plugin 0.1.0 failed to import: No module named "
        "'acme_missing_dependency'. Try: pip install acme_missing_dependency",
        "misspelt": "plugin 'attack.misspelt' from misspelt-plugin 0.2.0 registers wrongly: unknown hook "
        f"'benchmark_componnt' in plugin <module 'misspelt_plugin' from '{module}'>; a plugin module ends with "
        "@hookimpl def benchmark_component()",
        "pgd": f"plugin 'attack.pgd' is declared by adversarial-benchmark {__version__} "
        "(benchmark_plugins.attacks.pgd) and duplicate-plugin 1.0.0 (duplicate_plugin); a name must have a single "
        "owner: uninstall one of them, or ask its author to rename it",
        "future": "plugin 'attack.future' from future-plugin 9.0.0 needs adversarial-benchmark>=99, but "
        f"{__version__} is installed; install compatible versions of the two",
        "other_api": "plugin 'attack.other_api' from other-api-plugin 0.9.0 was written for version 99 of the plugin "
        "contracts, but this harness has version 1; install a release of other-api-plugin made for it",
    }


def test_a_plugin_that_changes_the_default_type_is_named_and_the_others_are_unharmed(
    tmp_path: Path, run_python: Runner
) -> None:
    info = tmp_path / "wide-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wide\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.wide = wide_plugin\n")
    (tmp_path / "wide_plugin.py").write_text(
        "import torch\nfrom benchmark import hookimpl\nfrom benchmark_plugins.attacks.fgsm import FGSM\n"
        "torch.set_default_dtype(torch.float64)\n\n\n@hookimpl\ndef benchmark_component():\n    return FGSM\n"
    )
    check = f"{LOAD}\nimport torch\nprint(torch.get_default_dtype())"
    done = run_python("-c", check, "wide", "fgsm", "wide", beside=tmp_path)
    said, dtype = done.stdout.splitlines()
    assert json.loads(said)["fgsm"] == "FGSM"
    assert json.loads(said)["wide"].startswith(
        "plugin 'attack.wide' from wide 1.0 changed process state that other plugins share: default dtype (from "
        "torch.float32 to torch.float64)"
    )
    assert dtype == "torch.float32"


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    count = len(registry.names("attack"))
    with pytest.raises(PluginError) as caught:
        registry.find("attack", "pdg")
    assert str(caught.value).startswith(
        f"no plugin named 'attack.pdg'; {count} of kind attack are installed. Did you mean"
    )
    assert "attack.pgd" in str(caught.value)


def test_names_need_no_import(run_python: Runner) -> None:
    code = "import sys; from benchmark import registry; registry.names('attack'); print('torch' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


def test_settings_are_plain_data_with_names_of_inner_plugins() -> None:
    from benchmark.testing import contract

    training = contract.build("defense", "adversarial_training")
    settings = registry.settings(training)
    assert settings["attack"]["name"] == "pgd"
    assert json.loads(json.dumps(settings)) == settings
    assert registry.name_of(training) == ("defense", "adversarial_training")

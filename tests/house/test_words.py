"""One name per quantity, methods without side effects, honest file names, nothing of one machine."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.checkout import ROOT, files, python_files, tree

METHODS = [f for f in python_files("plugins") if f.parts[1] not in ("trackers",) and f.name != "__init__.py"]

SYNONYMS = {
    "steps": "n_iter niter num_iter nb_iter iters iterations n_iterations num_iterations max_iter max_iterations "
    "max_steps n_steps num_steps nb_steps",
    "eps": "epsilon epsilons eps_max max_eps max_norm budget_eps",
    "step_size": "stepsize eps_step eps_iter step_length",
    "restarts": "n_restarts num_restarts nb_restarts random_restarts num_random_init",
}
IN_ATTACKS = {
    "step_size": "alpha lr",
    "x": "image images imgs inputs samples",
    "y": "label",
    "x_adv": "adv adv_x advs x_adversarial",
}


def spelling(words: dict[str, str]) -> dict[str, str]:
    """From each wrong word to the right one."""
    return {wrong: right for right, line in words.items() for wrong in line.split()}


def synonyms(module: ast.Module, *, attack: bool = False) -> list[str]:
    """Fields of classes and parameters of functions whose name is not the one of the house."""
    names = [n.target.id for n in ast.walk(module) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            names += [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
    wrong = {**spelling(SYNONYMS), **(spelling(IN_ATTACKS) if attack else {})}
    return [f"{name}: write {wrong[name]}" for name in names if name in wrong]


@pytest.mark.parametrize("file", METHODS, ids=str)
def test_a_quantity_has_one_name(file: Path) -> None:
    found = synonyms(tree(file), attack=file.parts[1] == "attacks")
    if file.name == "pyautoattack.py":  # gives the settings of a toolkit, which has words of its own
        found = [word for word in found if word.partition(":")[0] not in ("n_iter", "n_restarts")]
    assert not found, f"{file}: {'; '.join(found)}"


def test_synonyms_are_seen() -> None:
    source = "class A:\n    n_iter: int = 3\n    alpha: float = 1.0\ndef f(x, *, epsilon): ...\n"
    assert synonyms(ast.parse(source), attack=True) == [
        "n_iter: write steps",
        "alpha: write step_size",
        "epsilon: write eps",
    ]
    assert synonyms(ast.parse("class A:\n    steps: int = 3\n    eps: float = 0.1\n")) == []


# --- side effects ---

GLOBAL_RANDOM = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "normal",
    "bernoulli",
    "multinomial",
}
IN_PLACE_RANDOM = {"uniform_", "normal_", "random_", "bernoulli_", "exponential_"}
FORBIDDEN = {
    "print": "prints",
    "input": "reads from the terminal",
    "open": "opens a file",
    "torch.manual_seed": "seeds globally",
    "torch.seed": "seeds globally",
    "torch.cuda.set_device": "chooses a device",
    "torch.set_default_dtype": "changes a global setting",
    "torch.set_num_threads": "changes a global setting",
}
FILE_METHODS = {"write_text", "write_bytes", "read_text", "read_bytes", "mkdir", "unlink"}


def side_effects(module: ast.Module) -> list[str]:
    """Side effects that a method must not have: print, files, logs, global randomness, a choice of device."""
    found = []
    for node in ast.walk(module):
        for name in _imports(node):
            if name in ("logging", "random", "warnings", "wandb", "matplotlib", "tqdm"):
                found.append(f"line {getattr(node, 'lineno', 0)}: imports {name}")
        if isinstance(node, ast.Call):
            found += _call(node)
    return found


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [(node.module or "").partition(".")[0]] if isinstance(node, ast.ImportFrom) and not node.level else []


def _call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    line = f"line {node.lineno}:"
    if name in FORBIDDEN:
        return [f"{line} {name} {FORBIDDEN[name]}"]
    seeded = any(k.arg == "generator" for k in node.keywords)
    last = name.rpartition(".")[2]
    if (name in {f"torch.{r}" for r in GLOBAL_RANDOM} or last in IN_PLACE_RANDOM) and not seeded:
        return [f"{line} {name} draws from the global generator"]
    if name.startswith(("np.random.", "numpy.random.")) and last not in ("default_rng", "Generator"):
        return [f"{line} {name} draws from the global generator"]
    if last == "cuda" and isinstance(node.func, ast.Attribute):
        return [f"{line} {name} chooses a device"]
    if last in FILE_METHODS:
        return [f"{line} {name} touches a file"]
    return []


ALLOWED = {
    "plugins/models/onnx.py": "reads the file that it is named for",
    "plugins/models/_mtcnn.py": "reads the published weights, from their files or their wheel",
    "plugins/models/_zoo.py": "reads the folder of a zoo's model",
    "plugins/models/torch_hub.py": "names the repository by the content of its hubconf.py",
    "plugins/models/_http.py": "reads an endpoint's token from the environment, and waits for its turn",
    "plugins/models/sklearn.py": "silences the warnings of a conversion",
    "plugins/_toolkit.py": "silences the warnings of a toolkit",
    "plugins/attacks/_toolkits/facade.py": "seeds the global generators that toolkits draw from, and restores them",
    "plugins/models/checkpoint.py": "reads the weights that it is named for",
    "plugins/models/file.py": "names the user's code by its content",
    "plugins/models/_code.py": "reads the user's code",
    "plugins/models/_weights.py": "reads the user's weights",
    "plugins/certifiers/_graph/exchange.py": "writes the files that an outside verifier reads",
}


@pytest.mark.parametrize("file", [f for f in METHODS if f.parts[1] != "datasets"], ids=str)
def test_a_method_has_no_side_effects(file: Path) -> None:
    found = side_effects(tree(file))
    if file.parts[1] == "models":  # initial weights come from torch's generator, which the core has seeded
        found = [f for f in found if "global generator" not in f]
    assert not found or file.as_posix() in ALLOWED, f"{file}: {'; '.join(found)}"


@pytest.mark.parametrize("file", [f for f in METHODS if f.parts[1] == "datasets"], ids=str)
def test_a_dataset_reads_files_and_does_nothing_else(file: Path) -> None:
    kept = [f for f in side_effects(tree(file)) if not re.search(r"file|imports random", f)]
    assert not kept, f"{file}: {'; '.join(kept)}"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("print(x)", "prints"),
        ("torch.manual_seed(0)", "seeds globally"),
        ("import logging", "imports logging"),
        ("torch.rand(3)", "draws from the global generator"),
        ("np.random.rand(3)", "draws from the global generator"),
        ("x.uniform_(0, 1)", "draws from the global generator"),
        ("model.cuda()", "chooses a device"),
        ("Path('a').write_text('b')", "touches a file"),
        ("open('a')", "opens a file"),
    ],
)
def test_side_effects_are_seen(source: str, sentence: str) -> None:
    (found,) = side_effects(ast.parse(source))
    assert sentence in found
    assert side_effects(ast.parse("torch.randperm(3, generator=g)")) == []


# --- names of files, and what they say ---


def test_no_file_is_called_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "core", "base", "tools"}
    found = [f for f in files() if f.suffix == ".py" and f.parts[0] != "tests" and {f.stem, *f.parts[1:-1]} & vague]
    assert not found, f"{found}: say what is in them"


def test_plugins_are_small_files() -> None:
    long = [f for f in python_files("plugins") if len((ROOT / f).read_text().splitlines()) > 300]
    assert not long, f"{long}: one method, one file; what a family shares goes into _name.py"


OF_ONE_MACHINE = re.compile(
    r"(?<![\w>)}.$*/-])/(?:work|root|home/\w+|tmp/\w|opt/wheels|opt/pypi)/|\.\./shared|[.]library/"
    r"|\b(?:DESIGN|STYLE|FACTS|METHODS|BOARDS|SPEED|BRIEF)\.md\b"
)


@pytest.mark.parametrize(
    ("text", "caught"),
    [("see ../" + "shared/x", True), ("at /wo" + "rk/main", True), ("results/work/<key>/", False), ("a/root/b", False)],
)
def test_paths_of_a_machine_are_seen(text: str, caught: bool) -> None:
    assert bool(OF_ONE_MACHINE.search(text)) is caught


def test_nothing_of_one_machine_is_in_the_files() -> None:
    found = []
    for file in files():
        if file.suffix in (".png", ".safetensors", ".npz", ".gz") or file.parts[0] == ".git":
            continue
        text = (ROOT / file).read_text(encoding="utf-8", errors="replace")
        found += [f"{file}: {match.group()}" for match in OF_ONE_MACHINE.finditer(text)]
    assert not found, found


# --- docstrings and terms ---

RIDDLES = {"What", "Which", "How", "Where", "Whether", "Those", "That", "Who", "When", "Why"}


def riddles(module: ast.Module) -> list[str]:
    """First lines of docstrings that are neither an imperative nor a noun phrase."""
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    lines = [
        (ast.get_docstring(node) or "").partition("\n")[0] for node in ast.walk(module) if isinstance(node, documented)
    ]
    return [line for line in lines if line.partition(" ")[0].rstrip(",:") in RIDDLES]


@pytest.mark.parametrize("folder", ["benchmark", "plugins", "leaderboard", "docs", "benchmarks"])
def test_a_docstring_begins_with_an_imperative_or_a_noun_phrase(folder: str) -> None:
    found = [f"{file}: {line}" for file in python_files(folder) for line in riddles(tree(file))]
    assert not found, "say it as the field does, verb or noun first:\n" + "\n".join(found)


def test_riddles_are_seen() -> None:
    assert riddles(ast.parse('"""How far it is."""\ndef f():\n    """Distance, (B,)."""\n')) == ["How far it is."]


TERMS = {
    "hyperplane": "hyper plane",
    "nearest_class": "look_round nearest_klass",
    "is_follower": "follows_leader",
    "attacker_view": "seen_system",
    "call_guarded": "watched_call",
    "with_fixed_region": "settled_threat",
    "check_at_least": "at_least",
    "check_positive": "positive",
    "check_share": "patient",
}
"""Names in the code: the term of the house, and the synonyms that it has or had."""


def test_a_term_has_one_name() -> None:
    wrong = spelling(TERMS)
    found = []
    for file in python_files("benchmark", "plugins", "leaderboard"):
        for node in tree(file).body:  # what a module offers; a method may have a shorter name
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in wrong:
                found.append(f"{file}: {node.name}: write {wrong[node.name]}")
    assert not found, found


SHARED = {"main", "RULES"}
"""Names that modules have by convention: an entry point, and the rules of a kind."""


def top_level(module: ast.Module) -> list[str]:
    """The public names that a module defines."""
    names = []
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.append(node.targets[0].id)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("folder", ["benchmark", "leaderboard"])
def test_a_public_name_is_defined_once(folder: str) -> None:
    homes: dict[str, list[str]] = {}
    for file in python_files(folder):
        rules = file.stem.startswith("rules_")  # a rule is named as a sentence, the same for every kind that has it
        for name in top_level(tree(file)):
            if name not in SHARED and not rules:
                homes.setdefault(name, []).append(str(file))
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert not twice, f"one noun, one thing: {twice}"

"""The rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache

from tests.house.sources import PACKAGE, ROOT, modules, room

import bloomery
from bloomery.core.config import Config

FOR_EXTRAS = {("bloomery.evals.harness", "lm_eval")}  # classes of a library that may not be there


def import_all() -> None:
    for module in pkgutil.walk_packages(bloomery.__path__, "bloomery."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (module.name, error.name) not in FOR_EXTRAS:
                raise


@cache
def all_configs() -> list[type[Config]]:
    import_all()

    def below(cls: type[Config]) -> list[type[Config]]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return sorted({c for c in below(Config) if c.__module__.startswith("bloomery.")}, key=lambda c: c.__qualname__)


def calls(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def offending(found: Callable[[str, ast.Module], Iterable[str]], outside: Collection[str] = ()) -> list[str]:
    """`path: what` of all that is found in modules, but for those of some rooms."""
    return [f"{path}: {one}" for path, tree in modules().items() if room(path) not in outside for one in found(path, tree)]


def text_of(path: str) -> str:
    return (PACKAGE / path).read_text()


def test_every_module_says_what_it_is():
    assert not [path for path, tree in modules().items() if path != "__main__.py" and not ast.get_docstring(tree)], "no docstring"


def test_every_public_class_and_function_has_a_docstring():
    def undescribed(node: ast.AST, inherits: bool = False, where: str = "") -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
                continue
            is_class = isinstance(child, ast.ClassDef)
            told_above = inherits and not is_class  # a method of a subclass may keep the words of its contract
            if not ast.get_docstring(child) and not told_above:
                yield where + child.name
            if is_class:
                yield from undescribed(child, bool(child.bases) or bool(child.decorator_list), f"{where}{child.name}.")

    assert not offending(lambda _, tree: undescribed(tree)), "no docstring"


def test_no_file_holds_more_than_two_ideas():
    long = [path for path in modules() if len(text_of(path).splitlines()) > 500]
    assert not long, "past 500 lines: which two ideas live there?"


def test_nothing_executes_code_from_data():
    def executes(name: str, call: ast.Call) -> bool:
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        return (
            name.split(".")[0] in ("pickle", "dill", "cloudpickle", "marshal", "shelve")
            or name in ("eval", "exec", "import_module", "importlib.import_module", "__import__")
            or (name == "torch.load" and keywords.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False")
            or "trust_remote_code" in keywords
        )

    assert not offending(lambda _, tree: (ast.unparse(call) for name, call in calls(tree) if executes(name, call)))


def test_the_environment_is_read_at_the_edge_only():
    words = re.compile(r"os\.environ|os\.getenv")
    assert not offending(lambda path, _: words.findall(text_of(path)), outside=("cli", "mesh"))


def test_no_mutable_state_at_module_level():
    def kept(_: str, tree: ast.Module) -> Iterator[str]:
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            mutable = isinstance(getattr(node, "value", None), ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
            for name in map(ast.unparse, targets):
                if mutable and not name.lstrip("_").isupper() and name != "__all__":
                    yield name
        yield from ("global" for node in ast.walk(tree) if isinstance(node, ast.Global))

    assert not offending(kept)


FOREIGN_WORDS = re.compile(
    r"\b(hidden_size|n_embd|intermediate_size|num_hidden_layers|num_attention_heads|num_layers|num_heads|seqlen|block_size)\b"
)


def test_other_projects_words_stay_in_the_name_maps():
    found = offending(lambda path, _: FOREIGN_WORDS.findall(text_of(path)), outside=("models",))
    assert not found, "see the table of words in docs/design.md"


def test_every_field_is_described():
    blank = [f"{config.__name__}.{name}" for config in all_configs() for name, field in config.model_fields.items() if not field.description]
    assert not blank, "no docstring under them"


def test_every_field_is_read_somewhere():
    attributes = {node.attr for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    unread = [f"{config.__name__}.{name}" for config in all_configs() for name in config.model_fields if name not in attributes]
    assert not unread, f"flags that nothing reads: {unread}"


def test_kinds_are_unique():
    kinds = [config.kind() for config in all_configs()]
    assert len(kinds) == len(set(kinds)), "two configs of one kind would share keys"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; import bloomery.cli.main as m; m.cli(['--help'], standalone_mode=False); "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    heavy = {"torch", "numpy", "pyarrow", "pydantic", "tokenizers", "transformers", "rich", "tensorboard", "matplotlib"} & set(loaded)
    assert not heavy, f"--help imports {sorted(heavy)}"
    assert len(loaded) < 400, f"--help imports {len(loaded)} modules"


def test_models_are_imported_without_torchs_compiler():
    code = "import sys; import bloomery.stages.train; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "something calls torch.compiler at import, which takes a second"


def test_every_room_stands_on_a_floor_and_is_described():
    layers = re.findall(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[0]
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert rooms == set(re.findall(r"[a-z_]+", layers))
    design = (ROOT / "docs" / "design.md").read_text()
    assert all(re.search(rf"^\s*(\d )?\s*{name}/", design, re.MULTILINE) for name in rooms), "docs/design.md does not show every room"


def test_the_product_makes_sense_alone():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in files:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".sh", ".lock", "") and path.is_file() and name != "tests/house/test_house.py":
            text = path.read_text(errors="ignore")
            for phrase in ("../shared", "/work/", "find-links = ", "index-url", "pypi.org", "/opt/wheels"):
                assert phrase not in text, f"{name} mentions {phrase}"

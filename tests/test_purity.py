"""The core is pure: the source of effects/ and fsm/ contains nothing by which a decision could depend on more than its inputs.

Method: the syntax tree of every file is walked, and each construct below is a breach. A check that finds nothing proves little,
so every kind of breach is planted in a snippet and has to be found, and every lawful neighbour of one has to pass.

========================  =========================================================================================
breach                    why
========================  =========================================================================================
import not on the list    clocks, randomness, files, sockets, logging, threads come in by import
import against the layers effects <- fsm <- adapters
open, print, input ...    input and output, or code that cannot be read here
id, hash                  differ between processes
a set, unless on the      its order differs between processes; ``x in {A, B}`` is no iteration
right of ``in``
global, and writing to    hidden state: the same call would answer differently later
what a module has
float, ``/``              rounds
========================  =========================================================================================

One file may do more: fsm/codec.py generates functions, so it executes source, and names parts of it by ``id``.
"""

import ast
import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import haltcore.effects
import pytest

ROOT = Path(haltcore.effects.__file__).parent.parent
FILES = sorted(path for package in ("effects", "fsm") for path in (ROOT / package).rglob("*.py"))
PURE_MODULES = (
    "attr", "attrs", "bisect", "collections", "decimal", "enum", "functools", "hashlib", "heapq", "hmac", "immutables", "itertools",
    "msgspec", "operator", "re", "string", "struct", "types", "typing",
)
#: Of these packages of our own, each may import those on the right.
LAYERS = {"effects": ("effects",), "fsm": ("effects", "fsm")}
BANNED = ("open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint", "globals", "locals", "id", "hash", "float")
EXEMPT = {"fsm/codec.py": ("exec", "compile", "eval", "id")}
#: Of the module io, which also opens files.
IN_MEMORY = ("BytesIO", "StringIO")
MUTATORS = (
    "add", "append", "clear", "discard", "extend", "extendleft", "appendleft", "insert", "pop", "popitem", "popleft", "remove", "reverse",
    "setdefault", "sort", "update",
)


def breaches(source: str, where: str) -> list[str]:
    """Every breach in the source of one file, ``where`` being such as ``fsm/core.py``, as ``line: what``."""
    tree = ast.parse(source)
    owned = _names_of_module(tree)
    lawful_sets = _right_of_in(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        found += [(getattr(node, "lineno", 0), what) for what in _node_breaches(node, where, lawful_sets)]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found += _writes(node, owned)
    return [f"{line}: {what}" for line, what in sorted(dict.fromkeys(found))]


def _node_breaches(node: ast.AST, where: str, lawful_sets: list[ast.AST]) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _import_breaches(node, where.split("/")[0])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in BANNED:
        if node.id not in EXEMPT.get(where, ()):
            yield f"uses {node.id}"
    elif isinstance(node, ast.Global):
        yield "global statement"
    elif isinstance(node, (ast.Set, ast.SetComp)) or (isinstance(node, ast.Name) and node.id in ("set", "frozenset")):
        if not any(node is lawful for lawful in lawful_sets):
            yield "set that is not just the right side of in"
    elif isinstance(node, ast.Constant) and isinstance(node.value, (float, complex)):
        yield "float"
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.Div):
        yield "division that rounds"
    elif isinstance(node, (ast.AsyncFunctionDef, ast.Await)) and where != "effects/performer.py":
        yield "async"


def _import_breaches(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif node.level == 0:
        in_memory = node.module == "io" and all(alias.name in IN_MEMORY for alias in node.names)
        names = [] if in_memory else [node.module or ""]
    elif node.level == 1:
        names = [f"haltcore.{package}.{node.module or ''}"]
    else:
        names = [f"haltcore.{node.module}"] if node.module else [f"haltcore.{alias.name}" for alias in node.names]
    for name in names:
        parts = name.split(".")
        if parts[0] == "haltcore":
            if len(parts) < 2 or parts[1] not in LAYERS[package]:
                yield f"{package} imports {name}"
        elif parts[0] not in PURE_MODULES:
            yield f"imports {name}"


def _right_of_in(tree: ast.AST) -> list[ast.AST]:
    """The sets, and the names set and frozenset of calls that make one, which stand on the right of ``in`` or ``not in``."""
    lawful: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for operator, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, (ast.In, ast.NotIn)):
                    lawful.append(right.func if isinstance(right, ast.Call) else right)
    return lawful


def _names_of_module(tree: ast.Module) -> dict[str, None]:
    """What the module binds at its top level."""
    names: dict[str, None] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names[statement.name] = None
        else:
            names |= {node.id: None for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def _writes(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, owned: dict[str, None]) -> Iterator[tuple[int, str]]:
    """Assignments to parts of what the module owns, and calls that change it, in the function."""
    local = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    for node in ast.walk(function):
        target: ast.AST | None = None
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            target = node.func.value
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            target = target.value
        if isinstance(target, ast.Name) and target.id in owned and target.id not in local:
            yield getattr(node, "lineno", 0), f"writes to {target.id} of the module"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_pure(path: Path) -> None:
    found = breaches(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    assert found == [], f"{path.name}: a decision may depend on its inputs only"


def test_the_walk_sees_the_files() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in FILES]
    assert {"effects/values.py", "effects/vocabulary.py", "fsm/events.py", "fsm/outcomes.py"} <= set(names)


PLANTED = [
    *[(f"import {name}", f"imports {name}") for name in ("time", "random", "os.path", "logging", "asyncio", "threading", "datetime")],
    ("import io", "imports io"),
    ("from io import BytesIO, FileIO", "imports io"),
    ("from time import time_ns", "imports time"),
    ("def f():\n    import secrets", "imports secrets"),
    ("import dataclasses", "imports dataclasses"),
    ("from pathlib import Path", "imports pathlib"),
    ("import redis", "imports redis"),
    ("from ..adapters import runner", "fsm imports haltcore.adapters"),
    ("from ..adapters.runner import Runner", "fsm imports haltcore.adapters.runner"),
    ("from .. import adapters", "fsm imports haltcore.adapters"),
    ("import haltcore.adapters.runner", "fsm imports haltcore.adapters.runner"),
    ("from haltcore.adapters import runner", "fsm imports haltcore.adapters"),
    ("import haltcore", "fsm imports haltcore"),
    *[(f"x = {name}('1')", f"uses {name}") for name in BANNED],
    ("x = sorted(y, key=id)", "uses id"),
    ("def f():\n    global x\n    x = 1", "global statement"),
    ("x = {1, 2}", "set that is not just the right side of in"),
    ("x = {a for a in y}", "set that is not just the right side of in"),
    ("for a in set(y): pass", "set that is not just the right side of in"),
    ("x = tuple(frozenset(y))", "set that is not just the right side of in"),
    ("for a in {1, 2}: pass", "set that is not just the right side of in"),
    ("x = list(map(set, y))", "set that is not just the right side of in"),
    ("x = {1, 2} in y", "set that is not just the right side of in"),
    ("x = 0.5", "float"),
    ("x = 1j", "float"),
    ("x = y / 2", "division that rounds"),
    ("x /= 2", "division that rounds"),
    ("M = {}\ndef f(k):\n    M[k] = 1", "writes to M of the module"),
    ("M = {}\ndef f(k):\n    del M[k]", "writes to M of the module"),
    ("M = []\ndef f(k):\n    M.append(k)", "writes to M of the module"),
    ("M: dict = {}\ndef f(k):\n    M[k].x.update(a=1)", "writes to M of the module"),
    ("M = []\nf = lambda k: M.append(k)", "writes to M of the module"),
    ("class C: n = 0\ndef f():\n    C.n += 1", "writes to C of the module"),
    ("async def f(): pass", "async"),
]


@pytest.mark.parametrize(("source", "breach"), PLANTED)
def test_a_planted_breach_is_found(source: str, breach: str) -> None:
    assert [text.split(": ", 1)[1] for text in breaches(source, "fsm/planted.py")] == [breach]


def test_the_layer_below_may_not_look_up() -> None:
    assert breaches("from ..fsm.events import Event", "effects/planted.py") == ["1: effects imports haltcore.fsm.events"]
    assert breaches("from ..fsm import events\nfrom ..adapters import x", "effects/planted.py") != []


@pytest.mark.parametrize(
    "source",
    [
        "import re\nfrom collections.abc import Sequence\nfrom hashlib import sha256\nimport msgspec.json\nfrom attrs import frozen",
        "from ..effects import Qty\nfrom . import config\nfrom .config import Config\nfrom ..effects.values import qty",
        "from io import BytesIO",
        "x = y in {1, 2}",
        "x = y not in frozenset((1, 2))",
        "x = y // 2\nz = a.id\nw = f(id=1)\nclass C:\n    id: int\n    hash: str",
        "def f(k):\n    m = {}\n    m[k] = 1\n    return m",
        "M = {}\ndef f(M, k):\n    M[k] = 1",
        "M = {}\nM['a'] = 1",
    ],
)
def test_its_lawful_neighbour_passes(source: str) -> None:
    assert breaches(source, "fsm/planted.py") == []


def test_only_the_codec_generates_code() -> None:
    assert breaches("exec(compile(s, n, m), g)\neval(s, {f'out_{id(x)}': x})", "fsm/codec.py") == []
    assert breaches("exec(compile(s, n, m), g)", "fsm/core.py") == ["1: uses compile", "1: uses exec"]


def test_every_banned_name_is_a_builtin() -> None:
    assert [name for name in BANNED if not hasattr(builtins, name)] == []


LOADED = """
import importlib, pkgutil, sys
before = list(sys.modules)
import haltcore.fsm
for module in pkgutil.walk_packages(haltcore.fsm.__path__, "haltcore.fsm."):
    importlib.import_module(module.name)
print(*dict.fromkeys(name.partition(".")[0] for name in sys.modules if name not in before and name.partition(".")[0] not in before))
"""


def test_the_core_loads_nothing_but_its_three_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "haltcore" in loaded
    # msgspec imports typing_extensions where it finds it, and does without where it does not.
    allowed = ("haltcore", "attr", "attrs", "immutables", "msgspec", "typing_extensions")
    assert [name for name in loaded if name not in allowed and name not in sys.stdlib_module_names] == []

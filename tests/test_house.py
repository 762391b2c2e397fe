"""The house's own rules, which no linter knows: each is kept by every module, and each is seen to break."""

import ast
import gc
import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
KINDS = sorted(path.stem for path in (ROOT / "app/providers").glob("[!_]*.py"))

# A kind that is an English word too may be used as one in prose.
ENGLISH = {"generic"}
CATCHES_ALL = {
    "app/wire.py": "whatever went wrong, it says whether anything was sent",
    "app/worker.py": "the clock goes on, whatever one turn of it met",
}
DOMAIN_MAY_IMPORT = {*sys.stdlib_module_names, "app", "iso4217", "typeid"}
MOST_LINES_IN_A_FILE = 400
MOST_LINES_IN_A_FUNCTION = 60


def parsed(text: str) -> ast.Module:
    """Nothing is collected meanwhile: what is then told of a lost task parses too, within, which CPython 3.11 can't."""
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()


@dataclass(frozen=True)
class Source:
    """A module as text; `path` is relative to the root."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return parsed(self.text)

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    def tokens(self) -> Iterator[tokenize.TokenInfo]:
        return tokenize.generate_tokens(io.StringIO(self.text).readline)

    def within(self, *folders: str) -> bool:
        return self.path.startswith(tuple(f"app/{folder}/" for folder in folders))


def imports_inside_functions(source: Source) -> Iterator[int]:
    for function in source.functions:
        yield from (node.lineno for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))


def foreign_imports_of_the_domain(source: Source) -> Iterator[int]:
    if not source.within("domain"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and imported(node) - DOMAIN_MAY_IMPORT:
            yield node.lineno


def imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.partition(".")[0] for name in names}


def provider_names(source: Source) -> Iterator[int]:
    if not source.within("providers", "simulators"):
        yield from (token.start[0] for token in source.tokens() if names_a_provider(token))


def names_a_provider(token: tokenize.TokenInfo) -> bool:
    if token.type == tokenize.NAME:
        return not hasattr(typing, token.string) and any(kind in squeezed(token.string) for kind in KINDS)
    if token.type != tokenize.COMMENT and not tokenize.tok_name[token.type].endswith(("STRING", "STRING_MIDDLE")):
        return False
    if token.type == tokenize.COMMENT or re.search(r"\s", token.string):
        return any(re.search(rf"\b{name}\b", token.string, re.IGNORECASE) for name in {*KINDS, *hosts()} - ENGLISH)
    return any(name in token.string.lower() for name in {*KINDS, *hosts()})


def squeezed(identifier: str) -> str:
    return identifier.replace("_", "").lower()


def hosts() -> set[str]:
    """Where the providers live, by the addresses written in their own files."""
    texts = [path.read_text() for path in (ROOT / "app/providers").glob("[!_]*.py")]
    return {host for text in texts for host in re.findall(r'"https://([a-z.-]+)', text)}


def floats_near_money(source: Source) -> Iterator[int]:
    if not source.within("domain", "providers"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "float":
            yield node.lineno
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno


def missing_sentences(source: Source) -> Iterator[int]:
    """A module opens with one sentence that says why it exists; more may follow after an empty line."""
    if not source.tree.body:
        return
    opening = re.split(r"\n\s*\n", ast.get_docstring(source.tree) or "")[0]
    if not opening.endswith(".") or re.search(r"[.!?]\s+[A-Z]", opening):
        yield 1


def leftovers(source: Source) -> Iterator[int]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield number


def swallowed_errors(source: Source) -> Iterator[int]:
    if source.path in CATCHES_ALL:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and catches_all(node.type) and not raises_again(node):
            yield node.lineno
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield from (node.lineno for caught in node.args if catches_all(caught))


def catches_all(caught: ast.expr | None) -> bool:
    return caught is None or any(
        isinstance(node, ast.Name) and node.id in {"Exception", "BaseException"} for node in ast.walk(caught)
    )


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def long_files(source: Source) -> Iterator[int]:
    if (lines := len(source.text.splitlines())) > MOST_LINES_IN_A_FILE:
        yield lines


def long_functions(source: Source) -> Iterator[int]:
    for function in source.functions:
        if (function.end_lineno or 0) - function.lineno >= MOST_LINES_IN_A_FUNCTION:
            yield function.lineno


@dataclass(frozen=True)
class Rule:
    """`find` gives the lines that break the rule; `breaks` and `keeps` are modules that do."""

    find: Callable[[Source], Iterator[int]]
    breaks: list[str]
    keeps: list[str]
    at: str = "app/service/sample.py"


KIND = next((kind for kind in KINDS if kind not in ENGLISH), "")

RULES = {
    "no import inside a function": Rule(
        imports_inside_functions,
        breaks=["def f():\n    import os", "async def f():\n    if f:\n        from os import path"],
        keeps=["import os\ndef f():\n    return os"],
    ),
    "the domain imports next to nothing": Rule(
        foreign_imports_of_the_domain,
        at="app/domain/sample.py",
        breaks=["import pydantic", "from sqlalchemy.sql import text"],
        keeps=["import re\nfrom iso4217 import Currency\nfrom app.domain.money import Money"],
    ),
    "no provider is named outside its own rooms": Rule(
        provider_names,
        breaks=[
            f"{KIND} = 1",
            f"{KIND}_key = 1",
            f"def f(x{KIND.upper()}): ...",
            f"x = '{KIND}'",
            f"x = '/{KIND}/api'",
            f"# as {KIND.title()} does",
            f'"""Ask {KIND} for it."""',
            *(f"kind == '{word}'" for word in ENGLISH.intersection(KINDS)),
        ],
        keeps=[
            "import typing\nclass X(typing.Generic[T]): ...",
            *(f"x = 'a {word} thing'" for word in ENGLISH.intersection(KINDS)),
        ],
    ),
    "no float near money": Rule(
        floats_near_money,
        at="app/domain/sample.py",
        breaks=["x = float('1.10')", "x = 1.10", "x: float"],
        keeps=["from decimal import Decimal\nx = Decimal('1.10')"],
    ),
    "a module opens with one sentence": Rule(
        missing_sentences,
        breaks=["x = 1", '"""No end"""', '"""One. And Another."""', '"""One. Two.\n\nThree."""'],
        keeps=["", '"""One."""', '"""One,\ngoing on.\n\nMore. Much more."""'],
    ),
    "nothing is left over": Rule(
        leftovers,
        breaks=["# TODO: later", "x = 'FIXME'", "# XXX"],
        keeps=["todo = 1  # hacksaw"],
    ),
    "nothing is swallowed": Rule(
        swallowed_errors,
        breaks=[
            "try: ...\nexcept: ...",
            "try: ...\nexcept Exception: ...",
            "try: ...\nexcept (OSError, BaseException) as error: raise KeyError from error",
            "with contextlib.suppress(Exception): ...",
        ],
        keeps=["try: ...\nexcept OSError: ...", "try: ...\nexcept BaseException:\n    close()\n    raise"],
    ),
    "a file is one idea": Rule(
        long_files,
        breaks=["x = 1\n" * (MOST_LINES_IN_A_FILE + 1)],
        keeps=["x = 1\n" * MOST_LINES_IN_A_FILE],
    ),
    "a function is a few lines": Rule(
        long_functions,
        breaks=["def f():\n" + "    x = 1\n" * MOST_LINES_IN_A_FUNCTION],
        keeps=["def f():\n" + "    x = 1\n" * (MOST_LINES_IN_A_FUNCTION - 1)],
    ),
}


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    paths = sorted((ROOT / "app").rglob("*.py"))
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


@pytest.mark.parametrize("name", RULES)
def test_every_module_keeps(name: str, sources: list[Source]) -> None:
    broken = [f"{source.path}:{line}" for source in sources for line in RULES[name].find(source)]
    assert not broken


@pytest.mark.parametrize("name", RULES)
def test_a_module_is_seen_to_break(name: str) -> None:
    rule = RULES[name]
    assert [text for text in rule.breaks if not any(rule.find(Source(rule.at, text)))] == []
    assert [text for text in rule.keeps if any(rule.find(Source(rule.at, text)))] == []


def test_there_are_modules_and_providers(sources: list[Source]) -> None:
    assert len(sources) > len(KINDS) > 0


def test_every_provider_has_a_simulator() -> None:
    assert sorted(path.stem for path in (ROOT / "app/simulators").glob("[!_]*.py")) == KINDS


def test_every_provider_has_conversations() -> None:
    assert sorted({path.parent.name for path in (ROOT / "tests/cases").glob("*/*.json")}) == KINDS


def locked(name: str) -> list[str]:
    """The requirements of a lock file, one logical line each."""
    return (ROOT / name).read_text().replace("\\\n", "").splitlines()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_nothing_but_pins_and_hashes(name: str) -> None:
    pin = re.compile(r"[a-z0-9.\[\]-]+==[\w.]+( ; [^:]+)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in locked(name) if not pin.fullmatch(line.rstrip())] == []


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_shipped_is_pinned_as_it_is_tested(name: str) -> None:
    assert set(locked(name)) <= set(locked("requirements-dev.lock"))


PLANTS = [
    ("layers", "app/domain/planted.py", "app.service"),
    ("layers", "app/exchange.py", "app.storage"),
    ("wire", "app/service/planted.py", "app.wire"),
    ("connection", "app/service/planted.py", "app.connection"),
    ("providers-independent", "app/providers/planted.py", f"app.providers.{KIND}"),
    ("providers-pure", "app/providers/planted.py", "time"),
    ("settings", "app/service/planted.py", "app.settings"),
    ("simulators-apart", "app/simulators/planted.py", "app.domain"),
    ("simulators-apart", "app/simulator/planted.py", "app.provider"),
    ("simulators-unused", "app/api/planted.py", "app.simulator"),
    ("simulators-independent", "app/simulators/planted.py", f"app.simulators.{KIND}"),
    ("shop", "app/shop/planted.py", "app.simulator"),
    ("domain", "app/domain/planted.py", "pydantic"),
    ("sqlalchemy", "app/service/planted.py", "sqlalchemy"),
    ("fastapi", "app/service/planted.py", "fastapi"),
    ("httpx", "app/api/planted.py", "httpx"),
]


@pytest.fixture(scope="module")
def contracts() -> dict[str, Any]:
    """The import contracts by id, as pyproject.toml has them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract for contract in pyproject["tool"]["importlinter"]["contracts"]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path, *options: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo", *options]
    done = subprocess.run(
        command, cwd=folder, env={"COLUMNS": "200"}, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout


def test_imports_flow_as_contracted(copy: Path) -> None:
    code, report = lint_imports(copy)
    assert code == 0, report
    assert " 0 broken" in report


@pytest.mark.parametrize(("contract", "path", "imported"), PLANTS)
def test_a_contract_is_seen_to_break(contract: str, path: str, imported: str, copy: Path) -> None:
    with (copy / path).open("a") as module:
        module.write(f"\nimport {imported}\n")

    code, report = lint_imports(copy, "--contract", contract)

    assert code == 1
    assert " 1 broken" in report
    importer = path.removesuffix(".py").replace("/", ".")
    assert re.search(rf"{importer} -> {imported}\b", report), report


def test_a_module_without_a_layer_is_seen(copy: Path) -> None:
    (copy / "app/planted.py").touch()
    code, report = lint_imports(copy, "--contract", "layers")
    assert code == 1
    assert "app.planted" in report


def test_every_contract_is_seen_to_break(contracts: dict[str, Any]) -> None:
    assert contracts.keys() == {contract for contract, _, _ in PLANTS}


def test_every_room_is_a_stranger_to_the_simulators(contracts: dict[str, Any]) -> None:
    rooms = {f"app.{path.stem}" for path in (ROOT / "app").glob("[!_]*") if path.suffix == ".py" or path.is_dir()}
    theirs = set(contracts["simulators-apart"]["source_modules"])
    assert theirs == set(contracts["simulators-unused"]["protected_modules"])
    assert rooms - theirs == set(contracts["simulators-apart"]["forbidden_modules"])

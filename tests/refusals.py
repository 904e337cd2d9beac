"""Every message with which the code refuses, as it stands in the code: what varies is written ``…``."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "factors", "data_quality", "jobs", "dags")
VARIES = "…"
_REFUSALS = {
    *("Refused", "CallError", "LakeError", "ReadFault", "ValueError", "PermissionError", "ArithmeticError"),
    *("AirflowFailException", "AirflowSkipException"),
}
"""Exceptions that end a command, a task or the reading of a file with their message; so do those derived from them."""


@dataclass(frozen=True)
class Refusal:
    """One message that a statement may raise, its place, and the expression it comes from."""

    message: str
    place: str
    expression: str

    @property
    def has_words(self) -> bool:
        """It has words of its own, by which it can be found; else it passes another message on."""
        return bool(self.message.strip(f"{VARIES} :;,.()"))


def refusals() -> Iterator[Refusal]:
    """Every message of every statement that refuses."""
    modules = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((PROJECT / package).rglob("*.py"))
    }
    names = _derived(modules.values())
    for path, module in modules.items():
        texts = _Texts(module)
        for node in ast.walk(module):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[said, *_])) if name in names:
                    for message in texts.of(said):
                        yield Refusal(message, f"{path.relative_to(PROJECT)}: {node.lineno}", ast.unparse(said))


def _derived(modules: Iterable[ast.Module]) -> set[str]:
    names = set(_REFUSALS)
    classes = [node for module in modules for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    for _ in classes:  # as deep as a chain of classes can be
        names |= {c.name for c in classes if any(isinstance(base, ast.Name) and base.id in names for base in c.bases)}
    return names


class _Texts:
    """What expressions of a module come to as text."""

    def __init__(self, module: ast.Module) -> None:
        self.assigned: dict[str, ast.expr] = {}
        self.functions: dict[str, list[ast.expr]] = {}
        for node in ast.walk(module):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self.assigned[node.targets[0].id] = node.value
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = [r.value for r in ast.walk(node) if isinstance(r, ast.Return) and r.value]

    def of(self, expression: ast.expr) -> Iterator[str]:
        """Each text that an expression may come to, a newline as a space."""
        match expression:
            case ast.Constant(value=str(text)):
                yield text.replace("\n", " ")
            case ast.JoinedStr(values=parts):
                for chosen in product(*[list(self.of(part)) for part in parts]):
                    yield "".join(chosen)
            case ast.FormattedValue(value=ast.IfExp() as either):
                yield from self.of(either)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                for first, second in product(self.of(left), self.of(right)):
                    yield first + second
            case ast.IfExp(body=body, orelse=otherwise):
                yield from self.of(body)
                yield from self.of(otherwise)
            case ast.Name(id=name) if name in self.assigned:
                yield from self.of(self.assigned[name])
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                for returned in self.functions[name]:
                    yield from self.of(returned)
            case _:
                yield VARIES

"""The library's reference, from the docstrings of its public names."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import lykke_cli

PAGE = Path("lykke_cli/API.md")
_TESTING = re.compile(r"## In the tests of your application\n(.*)", re.DOTALL)
_INTRODUCTION = """\
# The library

Each name is imported from `lykke_cli` itself, such as `from lykke_cli import AuditLogEntity`.
`docs/library.md` in the repository shows them at work.
A method without a text does what its protocol says.
This page is made from the docstrings by `make api`."""
_GROUPS = {
    "Entries": ("domain.audit_log",),
    "Following": (
        *("bootstrap", "application.following", "application.messages", "application.statuses"),
        "application.consuming",
    ),
    "Writing and reading": ("infrastructure",),
    "The gateways' protocol": ("application.gateways",),
    "Errors": ("errors",),
}
_MADE_BY_FUNCTIONS = {"Following"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> dict[Path, str]:
    """What the page should hold."""
    parts = [_INTRODUCTION]
    left = dict(lykke_cli._HOMES)
    for title, homes in _GROUPS.items():
        parts.append(f"## {title}")
        found = {part: [name for name, home in left.items() if part in home] for part in homes}
        for name in chain.from_iterable(found.values()):
            parts += _section(name, importlib.import_module(f"lykke_cli.{left.pop(name)}"))
    assert not left, f"in no group: {left}"
    testing = _TESTING.search(Path("docs/library.md").read_text("utf-8"))
    assert testing is not None
    parts += ["## In the tests of your application", testing[1].strip()]
    return {PAGE: "\n\n".join(parts) + "\n"}


def _section(name: str, module: ModuleType) -> Iterator[str]:
    tree = ast.parse(inspect.getsource(getattr(module, name))).body[0]
    yield f"### {name}"
    if isinstance(tree, ast.ClassDef):
        yield from _class(name, tree, module)
    elif isinstance(tree, _Function):
        yield f"```python\n{_call(name, tree, module)}\n```"
        yield ast.get_docstring(tree) or ""


def _class(name: str, tree: ast.ClassDef, module: ModuleType) -> Iterator[str]:
    methods = [
        member
        for member in tree.body
        if isinstance(member, _Function)
        and "overload" not in map(ast.unparse, member.decorator_list)
    ]
    yield from (
        f"```python\n{_call(name, method, module)}\n```"
        for method in methods
        if method.name == "__init__" and name not in _MADE_BY_FUNCTIONS
    )
    yield ast.get_docstring(tree) or ""
    bases = [ast.unparse(base) for base in tree.bases]
    yield from (f"A `{base}`." for base in bases if base in lykke_cli.__all__)
    items = list(_fields(tree))
    items += [_method(m, module) for m in methods if not m.name.startswith("_")]
    if items:
        yield "\n".join(items)


def _fields(tree: ast.ClassDef) -> Iterator[str]:
    """The values of an enum, and a dataclass's fields with the text beneath each."""
    for field, following in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if ast.unparse(field).startswith("_"):
            continue
        if isinstance(field, ast.Assign):
            yield f"- `{ast.unparse(field)}`"
        elif isinstance(field, ast.AnnAssign):
            declared = f"{ast.unparse(field.target)}: {ast.unparse(field.annotation)}"
            is_optional = "" if field.value is None else " (optional)"
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = ": " + " ".join(str(following.value.value).split())
            yield f"- `{declared}`{is_optional}{text}"


def _method(method: _Function, module: ModuleType) -> str:
    decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
    called = method.name
    if "property" not in decorators:
        called = f"{method.name}({', '.join(_arguments(method, module))})"
        if method.returns is not None:
            called += f" -> {_type(method.returns)}"
    if isinstance(method, ast.AsyncFunctionDef):
        iterates = any(isinstance(node, ast.Yield) for node in ast.walk(method))
        called = f"async for ... in {called}" if iterates else f"await {called}"
    doc = ast.get_docstring(method)
    return f"- `{called}`" + ("  \n  " + re.sub(r"\n(?!\n)", "\n  ", doc) if doc else "")


def _call(name: str, method: _Function, module: ModuleType) -> str:
    arguments = _arguments(method, module)
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) < 80 else f"{name}(\n    " + ",\n    ".join(arguments) + ",\n)"


def _arguments(method: _Function, module: ModuleType) -> list[str]:
    """Each as it is declared, without self; a default that has a name as its value."""
    arguments = method.args
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(arguments.args, defaults, strict=True)]
    if pairs and pairs[0][0].arg in ("self", "cls"):
        del pairs[0]
    shown = [_argument(argument, default, module) for argument, default in pairs]
    if arguments.kwonlyargs:
        shown.append("*")
    pairs = [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    shown += [_argument(argument, default, module) for argument, default in pairs]
    return shown + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None, module: ModuleType) -> str:
    assert argument.annotation is not None
    text = f"{argument.arg}: {_type(argument.annotation)}"
    if isinstance(default, ast.Name):
        return f"{text} = {getattr(module, default.id)!r}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _type(annotation: ast.expr) -> str:
    """An annotation, without the quotes of one that is resolved later."""
    is_text = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return str(annotation.value) if is_text else ast.unparse(annotation)  # type: ignore[attr-defined]

"""Arithmetic on affines, and what tells RAS from LPS, stands in `medsr.geometry` alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "medsr"
AFFINE = re.compile(r"(^|_)(affine|lps|ras|sform|qform)s?$")  # how variables and attributes that hold one are called
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult)


def holds_affine(node: ast.AST) -> bool:
    """Whether an operand is an affine: a name or attribute, part of one, its transpose, or one as a numpy array."""
    if isinstance(node, ast.Name):
        return bool(AFFINE.search(node.id))
    if isinstance(node, ast.Attribute):
        return bool(AFFINE.search(node.attr)) or (node.attr == "T" and holds_affine(node.value))
    if isinstance(node, ast.Subscript):
        return holds_affine(node.value)
    if isinstance(node, ast.UnaryOp):
        return holds_affine(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("numpy", "clone", "copy", "double", "float", "cpu", "detach"):
            return holds_affine(node.func.value)
        return node.func.attr in ("asarray", "array", "get_sform", "get_qform") and any(map(holds_affine, node.args))
    return False


def takes_part(node: ast.AST) -> bool:
    """Whether an index takes numbers out of an affine: several axes at once, such as `affine[:3, 3]`."""
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and holds_affine(node.value)


def offences(source: str) -> list[int]:
    """Lines that calculate with an affine."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        wrong = takes_part(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ARITHMETIC):
            wrong |= holds_affine(node.left) or holds_affine(node.right)
        if isinstance(node, ast.AugAssign):
            wrong |= holds_affine(node.target)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            linear = node.func.attr in ("det", "inv", "solve", "norm", "svd", "matmul", "dot")
            wrong |= linear and any(map(holds_affine, node.args))
            signs = [ast.unparse(value) for value in node.args[:1]]
            wrong |= node.func.attr == "diag" and bool(signs) and signs[0].replace(".0", "").startswith("[-1, -1, 1")
        if wrong:
            found.add(node.lineno)
    return sorted(found)


@pytest.mark.parametrize(
    "line",
    [
        "x = change @ image.affine",
        "x = affine[:3, :3] / spacing",
        "self.affine[:3] *= 10",
        "x = np.linalg.solve(grid.affine, point)",
        "x = np.asarray(affine).T @ v",
        "x = -affine[0] * 2",
        "RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])",
        "x = lr.affine.numpy() - hr.affine.numpy()",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert offences(line) == [1]


@pytest.mark.parametrize(
    "line", ["x = affines[0]", "x = scaled_affine(affine, scale)", "affine = image.affine.numpy()", "x = a @ b"]
)
def test_the_search_passes(line: str) -> None:
    assert offences(line) == []


def test_only_geometry_calculates_with_affines() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent.name != "geometry"
        for line in offences(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "move it to medsr/geometry/"

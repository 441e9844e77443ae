"""From a tree to a quantity."""

import math

from . import nodes
from .errors import EvaluationError
from .quantity import Quantity
from .units import UNITS


def _least(first, *others):
    for other in others:
        if (other - first).value < 0:
            first = other
    return first


def _greatest(first, *others):
    return -_least(-first, *(-other for other in others))


def _floor(number):
    if any(number.dims):
        raise EvaluationError("floor needs a number without units")
    return Quantity(math.floor(number.value))


FUNCTIONS = {
    "abs": (1, lambda number: -number if number.value < 0 else number),
    "floor": (1, _floor),
    "min": (None, _least),
    "max": (None, _greatest),
}


def evaluate(tree, variables):
    """The value of an expression; ``variables`` maps names to quantities."""
    if isinstance(tree, nodes.Literal):
        return Quantity.of(tree.value, tree.units) if tree.units else Quantity(tree.value)
    if isinstance(tree, nodes.Name):
        return _lookup(tree.name, variables)
    if isinstance(tree, nodes.Negate):
        return -evaluate(tree.operand, variables)
    if isinstance(tree, nodes.Convert):
        return evaluate(tree.operand, variables).to(tree.units)
    if isinstance(tree, nodes.Call):
        return _call(tree, variables)
    left = evaluate(tree.left, variables)
    right = evaluate(tree.right, variables)
    if tree.op == "+":
        return left + right
    if tree.op == "-":
        return left - right
    if tree.op == "*":
        return left * right
    if tree.op == "/":
        return left / right
    return left.power(right)


def _lookup(name, variables):
    if name in variables:
        return variables[name]
    if name not in UNITS:
        raise EvaluationError(f"unknown name {name!r}")
    if UNITS[name].zero:
        raise EvaluationError(f"{name} must stand behind a number")
    return Quantity.of(1, ((name, 1),))


def _call(tree, variables):
    if tree.name not in FUNCTIONS:
        raise EvaluationError(f"unknown function {tree.name!r}")
    arity, function = FUNCTIONS[tree.name]
    given = len(tree.arguments)
    if given == 0 or arity not in (None, given):
        raise EvaluationError(f"{tree.name} cannot take {given} arguments")
    return function(*(evaluate(a, variables) for a in tree.arguments))

"""From nodes and values to a text."""

from . import nodes
from .errors import TemplateError
from .expressions import evaluate
from .filters import shown


def render(body, scope, out):
    """Append the texts of a body's nodes to ``out``. ``set`` changes ``scope``."""
    for node in body:
        _render(node, scope, out)


def _render(node, scope, out):
    if isinstance(node, nodes.Text):
        out.append(node.text)
    elif isinstance(node, nodes.Show):
        out.append(shown(evaluate(node.expression, scope)))
    elif isinstance(node, nodes.Set):
        scope[node.name] = evaluate(node.expression, scope)
    elif isinstance(node, nodes.If):
        for condition, body in node.branches:
            if evaluate(condition, scope):
                render(body, scope, out)
    else:
        items = _items(evaluate(node.expression, scope), node.expression[-1])
        for item in items:
            scope[node.name] = item
            render(node.body, scope, out)


def _items(value, line):
    """What is looped over, as a list; nothing for ``None``."""
    if value is None:
        return []
    try:
        return list(value)
    except TypeError:
        raise TemplateError("%r cannot be looped over" % (value,), line) from None

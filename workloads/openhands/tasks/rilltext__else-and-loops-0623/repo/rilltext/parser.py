"""From tokens to nodes."""

import re

from . import nodes
from .errors import TemplateError
from .expressions import expression
from .lexer import tokens_of

_FOR = re.compile(r"for ([A-Za-z_]\w*) in (.+)")
_SET = re.compile(r"set ([A-Za-z_]\w*) ?= ?(.+)")


class _Parser:
    def __init__(self, source):
        self.tokens = tokens_of(source)
        self.at = 0

    def body(self, ends, begun):
        """Nodes up to a tag of ``ends``, and that tag. ``begun`` is the tag that began the block, if any did."""
        found = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            if token.kind == "text":
                found.append(nodes.Text(token.text))
            elif token.kind == "show":
                found.append(nodes.Show(expression(token.text, token.line)))
            elif token.word in ends:
                return found, token
            else:
                found.append(self.tag(token))
        if begun is not None:
            raise TemplateError("%s without its end" % begun.word, begun.line)
        return found, None

    def tag(self, token):
        if token.word == "if":
            return self.if_block(token)
        if token.word == "for":
            return self.for_block(token)
        if token.word == "set":
            match = _SET.fullmatch(token.text)
            if match is None:
                raise TemplateError("set wants: set NAME = EXPRESSION", token.line)
            return nodes.Set(match.group(1), expression(match.group(2), token.line))
        raise TemplateError("unexpected %s" % (token.word or "empty tag"), token.line)

    def if_block(self, token):
        condition = expression(token.text.partition(" ")[2], token.line)
        body, _end = self.body(("endif",), token)
        return nodes.If([(condition, body)], [])

    def for_block(self, token):
        match = _FOR.fullmatch(token.text)
        if match is None:
            raise TemplateError("for wants: for NAME in EXPRESSION", token.line)
        body, _end = self.body(("endfor",), token)
        return nodes.For(match.group(1), expression(match.group(2), token.line), body, [])


def parse(source):
    """The nodes of a template."""
    return _Parser(source).body((), None)[0]

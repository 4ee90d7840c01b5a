"""``-k``: which cases an expression chooses by their ids.

An expression is a word, a pattern with ``*`` or ``?``, or several of these with ``and``, ``or``, ``not`` and
parentheses, as in pytest. A word chooses the ids that contain it, in upper or lower case; a pattern the ids that
match it as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from ..errors import ArgumentError

Choose = Callable[[str], bool]
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def chooser(expression: str) -> Choose:
    """Whether an id is chosen, as a function; ArgumentError for an expression that cannot be read."""
    tokens = _TOKEN.findall(expression)
    if not tokens:
        raise ArgumentError("-k needs an expression, such as 'exp and float32'")
    rest = [*reversed(tokens)]

    def either() -> Choose:
        left = both()
        while rest and rest[-1] == "or":
            rest.pop()
            left = (lambda a, b: lambda case: a(case) or b(case))(left, both())
        return left

    def both() -> Choose:
        left = one()
        while rest and rest[-1] == "and":
            rest.pop()
            left = (lambda a, b: lambda case: a(case) and b(case))(left, one())
        return left

    def one() -> Choose:
        token = rest.pop() if rest else ""
        if token == "not":
            inner = one()
            return lambda case: not inner(case)
        if token == "(":
            inner = either()
            if not rest or rest.pop() != ")":
                raise ArgumentError(f"-k {expression!r}: a parenthesis is not closed")
            return inner
        if token in ("", ")", "and", "or"):
            raise ArgumentError(
                f"-k {expression!r}: a word is missing {f'before {token!r}' if token else 'at the end'}"
            )
        return matcher(token)

    choose = either()
    if rest:
        raise ArgumentError(f"-k {expression!r}: there is no 'and' or 'or' before {rest[-1]!r}")
    return choose


def matcher(token: str) -> Choose:
    """Whether an id contains a word, or matches a pattern."""
    if "*" in token or "?" in token:
        pattern = token.replace("[", "(")  # a bracket in an id is a bracket
        return lambda case: fnmatchcase(case.replace("[", "("), pattern)
    word = token.lower()
    return lambda case: word in case.lower()

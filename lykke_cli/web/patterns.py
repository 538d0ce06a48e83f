"""Patterns and queries of strangers, which may take no more time than the text has characters.

A regular expression of Python's may take years for a line, and a JMESPath expression may double
what it is about with every few characters: either would stop the process for everybody.
"""

from collections.abc import Callable
from typing import Any

import jmespath
from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST = 500  # characters
MOST_LISTS = 2  # that a query makes, each of them a multiple of what it is about
_LISTS = ("multi_select_list", "multi_select_dict")


def linear_search(pattern: str) -> Callable[[str], bool]:
    """What looks for a regular expression in a text, in linear time; raises ValueError.

    It is the one of Rust: without look-around and references to what was found before.
    """
    schema = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True)
    try:
        return SchemaValidator(schema).isinstance_python
    except SchemaError as error:
        raise ValueError(str(error).strip().rpartition("rror: ")[2]) from error


def check_query(query: str) -> None:
    """Raises ValueError where a JMESPath expression, which is one, could grow without a bound."""
    lists, parts = 0, [jmespath.compile(query).parsed]
    while parts:
        part: dict[str, Any] = parts.pop()
        lists += part["type"] in _LISTS
        parts += [child for child in part["children"] if isinstance(child, dict)]
    if lists > MOST_LISTS:
        raise ValueError(f"makes more than {MOST_LISTS} lists or objects")

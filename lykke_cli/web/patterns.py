"""Patterns and queries of strangers, which may take neither much time nor much memory.

A regular expression of Python's may take years for a line, and a JMESPath expression may double
what it is about with every few characters: either would stop the process for everybody. The
regular expressions of Rust take a time that is linear in the text. What may take long there is to
compile one: a word's characters are many thousands, and a repetition stands there so many times.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import jmespath
from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST_PATTERN = 200  # characters
LONGEST_QUERY = 500  # characters
MOST_LISTS = 2  # that a query makes, each of them a multiple of what it is about
MOST_WORDS = 10  # \w and \W in a pattern, each as often as it is repeated
MOST_WRITTEN_OUT = 2_000  # characters of a pattern whose repetitions were written out
_LISTS = ("multi_select_list", "multi_select_dict")
_WORDS = re.compile(r"\\[wW]")
_REPETITION = re.compile(r"\{([^}]*)\}")
_NOT_HERE = re.compile(r"\\[pP]|\(\?[a-zA-Z-]*x")


@lru_cache(256)
def linear_search(pattern: str) -> Callable[[str], bool]:
    """What looks for a regular expression in a text, in linear time; raises ValueError.

    It is one of Rust: without look-around, and without references to what was found before.
    """
    if _NOT_HERE.search(pattern):
        raise ValueError("\\p, \\P and the flag x are not possible here")
    counts = [re.findall(r"\d+", counts) for counts in _REPETITION.findall(pattern)]
    times = prod(max(1, *map(int, numbers)) for numbers in counts if numbers)
    if times * len(_WORDS.findall(pattern)) > MOST_WORDS or times * len(pattern) > MOST_WRITTEN_OUT:
        raise ValueError("it repeats too much: write * or + for a number, or [a-z] for \\w")
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

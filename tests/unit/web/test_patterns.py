"""A stranger's pattern takes no more time than the text has characters."""

import pytest

from lykke_cli.web.patterns import check_query, linear_search


@pytest.mark.parametrize(
    ("pattern", "text", "is_there"),
    [
        ("a+b", "xaab", True),
        ("^a", "ba", False),
        ("(?i)HELLO", "say hello", True),
        ("ü{2}", "üü", True),
    ],
)
def test_it_finds_what_python_s_would(pattern: str, text: str, is_there: bool) -> None:
    assert linear_search(pattern)(text) is is_there


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", ".*a.*a.*a.*b", "(?:a?){9}a{9}b"])
def test_nothing_makes_it_slow(pattern: str) -> None:
    assert not linear_search(pattern)("a" * 100_000 + "!")


@pytest.mark.parametrize(
    "pattern",
    [
        "a{1000}{1000}",
        r"\w{250}x",
        r"((\w{10}){10}){10}",
        r"(?i)(\pL{20}){20}",
        r"(?:\P{Greek}{100}){100}",
        r"\w" * 11,
        "(?x) a{#}\n1000}",
        "(?:" + "a" * 100 + "){30}",
    ],
)
def test_what_would_take_long_to_compile_is_refused_before(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"too much|not possible here"):
        linear_search(pattern)


def test_a_number_of_repetitions_is_possible() -> None:
    assert linear_search(r"\d{4}-\d{2}")("on 2026-11-28")
    assert linear_search(r"user-\w{3,8}\b")("user-ann1")


def test_a_query_may_make_lists_but_not_lists_of_lists_without_end() -> None:
    check_query("meta.{a: a, b: b} && contains(['x', 'y'], activity_type)")
    with pytest.raises(ValueError, match="more than 2 lists"):
        check_query("|".join(["[@,@][]"] * 50))

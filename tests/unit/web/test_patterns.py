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


@pytest.mark.timeout(5)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", ".*a.*a.*a.*b", "(?:a?){40}a{40}b"])
def test_nothing_makes_it_slow(pattern: str) -> None:
    assert not linear_search(pattern)("a" * 100_000 + "!")


def test_what_would_take_too_much_to_compile_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds size limit"):
        linear_search("a{1000}{1000}")


def test_a_query_may_make_lists_but_not_lists_of_lists_without_end() -> None:
    check_query("meta.{a: a, b: b} && contains(['x', 'y'], activity_type)")
    with pytest.raises(ValueError, match="more than 2 lists"):
        check_query("|".join(["[@,@][]"] * 50))

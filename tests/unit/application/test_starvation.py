"""When a subscription counts as starved."""

from lykke_cli.application.starvation import Starvation


def starved(told: str) -> list[int]:
    """After which of these it is: c connected, l live, r a read that found some, n one that did
    not."""
    starvation, found = Starvation(), []
    for number, each in enumerate(told):
        match each:
            case "c":
                starvation.connected()
            case "l":
                starvation.heard()
            case _:
                if starvation.has_read(int(each == "r")):
                    found.append(number)
    return found


def test_two_reads_that_find_what_did_not_come_live() -> None:
    assert starved("crrr") == [3]
    assert starved("crrnr") == [4]


def test_what_was_before_the_connection_does_not_count() -> None:
    assert not starved("crr")
    assert not starved("crrcrr")


def test_what_comes_live_ends_the_doubt() -> None:
    assert not starved("crrlrlrlr")


def test_where_it_did_not_help_it_is_not_done_again_before_something_came() -> None:
    assert starved("crrrcrrrrr") == [3]
    assert starved("crrrcrlrrr") == [3, 8]

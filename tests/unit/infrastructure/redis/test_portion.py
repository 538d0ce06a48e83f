"""How much of streams is read at once."""

from itertools import pairwise

from lykke_cli.infrastructure.redis.portion import FIRST, MOST_BYTES, Portion


def test_small_entries_are_soon_read_as_many_at_once_as_may_be() -> None:
    portion, counts = Portion(1_000), list[int]()
    for _ in range(10):
        counts.append(portion.count)
        portion.came(portion.count * 300, is_full=True)
    assert counts[0] == FIRST
    assert all(later <= 2 * earlier for earlier, later in pairwise(counts))
    assert counts[-1] == 1_000


def test_large_ones_are_read_so_few_that_they_fit() -> None:
    portion, size = Portion(1_000), MOST_BYTES // 4
    for _ in range(5):
        portion.came(portion.count * size, is_full=True)
    assert portion.count == 4
    portion.came(3 * MOST_BYTES, is_full=True)
    assert portion.count == 1


def test_it_begins_anew_after_a_rest() -> None:
    portion = Portion(1_000)
    for _ in range(10):
        portion.came(1, is_full=True)
    portion.came(1, is_full=False)
    assert (portion.count, portion.is_full) == (FIRST, False)
    assert Portion(1).count == 1

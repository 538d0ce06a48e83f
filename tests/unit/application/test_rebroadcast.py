"""What is published is what was committed and not heard of, once the grace is over."""

import uuid

from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.messages import encode, entity_message
from lykke_cli.application.rebroadcast import AT_ONCE, GRACE, MOST_WAITING, Unheard
from tests.builders import entity


def made() -> tuple[str, bytes]:
    new = entity(uuid.uuid4())
    return str(new.user_id), encode(entity_message(new))


def test_what_is_not_heard_of_is_due_after_the_grace() -> None:
    unheard, (user, message) = Unheard(), made()
    unheard.written([(user, message)], 10.0)
    assert unheard.due(10.0 + GRACE / 2) == []
    assert unheard.due(10.0 + GRACE) == [(user, message)]
    assert unheard.due(10.0 + 2 * GRACE) == []


def test_what_is_heard_of_before_or_after_it_was_written_is_not_due() -> None:
    unheard, before, after = Unheard(), made(), made()
    unheard.heard(Deliveries([b"c"], [before[1]]))
    unheard.written([before, after], 10.0)
    unheard.heard(Deliveries([b"c", b"c"], [b"no json", after[1]]))
    assert unheard.due(10.0 + GRACE) == []


def test_no_more_wait_than_there_is_room_for() -> None:
    unheard, one = Unheard(), made()
    unheard.written([one] * (MOST_WAITING + 3), 10.0)
    assert len(unheard.due(10.0)) == 3
    assert len(unheard.due(10.0 + GRACE)) == AT_ONCE

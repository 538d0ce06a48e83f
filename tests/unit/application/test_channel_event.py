"""What of any JSON object stands for the fields of an entry."""

import pytest

from lykke_cli.application.channel_event import ChannelEvent
from lykke_cli.application.messages import OtherMessage

TASK = "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11"


@pytest.mark.parametrize(
    ("json", "entity_id"),
    [
        (
            b'{"entity_id": "4A1D6CC5-3B1C-4F7E-9D55-0C0A7D7F1E11"}',
            "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11",
        ),
        (b'{"entity_id": "task-7"}', "task-7"),
        (b'{"entity_id": ""}', None),
        (b'{"entity_id": 7}', None),
        (b"{}", None),
    ],
)
def test_an_entity_may_have_an_id_of_any_kind(json: bytes, entity_id: str | None) -> None:
    assert ChannelEvent(OtherMessage(json)).entity_id == entity_id

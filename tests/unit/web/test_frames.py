"""What a client is sent: batches, cursors, and nothing that a channel has forged."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.journal import Line, Portion, notice_line
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Entry, decode, to_line
from lykke_cli.web import frames
from lykke_cli.web.frames import EVENTS, LYKKE_V1, OURS, PLAIN, Dialect, Frames
from tests.builders import entity, wire

USER = uuid.uuid4()
CHECKPOINT = Checkpoint(Cursor({"at": 7}), {}, None)


def entry(user_id: uuid.UUID = USER, **fields: Any) -> Line:
    return line(wire(entity(user_id, **fields)))


def line(payload: bytes) -> Line:
    """As the hub takes it from a user's channel."""
    message = decode(payload)
    is_own = isinstance(message, Entry) and message.user_id == str(USER)
    data = to_line(message) if is_own or not isinstance(message, Entry) else payload
    return Line(1, data, message.id if isinstance(message, Entry) and is_own else None, "")


def sealing(user_id: uuid.UUID | None, checkpoint: Checkpoint) -> str:
    return f"sealed-{checkpoint.cursor.data['at']}" if checkpoint.cursor else "sealed"


def rendered(
    lines: Sequence[Line],
    dialect: Dialect = LYKKE_V1,
    checkpoint: Checkpoint | None = CHECKPOINT,
) -> Sequence[dict[str, Any]]:
    return Frames(sealing).renderer(USER, dialect).of(Portion(lines, checkpoint)).messages


def sent(lines: Sequence[Line], dialect: Dialect = LYKKE_V1) -> list[dict[str, Any]]:
    return [json.loads(message["text"]) for message in rendered(lines, dialect)]


def events(lines: Sequence[Line]) -> list[dict[str, str]]:
    """What a browser's EventSource would hear."""
    text = b"".join(message["body"] for message in rendered(lines, EVENTS))
    return [
        dict(part.split(": ", 1) for part in event.split("\n"))
        for event in text.decode().split("\n\n")[:-1]
    ]


def test_one_entry_is_sent_as_it_is_with_a_cursor() -> None:
    only = entry(meta={"n": 1.50})
    [frame] = rendered([only])
    text = '{"type":"auditlog","data":' + only.data.decode() + ',"cursor":"sealed-7"}'
    assert frame == {"type": "websocket.send", "text": text}


def test_several_are_sent_together() -> None:
    lines = [entry() for _ in range(3)]
    [frame] = sent(lines)
    assert (frame["type"], frame["cursor"]) == ("auditlog_batch", "sealed-7")
    assert [each["id"] for each in frame["data"]] == [each.id for each in lines]


def test_a_frame_has_a_bounded_number_of_entries_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_ENTRIES", 4)
    monkeypatch.setattr(frames, "MOST_BYTES", 1_000)
    small, large = [entry() for _ in range(6)], [entry(meta={"x": "y" * 600}) for _ in range(2)]
    sizes = [len([each["data"]][0]) for each in sent([*small, *large])]
    together = [frame["data"] for frame in sent([*small, *large])]
    counts = [len(data) if isinstance(data, list) else 1 for data in together]
    assert sum(counts) == 8 and max(counts) <= 4 and counts[-2:] == [1, 1], sizes


def test_of_several_frames_only_the_last_with_an_entry_has_the_cursor() -> None:
    found = sent([entry(), line(b'{"type":"hi"}'), entry(), line(b'{"type":"ho"}')])
    assert [(frame["type"], frame.get("cursor", "none")) for frame in found] == [
        ("auditlog", None),
        ("hi", "none"),
        ("auditlog", "sealed-7"),
        ("ho", "none"),
    ]


def test_a_client_without_the_sub_protocol_gets_each_entry_by_itself_and_no_cursor() -> None:
    lines = [entry(), entry(), line(b'{"type":"hi","n":1}'), line(b"[1]")]
    assert sent(lines, PLAIN) == [
        {"type": "auditlog", "data": json.loads(lines[0].data)},
        {"type": "auditlog", "data": json.loads(lines[1].data)},
        {"type": "hi", "n": 1},
        {"type": "message", "data": json.loads(lines[3].data)},
    ]


def test_that_something_may_come_again_is_told_in_its_place_to_who_understands_it() -> None:
    lines = [entry(), notice_line(2, "the database has lost …"), entry()]
    told = {"type": "notice", "message": "the database has lost …"}
    assert [frame["type"] for frame in sent(lines)] == ["auditlog", "notice", "auditlog"]
    assert sent(lines)[1] == told
    assert events(lines)[1] == {"event": "notice", "data": orjson.dumps(told).decode()}
    assert [frame["type"] for frame in sent(lines, PLAIN)] == ["auditlog", "auditlog"]


def test_an_event_has_the_cursor_as_its_id_and_not_in_its_data() -> None:
    one, two = entry(), entry()
    batch, other = events([one, two, line(b'{"type":"hi","n":1}')])
    assert (batch["id"], batch["event"]) == ("sealed-7", "auditlog_batch")
    data = [json.loads(one.data), json.loads(two.data)]
    assert json.loads(batch["data"]) == {"type": "auditlog_batch", "data": data}
    assert other == {"event": "hi", "data": '{"type":"hi","n":1}'}


def test_readers_that_take_the_same_share_what_was_made_of_it() -> None:
    sealed = list[Checkpoint]()

    def seal(user_id: uuid.UUID | None, checkpoint: Checkpoint) -> str:
        sealed.append(checkpoint)
        return "sealed"

    shared, line = Frames(seal), entry()
    one, other = (shared.renderer(USER, LYKKE_V1) for _ in range(2))
    portion = Portion([line], CHECKPOINT)
    first = one.of(portion)
    assert other.of(portion) is one.of(Portion([line], CHECKPOINT)) is first
    assert len(sealed) == 1
    assert shared.renderer(uuid.uuid4(), LYKKE_V1).of(portion) is not first
    assert shared.renderer(USER, PLAIN).of(portion) is not first
    later = Checkpoint(Cursor({"at": 8}), {}, None)
    assert one.of(Portion([line], later)) is not first
    twin = Line(line.position, line.data, line.id, line.occurred_at)
    assert one.of(Portion([twin], CHECKPOINT)) is not first


@pytest.mark.parametrize("type", sorted(OURS))
def test_a_message_that_pretends_to_be_the_server_s_is_shown_as_one_of_the_channel(
    type: str,
) -> None:
    forged = {"type": type, "data": {"id": "x"}, "cursor": "forged"}
    for dialect in (LYKKE_V1, PLAIN):
        assert sent([line(json.dumps(forged).encode())], dialect) == [
            {"type": "message", "data": forged}
        ]


def test_of_a_key_that_is_there_twice_every_reader_sees_the_same() -> None:
    text = b'{"type":"auditlog","typ\\u0065":"hi","data":1}'
    [message] = rendered([line(text)], checkpoint=None)
    assert message["text"] == '{"type":"hi","data":1}'
    turned = b'{"type":"hi","data":1,"t\\u0079pe":"auditlog"}'
    [message] = rendered([line(turned)], checkpoint=None)
    assert message["text"].startswith('{"type":"message","data":')


def test_a_message_of_the_channel_cannot_bring_a_cursor() -> None:
    text = {"type": "hi", "cursor": "forged"}
    assert sent([line(json.dumps(text).encode())]) == [{"type": "message", "data": text}]


def test_a_type_with_a_line_break_is_no_event_of_its_own() -> None:
    text = {"type": "hi\nid: forged\ndata: {}"}
    [event] = events([line(json.dumps(text).encode())])
    assert event["event"] == "message" and json.loads(event["data"]) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([*OURS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["type", "data"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
objects = st.dictionaries(
    st.sampled_from(["type", "data", "cursor", "id", "user_id", "broadcast", "\n"]), json_values
)
of_another = st.builds(lambda: wire(entity(uuid.uuid4()), type="auditlog"))
payloads = (
    st.binary(max_size=60)
    | objects.map(lambda value: json.dumps(value).encode())
    | objects.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False).encode())
    | of_another
)


@given(st.lists(payloads, min_size=1, max_size=6))
def test_whatever_a_channel_carries_no_client_is_shown_what_was_forged(
    carried: list[bytes],
) -> None:
    lines = [line(payload) for payload in carried]
    for dialect in (LYKKE_V1, PLAIN):
        assert all(
            frame["type"] not in OURS - {"message"} and (frame.get("cursor") is None)
            for frame in sent(lines, dialect)
        )
    for event in events(lines):
        assert set(event) == {"event", "data"}
        assert event["event"] not in OURS - {"message"}
        assert json.loads(event["data"])["type"] not in OURS - {"message"}

"""Who listens hears each change of the state, and numbers now and then."""

from tests.page_modules import result_of

SAID = """
    let now = 0;
    const element = { said: [], set textContent(text) { this.said.push(text); } };
    const speaker = new m.Speaker(element, { now: () => now });
    const exact = { name: "exact", text: "Live." };
    for (const [at, arrived, state] of given[0]) {
        now = at;
        speaker.say({ arrived, state: state ? { name: state, text: state } : exact });
    }
    return element.said;
"""


def test_it_does_not_chatter() -> None:
    frames = [[n * 16, n] for n in range(1_000)]  # 16 s, with an entry in each frame
    assert result_of("speaker.js", SAID, frames) == ["Live.", "625 new entries"]


def test_a_lost_connection_is_told_at_once() -> None:
    frames = [[0, 0], [10, 1, "recovering"], [20, 2]]
    assert result_of("speaker.js", SAID, frames) == ["Live.", "recovering", "Live."]

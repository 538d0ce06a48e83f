"""What a client is told of what went wrong."""

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.refusals import refusal_of


def test_what_our_servers_cannot_do_is_refused_and_only_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = refusal_of(UsageMistake("There is no subscription to every user at 10.0.0.1."))
    assert (refusal.code, refusal.status, refusal.close) == ("bad_request", 400, 4400)
    assert "10.0.0.1" not in refusal.problem and "10.0.0.1" in caplog.text

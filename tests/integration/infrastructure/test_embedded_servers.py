"""The demo's servers and the process that keeps them."""

import pytest

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure import embedded_servers
from lykke_cli.infrastructure.embedded_servers import EmbeddedServers


def test_where_no_folder_can_be_made_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_servers, "_KEEPER", "raise OSError('no space left')")
    with pytest.raises(ServerUnavailable, match=r"No folder .*: OSError: no space left"):
        EmbeddedServers().__enter__()

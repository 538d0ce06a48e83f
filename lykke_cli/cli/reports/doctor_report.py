"""What `lykke doctor` found, for programs: as JSON, and as Prometheus reads it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lykke_cli.application.doctor import Check, Finding, Verdict
from lykke_cli.application.messages import encode
from lykke_cli.cli.output.terminal import Terminal

Found = Sequence[tuple[Check, Finding]]


def write_json(found: Found, terminal: Terminal) -> None:
    """One object with all checks."""
    report: dict[str, Any] = {
        "ok": all(finding.status is not Verdict.FAILED for _, finding in found),
        "checks": [
            {
                "id": check.id,
                "status": finding.status.value,
                "detail": finding.detail,
                "remedy": finding.remedy,
            }
            for check, finding in found
        ],
    }
    terminal.write_json(encode(report))


def write_metrics(found: Found, terminal: Terminal) -> None:
    """Prometheus' text format: for each check a series for each state that it may be in.

    No text of a server is in it: it would make new series, and could be any.
    """
    states = [finding.status for _, finding in found]
    lines = _metric("lykke_doctor_check", "1 for the state that a check is in.")
    for check, finding in found:
        for state in Verdict:
            labels = f'check="{check.id}",state="{state}"'
            lines.append(f"lykke_doctor_check{{{labels}}} {int(finding.status is state)}")
    lines += _metric("lykke_doctor_checks", "How many checks are in a state.")
    lines += [f'lykke_doctor_checks{{state="{state}"}} {states.count(state)}' for state in Verdict]
    lines += _metric("lykke_doctor_time_seconds", "When the checks were made, as Unix time.")
    lines.append(f"lykke_doctor_time_seconds {datetime.now(UTC).timestamp():.3f}")
    terminal.write("".join(f"{line}\n" for line in lines).encode())
    terminal.flush()


def _metric(name: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} gauge"]

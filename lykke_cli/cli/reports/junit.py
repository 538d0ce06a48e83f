"""A JUnit report, which CI servers show beside those of the tests.

What comes from an entry is foreign text: characters that no XML may hold are shown as escapes.
"""

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from lykke_cli.cli.output.sanitize import visible

MARK = b'name="lykke expect"'
"""Stands near the start of each report."""

Case = tuple[str, str | None]
"""What is expected, with what is wrong about it or None."""


def finished(name: str, cases: Sequence[Case], details: Iterable[str], *, seconds: float) -> bytes:
    """The report on `name`; `details` are told beside what is wrong."""
    failures = sum(fault is not None for _, fault in cases)
    suite = _suite(tests=len(cases), failures=failures, time=f"{seconds:.3f}")
    for title, fault in cases:
        case = _case(suite, name, title)
        if fault is not None:
            failure = ElementTree.SubElement(case, "failure", message=visible(fault))
            failure.text = "\n".join(map(visible, [fault, *details]))
    return _document(suite)


def unfinished(name: str) -> bytes:
    """The report on what has not come to its end: an error."""
    suite = _suite(tests=1, errors=1)
    ElementTree.SubElement(
        _case(suite, name, "run"), "error", message="It did not come to its end."
    )
    return _document(suite)


def _suite(
    *, tests: int, failures: int = 0, errors: int = 0, time: str = "0"
) -> ElementTree.Element:
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": 0}
    attributes = {key: str(number) for key, number in counts.items()}
    return ElementTree.Element("testsuite", {"name": "lykke expect", "time": time, **attributes})


def _case(suite: ElementTree.Element, name: str, title: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=visible(name), name=visible(title), time="0"
    )


def _document(suite: ElementTree.Element) -> bytes:
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text: str = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()

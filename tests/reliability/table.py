"""The reliability table's rows: the marker, and the line at the end that counts fault classes and injected cases.

A plugin, registered by tests/conftest.py: the process that prints the summary collects no tests where others run them,
and so never loads a conftest.py further down.
"""

from typing import Any

import pytest

ROWS = 20


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number): the row of the reliability table that a test stands for")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (row := item.get_closest_marker("row")) is not None:
            item.user_properties.append(("row", row.args[0]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed, failed = (
        [found for report in terminalreporter.stats.get(what, []) if "row" in (found := dict(report.user_properties))]
        for what in ("passed", "failed")
    )
    if passed or failed:
        rows = {found["row"] for found in passed}
        cases = sum(found.get("injected", 1) for found in passed)
        terminalreporter.write_line(
            f"reliability: {len(rows)} of {ROWS} fault classes, {cases} injected cases survived, {len(failed)} failed"
        )

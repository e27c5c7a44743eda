"""What all tests share."""

import gc
import logging
import signal
import sys
from collections.abc import Iterator

import pytest
import transformers  # noqa: F401  # so that diffusers is whole in here, whoever imports it first: phosphene/model_imports.py

pytest_plugins = ["tests.demo", "tests.services"]

# A run in the background inherits an ignored SIGINT, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


gc.disable()  # while tests are collected, with all that they import


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Leave out of every later round of the garbage collector what stays anyway."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _warnings_are_heard() -> None:
    """Undo what a worker's set-up in this process may have done before."""
    logging.getLogger().setLevel(min(logging.getLogger().level, logging.WARNING))


@pytest.fixture(scope="session", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    if (served := sys.modules.get("tests.search_api.served")) is not None:
        served.forget_folders()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests found."""
    figures = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for line in sorted(figures):
            terminalreporter.line(line)

"""Options and profiles of the whole suite.

``--plans N``: how many simulated plans (200 by default; ``--first-plan`` is where they begin). ``--events N``: over how many random events
exposure is checked (20,000 by default). ``--reach=large``: the larger worlds of the exhaustive search.
``--hypothesis-profile=long``: more examples. The default profile draws the same examples in every run.
"""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.figures import Figures, lines
from tests.servers import Server

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    parser.addoption("--plans", type=int, default=200, help="how many simulated plans to run")
    parser.addoption("--first-plan", type=int, default=0, help="the seed of the first simulated plan")
    parser.addoption("--events", type=int, default=20_000, help="how many random events exposure is checked over")
    parser.addoption("--seeds", type=int, default=1_000, help="how many seeds a benchmark under faults takes")
    parser.addoption("--reach", choices=("small", "large"), default="small", help="how large the exhaustively searched worlds are")


@pytest.fixture(scope="session")
def store_server() -> Iterator[Server]:
    """A real server for the whole run. Each test takes an account of its own; what does something to the whole server, takes another."""
    with Server() as server:
        yield server


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where a test of faults puts what it measured."""
    return Figures(pytestconfig)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures that were measured."""
    table = list(lines(config))
    if table:
        terminalreporter.section("what the faults did")
        for line in table:
            terminalreporter.write_line(line)

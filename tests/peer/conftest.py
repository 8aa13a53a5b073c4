"""What tests with real partners share: a browser, a page in it over a bridge without worker, the whole program."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.browser import Browser, Page, chromium, opened
from support.show_run import Run
from support.stage import Stage


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file: what runs after it is not to share the machine with a browser."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(commands={"reset": lambda: None}).start()
    yield stage
    stage.stop()


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """The page, open at a desk's size, with its controls drawn; it must have logged no error at the end."""
    page = opened(browser, stage.server.url)
    yield page
    errors = list(page.errors)
    page.close()
    assert not errors


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """start(**config) -> Run, already painting; closed afterwards."""
    made: list[Run] = []

    def begin(**more: object) -> Run:
        made.append(Run(**more))
        return made[-1]

    yield begin
    for run in made:
        run.close()

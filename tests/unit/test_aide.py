"""A thread beside the stream: one thing at a time, one answer, and on a card a stream of its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import pytest
import torch

from engines.emulated import EmulatedMachine
from pipelines.aide import Aide

LONG_S = 60.0


class Work:
    """Gives ten divided by a job, once it may go on."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, job: int) -> float:
        self.jobs.append(job)
        self.reached.set()
        assert self.open.wait(LONG_S)
        return 10 / job


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def aide(work: Work) -> Iterator[Aide[int, float]]:
    aide: Aide[int, float] = Aide(work, "ll-test")
    yield aide
    work.open.set()
    aide.close(LONG_S)


def test_what_is_asked_for_is_answered_once(aide: Aide[int, float], work: Work) -> None:
    assert aide.free
    assert aide.thread is None
    aide.ask(2)
    assert aide.settle(LONG_S)
    assert not aide.busy
    assert aide.fetch() == (2, 5.0, "")
    assert aide.fetch() is None


def test_while_it_is_at_work_or_has_an_answer_to_give_nothing_else_is_taken(aide: Aide[int, float], work: Work) -> None:
    work.open.clear()
    aide.ask(1)
    assert work.reached.wait(LONG_S)
    assert aide.busy
    aide.ask(2)
    work.open.set()
    assert aide.settle(LONG_S)
    assert not aide.free
    aide.ask(3)
    assert aide.settle(LONG_S)
    assert aide.fetch() == (1, 10.0, "")
    assert aide.free
    assert work.jobs == [1]


def test_what_goes_wrong_is_said_until_something_goes_well(aide: Aide[int, float]) -> None:
    aide.ask(0)
    assert aide.settle(LONG_S)
    assert aide.fetch() == (0, None, "division by zero")
    assert aide.wrong == "division by zero"
    aide.ask(5)
    assert aide.settle(LONG_S)
    assert aide.wrong == ""


def test_a_closed_one_ends_and_takes_nothing(aide: Aide[int, float], work: Work) -> None:
    aide.ask(1)
    assert aide.settle(LONG_S)
    aide.fetch()
    aide.close(LONG_S)
    assert aide.thread is not None
    assert not aide.thread.is_alive()
    assert not aide.free
    aide.ask(2)
    assert work.jobs == [1]


def test_nothing_of_a_job_is_held_once_its_answer_is_fetched() -> None:
    aide: Aide[torch.Tensor, int] = Aide(lambda job: job.numel(), "ll-test")
    job = torch.zeros(7)
    gone = weakref.ref(job)
    aide.ask(job)
    del job
    assert aide.settle(LONG_S)
    answer = aide.fetch()
    assert answer is not None
    assert answer.made == 7
    del answer
    aide.close(LONG_S)
    assert gone() is None


def test_on_a_card_it_has_a_stream_of_its_own_after_what_was_queued_and_is_done_with_it() -> None:
    machine = EmulatedMachine()
    mine, host = machine.stream(), machine.host((4,), torch.float32)
    aide: Aide[torch.Tensor, object] = Aide(lambda job: (host.copy_(job * 3.0), machine.here())[1], "ll-test", machine)
    with machine.on(mine):
        x = torch.ones(4).add_(1.0)
        aide.ask(x)
    assert aide.settle(LONG_S)
    answer = aide.fetch()
    assert answer is not None
    assert answer.wrong == ""
    assert answer.made not in (None, mine)
    machine.claim(host)
    assert host.tolist() == [6.0] * 4
    aide.close(LONG_S)

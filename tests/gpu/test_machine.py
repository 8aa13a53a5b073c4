"""Streams and graphs of a real card: what engines.cuda_machine builds on, and what follows a recording that failed."""

from __future__ import annotations

import ctypes
import gc
import mmap
import threading

import pytest
import torch
import torch.nn.functional as F
from support import card

from engines.compiled import tune_card
from engines.hostmemory import host_tensor

pytestmark = card.MARKS


@pytest.fixture
def machine():
    return card.machine()


def record(machine, pool, run, stream):
    graph = machine.graph(pool)
    with machine.on(stream), torch.inference_mode(), graph.record():
        run()
    return graph


def play(machine, graph, stream):
    with machine.on(stream):
        graph.play()
    stream.mark().wait()


def test_a_pool_takes_graphs_again_after_all_of_its_graphs_have_gone(machine):
    """As when an input changes its size: torch forgets a pool with its last graph."""
    pool, stream = machine.pool(), machine.stream(first=True)
    for n in range(3):
        with machine.on(stream):
            x, out = torch.full((64, 64), float(n), device=card.CARD), torch.zeros(64, 64, device=card.CARD)
        graph = record(machine, pool, lambda x=x, out=out: out.copy_((x @ x) + 1.0), stream)
        play(machine, graph, stream)
        assert (out.cpu() == 64 * n * n + 1.0).all()
        del graph
        gc.collect()


def test_after_a_recording_that_failed_others_succeed(machine):
    pool, stream = machine.pool(), machine.stream(first=True)
    with machine.on(stream):
        x, out = torch.ones(16, device=card.CARD), torch.zeros(16, device=card.CARD)
    record(machine, pool, lambda: out.copy_(x + 1.0), stream)
    with pytest.raises(RuntimeError):
        record(machine, pool, lambda: out.copy_(x * x.sum().item()), stream)
    with pytest.raises(ZeroDivisionError):
        record(machine, pool, lambda: out.copy_(x * (1 / 0)), stream)
    graph = record(machine, pool, lambda: out.copy_(x + 2.0), stream)
    play(machine, graph, stream)
    assert (out.cpu() == 3.0).all()
    if card.REAL:
        torch.cuda.empty_cache()  # which is refused as long as torch takes a recording to go on


@pytest.mark.skipif(not card.REAL, reason="torch's own streams")
def test_streams_that_are_recorded_are_nobody_elses(machine):
    mine = {machine.stream(first=True).stream.cuda_stream for _ in range(16)}
    assert len(mine) == 16
    assert mine.isdisjoint(torch.cuda.Stream(card.CARD).cuda_stream for _ in range(100))
    assert mine.isdisjoint(machine.stream().stream.cuda_stream for _ in range(100))


def test_one_thread_records_while_another_plays_and_a_third_loads(machine):
    """Other shapes each time, so that kernels are tried out, memory is asked for and given back, and noise is drawn."""
    if card.REAL:
        tune_card()
    streams, pools = [machine.stream(first=True) for _ in range(2)], [machine.pool() for _ in range(2)]
    with machine.on(streams[0]):
        x, out = torch.ones(32, 32, device=card.CARD), torch.zeros(32, 32, device=card.CARD)
    graph = record(machine, pools[0], lambda: out.copy_(x @ x), streams[0])
    failed, over = [], threading.Event()

    def records():
        try:
            for n in range(40 // card.FEW):
                with machine.on(streams[1]), torch.inference_mode():
                    y, kept = torch.ones(16 + n, 8, device=card.CARD), torch.zeros(16 + n, 16 + n, device=card.CARD)
                    kept.copy_(y @ y.T)
                again = record(machine, pools[1], lambda y=y, kept=kept: kept.copy_(y @ y.T), streams[1])
                play(machine, again, streams[1])
                assert (kept.cpu() == 8.0).all()
        except BaseException as error:
            failed.append(error)
        over.set()

    def loads():
        generator = torch.Generator(card.CARD)
        try:
            for n in range(10**6):
                if over.is_set():
                    return
                weight = torch.randn(8, 3, 3, 3, device=card.CARD, generator=generator)
                F.conv2d(torch.ones(1, 3, 16 + n % 50, 16, device=card.CARD), weight).sum().item()
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=run) for run in ((records, loads) if card.REAL else (records,))]
    for each in others:
        each.start()
    while not over.is_set():
        play(machine, graph, streams[0])
    for each in others:
        each.join()
    assert not failed
    assert (out.cpu() == 32.0).all()


def test_pages_of_shared_memory_are_registered_used_and_let_go_of(machine):
    size, stream = 1 << 16, machine.stream(first=True)
    with mmap.mmap(-1, size) as pages:
        at = ctypes.addressof(ctypes.c_uint8.from_buffer(pages))
        for n in range(1, 4):
            pinned = machine.pin(at, size)
            with machine.on(stream):
                there = torch.full((size,), n, dtype=torch.uint8, device=card.CARD)
                pinned.copy_(there, non_blocking=True)
            stream.mark().wait()
            machine.claim(pinned)
            assert (host_tensor(at, size) == n).all()
            machine.unpin(pinned)
            del pinned
        gc.collect()


def test_a_refusal_to_register_is_a_sentence_and_nobody_elses(machine):
    size = 1 << 16
    with mmap.mmap(-1, size) as pages:
        at = ctypes.addressof(ctypes.c_uint8.from_buffer(pages))
        pinned = machine.pin(at, size)
        with pytest.raises(RuntimeError):
            machine.pin(at, size)
        assert (torch.ones(8, device=card.CARD) + 1.0).sum().item() == 16.0
        machine.unpin(pinned)
        del pinned
        gc.collect()

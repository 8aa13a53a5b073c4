"""engines.cuda_machine against what torch.cuda refuses: pools that outlive graphs, recordings that fail, streams."""

from __future__ import annotations

import ctypes
import gc

import pytest
import torch
from support.torchcuda import STREAMS, TorchCuda

from engines.cuda_machine import CudaMachine, machine_of

HERE = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch) -> TorchCuda:
    made = TorchCuda()
    made.patch(monkeypatch)
    return made


@pytest.fixture
def machine(cuda) -> CudaMachine:
    return CudaMachine(HERE)


def record(machine, pool, run=lambda: None, stream=None):
    graph = machine.graph(pool)
    with machine.on(stream or machine.stream(first=True)), graph.record():
        run()
    return graph


def test_a_pool_takes_graphs_again_after_all_of_its_graphs_have_gone(machine, cuda):
    pool = machine.pool()
    for _ in range(3):
        graph = record(machine, pool)
        graph.play()
        del graph
        gc.collect()
    assert list(cuda.pools.values()) == [1], "the one that is never played"
    del pool
    gc.collect()
    assert list(cuda.pools.values()) == [0]


def test_a_recording_that_the_driver_calls_invalid_costs_no_other(machine, cuda):
    pool = machine.pool()
    kept = record(machine, pool)

    def spoils():
        cuda.invalid = True

    for _ in range(2):
        with pytest.raises(RuntimeError, match="previous error"):
            record(machine, pool, spoils)
        assert not cuda.underway
    record(machine, pool).play()
    kept.play()


def test_what_goes_wrong_inside_is_what_is_raised(machine, cuda):
    pool, seen = machine.pool(), []

    def fails():
        seen.append(1 / 0)

    def fails_and_spoils():
        cuda.invalid = True
        fails()

    for run in (fails, fails_and_spoils, fails):
        with pytest.raises(ZeroDivisionError):
            record(machine, pool, run)
        assert not cuda.underway
    record(machine, pool).play()


def test_nothing_is_recorded_on_the_stream_that_everybody_uses(machine):
    with pytest.raises(RuntimeError, match="non-default"), machine.graph(machine.pool()).record():
        pass
    with pytest.raises(RuntimeError, match="without a preceding"):
        machine.graph(machine.pool()).play()


def test_streams_that_are_recorded_are_nobody_elses(machine):
    mine = {machine.stream(first=True).stream.handle for _ in range(STREAMS)}
    assert len(mine) == STREAMS
    assert mine.isdisjoint(machine.stream().stream.handle for _ in range(3 * STREAMS))


def test_events_say_when_and_how_long(machine):
    stream, other = machine.stream(), machine.stream()
    begun, done = stream.mark(timed=True), stream.mark(timed=True)
    assert done.since(begun) == 1.5
    other.follow(stream.mark())
    with machine.on(other):
        machine.here().mark().wait()
        assert machine.here().stream is other.stream
    assert machine.here().stream is machine.others().stream
    with pytest.raises(RuntimeError, match="enable_timing"):
        done.since(stream.mark())


def test_memory_is_registered_once_and_a_refusal_is_a_sentence(machine, cuda):
    pages = (ctypes.c_uint8 * 8192)()
    at = ctypes.addressof(pages)
    pinned = machine.pin(at, 8192)
    pinned.fill_(3)
    assert pages[8191] == 3
    with pytest.raises(RuntimeError, match="refused to register 8192 bytes, error 712"):
        machine.pin(at, 8192)
    machine.unpin(pinned)
    assert not cuda.registered
    machine.pin(at, 8192)


def test_a_processor_has_no_streams():
    assert machine_of(HERE) is None
    assert isinstance(machine_of(torch.device("cuda")), CudaMachine)

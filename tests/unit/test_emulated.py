"""The emulation of a card fails wherever a card would fail, or would do something else than a processor."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from engines.aside import Aside
from engines.emulated import EmulatedMachine
from engines.emulated_rules import BrokenRule


@pytest.fixture
def machine() -> EmulatedMachine:
    return EmulatedMachine()


def record(machine, run, stream=None, pool=None):
    graph = machine.graph(pool or machine.pool())
    with machine.on(stream or machine.stream(first=True)), torch.inference_mode(), graph.record():
        run()
    return graph


FORBIDDEN = {
    "a number read back": lambda x: x.sum().item(),
    "a truth value read back": lambda x: bool(x.any()),
    "a number as an index": lambda x: [1, 2, 3, 4][x.sum().long()],
    "a comparison": lambda x: torch.equal(x, x),
    "a copy to the host": lambda x: x.cpu(),
    "numpy": lambda x: x.numpy(),
    "a list": lambda x: x.tolist(),
    "a tensor made of numbers": lambda x: x * torch.tensor(2.0),
    "numpy's memory": lambda x: x + torch.from_numpy(np.ones(4, np.float32)),
    "places of what is not zero": lambda x: x.nonzero(),
    "a mask as an index": lambda x: x[x > 0],
    "what is different": lambda x: x.unique(),
    "random numbers": lambda x: x + torch.randn(4),
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
    "a value at a mask": lambda x: x.index_put((x > 0,), x),
    "places repeated by data": lambda x: x.repeat_interleave(x.long()),
    "places of a condition": lambda x: torch.where(x > 0),
    "places as rows": lambda x: torch.argwhere(x),
    "parts by data": lambda x: torch.tensor_split(x, x.long()[:2]),
    "closeness": lambda x: torch.allclose(x, x),
    "memory that is pinned": lambda x: torch.empty(4, pin_memory=True),
    "memory that grows": lambda x: x.resize_(8),
    "other memory for a tensor": lambda x: x.set_(torch.ones(9)),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_no_graph_can_hold_is_refused(what, machine):
    x = torch.ones(4)
    with pytest.raises(BrokenRule):
        record(machine, lambda: FORBIDDEN[what](x))


def test_every_rule_says_what_it_is_about(machine):
    x = torch.ones(4)
    for run, about in (
        (lambda: x.sum().item(), "host"),
        (lambda: x.nonzero(), "shape"),
        (lambda: x[x > 0], "shape"),
        (lambda: torch.empty(4, pin_memory=True), "pinned"),
        (lambda: machine.host((4,), torch.float32), "pinned"),
        (lambda: x.resize_(8), "pool"),
        (lambda: torch.randn(4), "random"),
    ):
        with pytest.raises(BrokenRule, match=about):
            record(machine, run)


def test_work_beside_a_recording_is_done_at_once_so_it_is_refused(machine):
    """Its memory would come from outside of the graph's pool, and nothing of it would be played again."""
    beside, x = machine.stream(first=True), torch.ones(4)

    def run():
        with machine.on(beside):
            x.add(1.0)

    with pytest.raises(BrokenRule, match="no part in the recording"):
        record(machine, run)

    def joined():
        beside.follow(machine.here().mark())
        with machine.on(beside):
            y = x.add(1.0)
        machine.here().follow(beside.mark())
        y.add(1.0)

    record(machine, joined)


def test_a_recording_waits_for_nothing_outside_and_nobody_outside_for_it(machine):
    main, x, marks = machine.stream(first=True), torch.ones(4), []
    before = machine.stream(first=True).mark()
    with pytest.raises(BrokenRule, match="outside of it"):
        record(machine, lambda: machine.here().follow(before), main)

    def run():
        x.add(1.0)
        marks.append(main.mark())

    record(machine, run, main)
    with pytest.raises(BrokenRule, match="outside of it"):
        machine.stream(first=True).follow(marks[0])
    with pytest.raises(BrokenRule, match="not done"):
        marks[0].wait()


def test_what_was_begun_aside_is_forgotten_where_a_recording_fails(machine):
    aside, x = Aside(machine), torch.ones(4)

    def run():
        with aside():
            x.add(1.0)
        x.sum().item()

    with pytest.raises(BrokenRule, match="host"):
        record(machine, run)
    aside.drop()
    with machine.on(machine.stream(first=True)):
        aside.join()


def test_an_attention_without_dropout_is_none_of_it(machine):
    x = torch.ones(1, 1, 4, 8)
    record(machine, lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x)).play()


def test_a_recording_does_nothing_and_its_results_are_worth_nothing_before_it_is_played(machine):
    x, out, total = torch.arange(4.0), [], torch.zeros(())

    def run():
        total.add_(x.sum())
        out.append(x * 2)

    stream = machine.stream(first=True)
    graph = record(machine, run, stream)
    assert total.item() == 0.0
    assert out[0].isnan().all()
    for _ in range(2):
        with machine.on(stream):
            graph.play()
    assert total.item() == 12.0
    assert out[0].tolist() == [0.0, 2.0, 4.0, 6.0]
    x.fill_(1.0)
    with machine.on(stream):
        graph.play()
    assert out[0].tolist() == [2.0] * 4


def test_what_python_reads_is_read_once(machine):
    x, gain, out = torch.ones(3), {"now": 2.0}, []
    stream = machine.stream(first=True)
    graph = record(machine, lambda: out.append(x * gain["now"]), stream)
    gain["now"] = 3.0
    with machine.on(stream):
        graph.play()
    assert out[0].tolist() == [2.0] * 3


def test_what_another_stream_writes_has_to_be_waited_for(machine):
    one, two, x = machine.stream(first=True), machine.stream(first=True), torch.zeros(4)
    with machine.on(one):
        x.add_(1.0)
    with machine.on(two), pytest.raises(BrokenRule, match="has not waited"):
        x.clone()
    two.follow(one.mark())
    with machine.on(two):
        x.clone()


def test_what_another_stream_reads_may_not_be_written_over(machine):
    one, two, x = machine.stream(first=True), machine.stream(first=True), torch.zeros(4)
    with machine.on(one):
        x.clone()
    with machine.on(two), pytest.raises(BrokenRule, match="may still read"):
        x.add_(1.0)
    two.follow(one.mark())
    with machine.on(two):
        x.add_(1.0)


def test_an_event_is_no_news_of_what_comes_after_it(machine):
    one, two, x = machine.stream(first=True), machine.stream(first=True), torch.zeros(4)
    event = one.mark()
    with machine.on(one):
        x.add_(1.0)
    two.follow(event)
    with machine.on(two), pytest.raises(BrokenRule):
        x.clone()


def test_waiting_is_handed_on(machine):
    one, two, three = (machine.stream(first=True) for _ in range(3))
    x = torch.zeros(4)
    with machine.on(one):
        x.add_(1.0)
    two.follow(one.mark())
    three.follow(two.mark())
    with machine.on(three):
        x.add_(1.0)


def test_the_host_waits_too_and_what_it_has_waited_for_holds_for_all(machine):
    one, two, x = machine.stream(first=True), machine.stream(first=True), machine.host((4,), torch.float32)
    with machine.on(one):
        x.add_(1.0)
    with pytest.raises(BrokenRule):
        machine.claim(x)
    one.mark().wait()
    machine.claim(x)
    with machine.on(two):
        x.add_(1.0)


def test_graphs_are_played_in_order_like_anything_else(machine):
    one, two, x = machine.stream(first=True), machine.stream(first=True), torch.zeros(4)
    writes, reads = record(machine, lambda: x.add_(1.0), one), record(machine, lambda: x.clone(), two)
    with machine.on(one):
        writes.play()
    with machine.on(two), pytest.raises(BrokenRule):
        reads.play()


def test_graphs_of_one_pool_are_not_played_beside_each_other(machine):
    one, two, pool, x = machine.stream(first=True), machine.stream(first=True), machine.pool(), torch.zeros(4)
    first, second = (record(machine, lambda: x + 1.0, stream, pool) for stream in (one, two))
    with machine.on(one):
        first.play()
    with machine.on(two), pytest.raises(BrokenRule):
        second.play()
    two.follow(one.mark())
    with machine.on(two):
        second.play()


def test_a_result_is_gone_when_another_graph_of_its_pool_was_played(machine):
    stream, pool, x, out = machine.stream(first=True), machine.pool(), torch.ones(4), []
    first = record(machine, lambda: out.append(x + 1.0), stream, pool)
    second = record(machine, lambda: x + 2.0, stream, pool)
    with machine.on(stream):
        first.play()
        out[0].clone()
        second.play()
        with pytest.raises(BrokenRule, match="another graph"):
            out[0].clone()


def test_a_stream_that_takes_part_is_waited_for_in_the_graph(machine):
    main, x = machine.stream(first=True), torch.ones(4)
    aside = Aside(machine)

    def forget():
        with aside():
            x.add(1.0)

    with pytest.raises(BrokenRule, match="not waited for"):
        record(machine, forget, main)

    def join():
        with aside():
            y = x.add(1.0)
        aside.join()
        y.add(1.0)

    record(machine, join, main)


def test_what_runs_aside_is_joined_before_it_is_used(machine):
    main, x = machine.stream(first=True), torch.ones(4)
    aside = Aside(machine)
    with machine.on(main):
        with aside():
            y = x.add(1.0)
        with pytest.raises(BrokenRule):
            y.add(1.0)
        aside.join()
        y.add(1.0)


def test_recordings_are_made_once_not_within_each_other_and_not_where_all_work(machine):
    x, stream = torch.ones(4), machine.stream(first=True)
    with pytest.raises(BrokenRule, match="inside another"):
        record(machine, lambda: record(machine, lambda: x + 1.0), stream)
    with pytest.raises(BrokenRule, match="everybody"):
        record(machine, lambda: x + 1.0, machine.others())
    graph = record(machine, lambda: x + 1.0, stream)
    with pytest.raises(BrokenRule, match="twice"), machine.on(stream), graph.record():
        x.add(1.0)
    with pytest.raises(BrokenRule, match="was not recorded"):
        machine.graph(machine.pool()).play()


def test_the_host_waits_for_nothing_in_a_recording(machine):
    event, x = machine.stream(first=True).mark(), torch.ones(4)

    def wait():
        x.add(1.0)
        event.wait()

    with pytest.raises(BrokenRule):
        record(machine, wait)


def test_what_is_made_outside_of_graphs_is_counted(machine):
    x, stream = torch.ones(4), machine.stream(first=True)
    with machine.on(stream):
        x.add_(1.0)
        x.view(2, 2)
        assert machine.made == 0
        x + 1.0
        assert machine.made == 1
        x.sum().item()
    assert machine.syncs == 1


def test_other_threads_are_left_alone(machine):
    x, stream, found = torch.ones(4), machine.stream(first=True), []

    def other():
        found.append(x.sum().item())

    def run():
        x.add(1.0)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    record(machine, run, stream)
    assert found == [4.0]


def test_a_recording_stays_on_streams_that_no_other_thread_is_given(machine):
    x, aside = torch.ones(4), machine.stream()
    with pytest.raises(BrokenRule, match="another thread may be given"):
        record(machine, lambda: x + 1, aside)

    def leaves():
        aside.follow(machine.here().mark())

    with pytest.raises(BrokenRule, match="another thread may be given"):
        record(machine, leaves)


def test_numbers_on_the_device_may_be_an_index_and_a_mask_may_not(machine):
    x, at, out = torch.arange(4.0), torch.tensor([2, 0], dtype=torch.int32), torch.zeros(2)
    graph = record(machine, lambda: out.copy_(x[at]))
    with machine.on(machine.stream()):
        graph.play()
    assert out.tolist() == [2.0, 0.0]
    with pytest.raises(BrokenRule, match="mask as an index"):
        record(machine, lambda: x[x > 1.0])

"""The prompt language, read without a model: AUTOMATIC1111's and Deforum's reference values, and that nothing fails."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engines.attention import parse_attention
from pipelines.expr import Expr
from pipelines.promptlang.compose import (
    Template,
    balance,
    has_math_weights,
    split_and,
    split_deforum,
    split_list,
    split_negative,
)
from pipelines.promptlang.editing import MAX_DEPTH, parse_edits, render, schedule
from pipelines.promptlang.plan import MAX_PARTS, read_prompt
from pipelines.promptlang.styles import Style, parse_styles, read_styles, styled
from pipelines.promptlang.tags import Tag, take_tags

GOLDEN = Path(__file__).parent.parent / "golden"
A1111 = json.loads((GOLDEN / "a1111_prompts.json").read_text())
DEFORUM = json.loads((GOLDEN / "deforum_prompts.json").read_text())


def test_attention_is_automatic1111s():
    for case in A1111:
        got = parse_attention(case["prompt"])
        assert [piece.text for piece in got] == [text for text, _ in case["attention"]]
        assert [piece.weight for piece in got] == pytest.approx([w for _, w in case["attention"]], abs=1e-6)
    assert len(A1111) > 100


@pytest.mark.parametrize("steps", [10, 4])
def test_editing_is_automatic1111s(steps):
    for case in A1111:
        assert [list(entry) for entry in schedule(case["prompt"], steps)] == case[f"schedule_steps{steps}"]


def test_and_is_automatic1111s():
    for case in A1111:
        assert [list(part) for part in split_and(case["prompt"])] == case["and_split"]


@pytest.mark.parametrize("case", DEFORUM, ids=lambda case: case["text"][:24])
def test_weights_are_deforums(case):
    if case.get("api") == "a1111_ext":
        assert split_negative(case["text"]) == (case["positive"], case["negative"])
        return
    values = {"t": float(case["frame"])}
    parts = [(text, w(values) if isinstance(w, Expr) else w) for text, w in split_deforum(case["text"], [])]
    for side, name in zip(balance(parts, case["normalize"]), ("positive", "negative"), strict=True):
        assert [text for text, _ in side] == [text for text, _ in case[name]]
        assert [w for _, w in side] == pytest.approx([w for _, w in case[name]], abs=1e-6)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("(a", [("a", 1.1)]),
        ("a)", [("a)", 1.0)]),
        ("[a", [("a", 1 / 1.1)]),
        ("(a (b:2) c)", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:-.5)", [("a", -0.5)]),
        ("(a:x)", [("a:x", 1.1)]),
        (r"\(a\) \[b\] \\ \c", [("(a) [b] \\ c", 1.0)]),
        ("a:1.4)", [("a:1.4)", 1.0)]),
        ("a BREAK b", [("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
        ("(a BREAK b:2)", [("a", 2.0), ("BREAK", -2.0), ("b", 2.0)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        ("", [("", 1.0)]),
        ("()", [("", 1.0)]),
    ],
)
def test_attention_at_its_edges(prompt, expected):
    got = parse_attention(prompt)
    assert [piece.text for piece in got] == [text for text, _ in expected]
    assert [piece.weight for piece in got] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[a:b:.25]", [(2, "a"), (10, "b")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:1e2]", [(10, "a")]),
        ("[a:b:c]", [(10, "[a:b:c]")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        (r"[a\:b:c:3]", [(3, r"a\:b"), (10, "c")]),
        ("a | [b:3]", [(10, "a | [b:3]")]),
        ("[a|b", [(10, "[a|b")]),
        ("a [b:3] \\", [(10, "a [b:3] \\")]),
    ],
)
def test_editing_at_its_edges(prompt, expected):
    assert schedule(prompt, 10) == expected


def test_alternation_takes_turns_and_holds_nothing_where_nothing_is():
    turns = [text for _, text in schedule("[fe|||]male", 6)]
    assert turns == ["female", "male", "male", "male", "female", "male"]
    assert [text for _, text in schedule("[a|[b|c]]", 4)] == ["a", "c", "a", "c"]


def test_on_a_stream_steps_go_on():
    tree = parse_edits("[a:b:20] [c|d] [e:f:0.5]")
    said = [render(tree, step, 10, endless=True) for step in (1, 5, 6, 20, 21, 1000)]
    assert said == ["a c e", "a c e", "a d f", "a d f", "b c f", "b d f"]


def test_a_list_needs_a_weight_outside_brackets():
    assert split_list("a city:0.7 | a forest :.3", []) == [("a city", 0.7), ("a forest", 0.3)]
    assert split_list("a:2 | b", []) == [("a", 2.0), ("b", 1.0)]
    assert split_list("(a:1.4) city:1 | [b|c]:2", []) == [("(a:1.4) city", 1.0), ("[b|c]", 2.0)]
    assert split_list("((x:1 | y:2", []) is None
    for text in ("a | b", "[a|b]", "(a:1 | b:2)", "a:2", r"a:1 \| b:2", ""):
        assert split_list(text, []) is None, text
    three = split_list("a:`sin(t)` | b:`2` | c:`no(`", notes := [])
    assert three is not None
    assert three[0].weight({"t": 1.0}) == pytest.approx(math.sin(1))
    assert [part.weight for part in three[1:]] == [2.0, 1.0]
    assert "no(" in notes[0]


def test_mathematics_as_a_weight_is_found_outside_brackets_alone():
    assert has_math_weights("eggs:`cos(t)`, bacon")
    assert not has_math_weights("(neon:`1+sin(t)`) city")
    assert not has_math_weights("say `t`")


def test_mathematics_in_a_text_is_written_out():
    text = Template("(neon:`1 + t/4`) [a:b:`2*3`]", [])
    assert text({"t": 1.0}) == "(neon:1.25) [a:b:6.00]"
    assert not text.still
    assert Template("`import os`", notes := []).still
    assert notes


def test_tags_are_taken_out_and_read():
    text, tags = take_tags("a <lora:My Style:0.6:0.8> b<lora:x:te=0.5:unet=0.25> <hypernet:h> <3 >")
    assert text == "a  b  <3 >"
    assert tags[0] == Tag("lora", "My Style", ("0.6", "0.8"))
    assert [(tag.te, tag.unet) for tag in tags] == [(0.6, 0.8), (0.5, 0.25), (1.0, 1.0)]
    assert take_tags("<lora:a:nan:1e9>")[1][0].unet == 1.0


def test_styles_are_worked_in(tmp_path):
    file = tmp_path / "styles.csv"
    rows = (
        'name,prompt,negative_prompt\r\nFilm,"film still, {prompt}, grain","cartoon, ""3d"""\n# old,x,y\nplain,ink,\n'
    )
    file.write_text(rows, encoding="utf-8-sig")
    notes: list[str] = []
    styles = read_styles(file, notes)
    assert set(styles) == {"film", "plain"}
    assert not notes
    assert styled(styles["film"], "a cat", "blurry") == ("film still, a cat, grain", 'blurry, cartoon, "3d"')
    assert styled(styles["plain"], "a cat", "") == ("a cat, ink", "")
    assert parse_styles("name,text\nold,ink\n", []) == {"old": Style("ink", "")}
    plan = read_prompt("a cat <style:FILM>", "blurry", styles)
    assert plan.at(1, 10, {}) == ((("film still, a cat, grain", 1.0),), (('blurry, cartoon, "3d"', 1.0),))
    inked = read_prompt("a cat <lora:a> <style:wash>", "", {"wash": Style("{prompt}, wash <lora:ink:0.7>", "")})
    assert [(tag.name, tag.unet) for tag in inked.tags] == [("a", 1.0), ("ink", 0.7)]
    assert inked.at(1, 10, {}).positive == (("a cat, wash", 1.0),)
    assert "no style 'gone'" in read_prompt("a <style:gone>", "", styles).notes[0]
    assert read_styles(tmp_path / "none.csv", notes) == {}
    file.write_bytes(b"\xff\xfename\x00," * 1000)
    assert isinstance(read_styles(file, notes), dict)


def sides(prompt: str, negative: str = "", step: int = 1, **values: float):
    found = read_prompt(prompt, negative, {}).at(step, 10, values)
    return found and [dict(side) for side in found]


def test_a_plan_brings_it_all_together():
    assert sides("neon") == [{"neon": 1.0}, {"": 1.0}]
    assert sides("a:3 | b:1", "ugly") == [{"a": 0.75, "b": 0.25}, {"ugly": 1.0}]
    assert sides("a:1 | b:-1", "ugly") == [{"a": 1.0}, {"ugly": 0.5, "b": 0.5}]
    assert sides("a --neg b", "ugly") == [{"a": 1.0}, {"ugly, b": 1.0}]
    assert sides("a :3 AND [b|c] AND d:-4", step=2) == [{"a": 0.75, "c": 0.25}, {"d": 1.0}]
    text = "eggs:`cos(6.28*t/10)`, bacon:`-cos(6.28*t/10)`"
    assert sides(text, t=0.0) == [{"eggs": 1.0}, {", bacon": 1.0}]
    assert sides(text, t=5.0) == [{", bacon": 1.0}, {"eggs": 1.0}]
    assert sides("a:`1/t` | b:1", t=0.0) is None
    assert sides("a:0 | b:0") == [{"": 1.0}, {"": 1.0}]


def test_a_plan_says_what_it_did_not_read_as_it_looks():
    for prompt, word in (("a AND b", "AND"), ("a | b", "a:1 | b:1"), ("a:`x(` b", "x("), ("<frob:1> a", "'frob'")):
        assert word in " ".join(read_prompt(prompt, "", {}).notes), prompt
    plan = read_prompt(" | ".join(f"p{n}:1" for n in range(40)), "", {})
    assert len(plan.positive) == MAX_PARTS
    assert "40" in plan.notes[-1]
    assert read_prompt("(neon:1.4) city, [dog]", "blurry", {}).notes == ()
    assert read_prompt("x <lora:glass:0.5>", "", {}).tags == (Tag("lora", "glass", ("0.5",)),)


def test_grammar_can_be_chosen():
    assert dict(read_prompt("a:3 b:1", "", {}, "deforum").at(1, 10, {}).positive) == {"a": 0.75, "b": 0.25}
    assert dict(read_prompt("a:3 | b:1", "", {}, "a1111").at(1, 10, {}).positive) == {
        "a:3 | b": 1.0
    }  # a last weight is AND's


PIECES = (
    "(", ")", "[", "]", ":", "|", "\\", "`", "<", ">", " AND ", " BREAK ", "--neg", "a", "neon", ", ", ":1.4)", ":0.5]",
    "<lora:x:1>", "`cos(t)`", "`9**9**9`", "\n", "é", "\U0001f600", ":", "-1", "1e9", "\ud800", "{prompt}",
)  # fmt: skip


def test_no_text_is_refused():
    rng = np.random.default_rng(11)
    for _ in range(1000):
        prompt, negative = ("".join(rng.choice(PIECES, size=rng.integers(0, 24))) for _ in range(2))
        grammar = str(rng.choice(["auto", "a1111", "deforum"]))
        plan = read_prompt(prompt, negative, {}, grammar)
        for step in (1, 7):
            for found in (plan.at(step, 10, {"t": 3.0}), plan.evenly(step, 10, {})):
                for side in found or ():
                    assert side
                    assert all(weight > 0 for _, weight in side)
                    for text, _ in side:
                        assert parse_attention(text)
        assert schedule(prompt, 5)[-1][0] == 5


@pytest.mark.parametrize(
    "text", ["[" * 2000, "(" * 2000, "[a:" * 700, "[a|" * 700, "((a:1)" * 300, "`" * 2000, ":" * 2000]
)
def test_the_longest_prompt_is_read_soon(text):
    """Without running out of stack. Quadratic reading of these would take minutes."""
    assert read_prompt(text, text, {}).at(1, 10, {}) is not None
    assert parse_attention(text)
    deep = "[" * (MAX_DEPTH + 5) + "a" + ":3]" * (MAX_DEPTH + 5)
    assert schedule(deep, 4)[-1][0] == 4

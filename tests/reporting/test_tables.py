"""Tables of scores: no bare number of ours passes, theirs and ours stay apart, people can read them."""

import pandas as pd
import pytest

from zephyr_lab.core import session
from zephyr_lab.reporting import tables


def ours(**changes) -> dict:
    number = {
        "row": "MPT-Chat",
        "metric": "mt_bench",
        "kind": "recomputed",
        "value": 5.459,
        "low": 4.9,
        "high": 5.98,
        "n": 159,
        "interval": "80 questions, bootstrap 95 %",
        "source": "mt_bench_scores.csv",
    }
    return {**number, **changes}


def theirs(**changes) -> dict:
    return {"row": "MPT-Chat", "metric": "mt_bench", "kind": "quoted", "value": 5.42, "source": "Table 1", **changes}


@pytest.mark.parametrize("missing", ["low", "high", "n", "interval"])
def test_a_bare_number_of_ours_is_refused(missing):
    with pytest.raises(ValueError, match=rf"recomputed mt_bench of MPT-Chat is a bare number: {missing} missing"):
        tables.frame([ours(**{missing: None})])


def test_a_retrained_number_also_needs_its_seeds():
    with pytest.raises(ValueError, match="bare number: seeds missing"):
        tables.frame([ours(kind="retrained")])
    assert len(tables.frame([ours(kind="retrained", seeds=3)])) == 1


def test_a_number_of_ours_without_value_is_refused():
    with pytest.raises(ValueError, match="has no value"):
        tables.frame([ours(value=None)])


def test_a_published_number_may_stand_alone():
    table = tables.frame([theirs()])
    assert table["low"].isna().all()


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([ours(), ours()], "two recomputed values for MPT-Chat, mt_bench"),
        ([ours(kind="guessed")], "no kind of result named 'guessed'; known: recomputed, retrained, quoted"),
        ([ours(low=5.6)], r"lies outside its interval 5\.6 to 5\.98"),
        ([ours(colour="red")], "no column colour"),
    ],
)
def test_what_breaks_the_rules_is_refused_by_name(rows, problem):
    with pytest.raises(ValueError, match=problem):
        tables.frame(rows)


def test_a_missing_column_is_refused():
    with pytest.raises(ValueError, match="lacks the column seeds"):
        tables.check(tables.frame([ours()]).drop(columns="seeds"))


def test_theirs_keep_their_order_and_rows_of_ours_alone_come_last():
    published = tables.frame([theirs(row="Zephyr", value=7.34), theirs()])
    recomputed = tables.frame([ours(row="koala-13b"), ours(), ours(metric="turn_1")])
    table = tables.side_by_side(recomputed, published)
    assert table[["row", "metric", "kind"]].to_numpy().tolist() == [
        ["Zephyr", "mt_bench", "quoted"],
        ["MPT-Chat", "mt_bench", "quoted"],
        ["MPT-Chat", "mt_bench", "recomputed"],
        ["MPT-Chat", "turn_1", "recomputed"],
        ["koala-13b", "mt_bench", "recomputed"],
    ]


def test_frames_stand_one_below_the_other_and_empty_ones_are_left_out():
    first, second = tables.frame([ours()]), tables.frame([ours(row="GPT-4")])
    assert tables.stacked(first, tables.frame([]), second)["row"].tolist() == ["MPT-Chat", "GPT-4"]
    assert tables.stacked(tables.frame([])).empty
    with pytest.raises(ValueError, match="two recomputed values for MPT-Chat"):
        tables.stacked(first, first)


def test_an_absent_side_leaves_the_other():
    published = tables.frame([theirs()])
    assert len(tables.side_by_side(tables.frame([]), published)) == 1
    assert len(tables.side_by_side(tables.frame([ours()]), tables.frame([]))) == 1


def test_theirs_never_stand_in_a_column_of_ours():
    with pytest.raises(ValueError, match="ours must hold recomputed or retrained values only, got quoted"):
        tables.side_by_side(tables.frame([theirs()]), tables.frame([]))
    with pytest.raises(ValueError, match="theirs must hold quoted values only, got recomputed"):
        tables.side_by_side(tables.frame([]), tables.frame([ours()]))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    session.begin("smoke", 1, notebook="13_test")
    return tmp_path


def test_the_file_holds_the_whole_frame(project):
    table = tables.side_by_side(tables.frame([ours(value=5.4591194968)]), tables.frame([theirs()]))
    path = tables.save(table, "zephyr/tab1")
    assert path == project / "build/smoke/tables/zephyr/tab1.csv"
    assert path.read_text() == (
        "row,metric,kind,value,low,high,n,seeds,interval,source\n"
        "MPT-Chat,mt_bench,quoted,5.42,,,,,,Table 1\n"
        'MPT-Chat,mt_bench,recomputed,5.4591195,4.9,5.98,159,,"80 questions, bootstrap 95 %",mt_bench_scores.csv\n'
    )
    assert len(tables.check(pd.read_csv(path))) == 2


def test_no_bare_number_reaches_a_file(project):
    table = tables.frame([ours()])
    table.loc[0, "low"] = None
    with pytest.raises(ValueError, match="bare number"):
        tables.save(table, "zephyr/tab1")
    assert not (project / "build").exists()


def test_people_see_published_beside_ours_with_interval_count_and_kind():
    table = tables.side_by_side(
        tables.frame([ours(), ours(kind="retrained", seeds=1, row="Zephyr")]),
        tables.frame([theirs(), theirs(row="Zephyr", value=7.34, low=7.1, high=7.5, interval="made up")]),
    )
    shown = tables.show(table, names={"mt_bench": "MT-Bench"})
    lines = [line.split(maxsplit=1) for line in str(shown).splitlines()]
    assert lines[0] == ["MT-Bench"]
    assert " ".join(lines[1]) == "published | recomputed | retrained"
    assert lines[2] == ["MPT-Chat", "5.42 | 5.46 [4.90, 5.98] (n 159) | –"]
    assert lines[3] == ["Zephyr", "7.34 [7.10, 7.50] | – | 5.46 [4.90, 5.98] (n 159, 1 seed)"]
    assert str(shown).splitlines()[4:6] == ["published: [made up]", "recomputed: [80 questions, bootstrap 95 %]"]
    html = shown._repr_html_()
    assert f'<span style="color:{tables.GREY}">5.42</span> | 5.46 [4.90, 5.98]' in html  # theirs grey, ours black


def test_a_turned_table_has_the_metrics_as_lines():
    shown = tables.show(tables.frame([ours(), ours(metric="turn_1")]), turned=True, digits=1)
    lines = [line.split() for line in str(shown).splitlines()]
    assert lines[0] == ["MPT-Chat"]
    assert [line[:2] for line in lines[2:4]] == [["mt_bench", "5.5"], ["turn_1", "5.5"]]


def test_a_name_out_of_a_file_cannot_write_html():
    shown = tables.show(tables.frame([ours(row="<script>alert(1)</script>", interval="<b>", metric="<i>")]))
    assert "<script>" not in shown.html and "<b>" not in shown.html and "<i>" not in shown.html
    assert "&lt;script&gt;" in shown.html


def test_an_empty_table_says_so():
    assert repr(tables.show(tables.frame([]))) == "no values at hand"


def test_words_are_shown_whole_and_escaped():
    frame = pd.DataFrame({"claim": [f"Z{n}" for n in range(80)], "statement": ["<b>long</b> " * 20] * 80})
    shown = tables.words(frame)
    assert all(f"Z{n}" in shown.html and f"Z{n}" in shown.text for n in range(80))
    assert shown.html.count("&lt;b&gt;long&lt;/b&gt;") == 20 * 80 and "<b>" not in shown.html
    assert "..." not in shown.text

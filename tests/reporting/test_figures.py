"""Figures: what is drawn says what the frame says, survives a grey print, fits its page, has the same bytes twice."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from zephyr_lab.core import session
from zephyr_lab.reporting import claims, figures, style, tables

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


@pytest.fixture(autouse=True)
def house():
    figures.house_style()


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEPHYR_LAB_ROOT", str(tmp_path))
    session.begin("tiny", 3, notebook="13_test")
    return tmp_path


def number(row, metric, kind, value, half=None, **rest) -> dict:
    ours = kind != "quoted"
    limits = {} if half is None else {"low": value - half, "high": value + half, "interval": "made up"}
    counts = {"n": 80} if ours else {"source": "Table 1"}
    return {"row": row, "metric": metric, "kind": kind, "value": value, **limits, **counts, **rest}


def scores() -> pd.DataFrame:
    return tables.frame(
        [
            number("A model of 7B", "mt_bench", "quoted", 5.42),
            number("A model of 7B", "mt_bench", "recomputed", 5.46, 0.5),
            number("Another", "mt_bench", "quoted", 6.0),
            number("Another", "win_rate", "quoted", 80.0, 2.0),
            number("Another", "win_rate", "retrained", 70.0, 9.0, seeds=3),
        ]
    )


def categories() -> pd.DataFrame:
    values = {
        "GPT-4": (9.65, 8.9, 9.0, 6.8, 8.55, 9.375, 9.7, 9.95),
        "Llama-2-70b-chat": (9.3, 7.5, 5.8, 3.3, 3.15, 7.25, 8.9, 9.6),
        "GPT-3.5-turbo": (9.2, 8.4, 5.65, 6.3, 6.9, 8.85, 8.7, 9.55),
    }
    rows = [
        number(row, metric, "recomputed", value, 0.05)
        for row, line in values.items()
        for metric, value in zip(CATEGORIES, line, strict=True)
    ]
    return tables.frame([*rows, number("GPT-4", "math", "quoted", 6.84), number("Claude-v1", "math", "quoted", 4.8)])


def log() -> pd.DataFrame:
    steps = np.arange(20.0)
    one = pd.DataFrame({"series": "train", "kind": "quoted", "x": steps, "y": 1 / (1 + steps)})
    two = pd.DataFrame({"series": "eval", "kind": "recomputed", "x": steps, "y": 0.2 + 0 * steps})
    return pd.concat([one, two.assign(low=0.1, high=0.3)])


def lines_of(ax) -> list:
    """What is drawn as lines, without the markers beside their names."""
    return [line for line in ax.lines if len(line.get_xdata()) > 1]


def differences() -> pd.DataFrame:
    """Rows with long names, which leave little room for panels, and tick labels as wide as they come."""
    return tables.frame(
        number(f"2x of 1x alpha and expert, merged {row}", metric, "recomputed", value, 0.48)
        for row, value in (("alone", -0.5), ("twice", 0.04))
        for metric in ("domain", "chat")
    )


def drawings() -> dict:
    both, (left, right) = figures.panels(2)
    figures.curves(log(), x_label="step", y_label="loss", ax=left)
    line = pd.DataFrame({"series": "a log", "x": [0.0, 1.0, 2.0], "y": [1.0, 3.0, 5.0]})
    figures.fits(line, {"a log": (1.0, 2.0)}, x_label="nats", y_label="reward", ax=right)
    counts = pd.DataFrame({"right": [3, 0], "wrong": [1, 2]}, index=["one paper", "another"])
    return {
        "dot_plot": figures.dot_plot(scores(), "mt_bench", x_label="MT-Bench score"),
        "dot_plots": figures.dot_plots(scores(), {"mt_bench": "MT-Bench score", "win_rate": "win rate, %"}),
        "narrow": figures.dot_plots(differences(), {"domain": "domain score", "chat": "chat score"}),
        "radar": figures.radar(categories()),
        "panels": both,
        "verdict_counts": figures.verdict_counts(counts, x_label="claims"),
    }


def drawn_texts(figure, monkeypatch) -> list[Text]:
    """The texts that really reach the page: a tick outside the axis has a label, but is not drawn."""
    canvas, drawn, draw = FigureCanvasAgg(figure), [], Text.draw

    def record(text, *arguments):
        drawn.append(text)
        return draw(text, *arguments)

    canvas.draw()  # lays the page out
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    return [text for text in drawn if text.get_visible() and text.get_text().strip()]


# looks


def test_methods_of_one_exhibit_differ_in_shape_not_only_in_colour():
    for family in style.FAMILIES:
        markers = [style.MARKERS[name] for name in family]
        assert len(set(markers)) == len(markers), family


def test_unknown_methods_get_shapes_of_their_own_in_the_order_given():
    found = style.looks(["ddpo", "mine", "yours", "dsft", "mine"])
    assert list(found) == ["ddpo", "mine", "yours", "dsft"]
    assert found["ddpo"] == style.LOOKS["ddpo"]
    assert len({look.marker for look in found.values()}) == 4
    assert found == style.looks(["ddpo", "mine", "yours", "dsft"])
    with pytest.raises(ValueError, match="12 series without a look"):
        style.looks([f"arm {place}" for place in range(12)])


def test_published_is_hollow_and_dashed_and_ours_filled_and_solid():
    ax = figures.dot_plot(scores(), "win_rate", x_label="win rate, %").axes[0]
    bars = {line.get_linestyle() for line in ax.lines if len(line.get_xdata()) == 2}
    marks = {line.get_marker(): line.get_markerfacecolor() for line in ax.lines if len(line.get_xdata()) == 1}
    assert bars == {"-", "--"}
    assert marks.pop("D") == "white"
    assert list(marks.values()) == [style.COLOURS["ddpo"]]


def test_every_verdict_has_a_fill_of_its_own():
    assert set(style.VERDICT_FILLS) == set(claims.VERDICTS)
    assert len(set(style.VERDICT_FILLS.values())) == len(claims.VERDICTS)
    with pytest.raises(ValueError, match="no verdict named 'maybe'"):
        figures.verdict_counts(pd.DataFrame({"maybe": [1]}), x_label="claims")


# what is drawn


def test_each_number_is_drawn_at_its_value_with_its_interval():
    ax = figures.dot_plot(scores(), "mt_bench", x_label="score").axes[0]
    points = sorted(float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1)
    bars = [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert points == [5.42, 5.46, 6.0]
    assert bars == [[pytest.approx(4.96), pytest.approx(5.96)]]  # a published value without error has no bar
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A model of 7B", "Another"]


def test_the_legend_says_whose_numbers_and_of_what_the_bars_are():
    figure = figures.dot_plots(scores(), {"mt_bench": "score", "win_rate": "win rate, %"})
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["published (Table 1); bar: made up", "recomputed; bar: made up", "retrained; bar: made up"]
    bare = figures.dot_plot(scores().iloc[[0]], x_label="score")
    assert [text.get_text() for text in bare.legends[0].get_texts()] == ["published (Table 1); no interval given"]


def test_the_radar_runs_from_0_to_10_and_closes_each_polygon():
    figure = figures.radar(categories(), order=CATEGORIES)
    ax = figure.axes[0]
    assert ax.get_ylim() == (0, 10)
    first = ax.lines[0]
    assert list(first.get_ydata()) == [9.65, 8.9, 9.0, 6.8, 8.55, 9.375, 9.7, 9.95, 9.65]
    assert len({line.get_marker() for line in ax.lines[:3]}) == 3
    assert len({str(line._dash_pattern) for line in ax.lines[:3]}) == 3  # no public way to ask for dashes
    hollow = [line for line in ax.lines[3:] if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow] == [[6.84], [4.8]]
    assert hollow[0].get_marker() == "D"


def test_a_radar_keeps_spokes_that_nothing_is_known_of():
    table = categories().query("kind == 'quoted'")
    ax = figures.radar(table, order=CATEGORIES).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CATEGORIES)
    assert len(ax.lines) == 2


def test_the_radar_names_each_polygon_beside_it():
    named = {text.get_text() for text in figures.radar(categories()).axes[0].texts}
    assert named == {"GPT-4", "Llama-2-70b-chat", "GPT-3.5-turbo"}


def test_an_unknown_metric_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no metric named 'speed'; known: mt_bench, win_rate"):
        figures.dot_plot(scores(), "speed", x_label="x")
    with pytest.raises(ValueError, match=r"metric 'writing' is none of the spokes: speed"):
        figures.radar(categories(), order=["speed"])
    with pytest.raises(ValueError, match=r"2 metrics, name one of: mt_bench, win_rate"):
        figures.dot_plot(scores(), x_label="x")


def test_a_table_without_numbers_gives_a_page_that_says_so():
    figure = figures.dot_plots(tables.frame([]), {"mt_bench": "score"})
    assert [text.get_text() for text in figure.texts] == ["no values at hand"]


def test_published_curves_are_dashed_and_hollow_and_an_interval_is_a_band():
    ax = figures.curves(log(), x_label="step", y_label="loss").axes[0]
    train, evaluation = ax.lines
    assert train.is_dashed() and train.get_markerfacecolor() == "white"
    assert not evaluation.is_dashed() and evaluation.get_markerfacecolor() == style.COLOURS["eval"]
    assert len(ax.collections) == 1
    assert [text.get_text() for text in ax.texts] == ["train", "eval"]


def test_a_band_says_below_the_axis_of_what_it_is():
    assert figures.curves(log(), x_label="step", y_label="loss").axes[0].get_xlabel() == "step"
    named = log().assign(interval="3 seeds, t 95 %")
    ax = figures.curves(named, x_label="step", y_label="loss").axes[0]
    assert ax.get_xlabel() == "step\nband: 3 seeds, t 95 %"


def test_a_published_line_keeps_the_hue_of_its_series_and_has_a_name_of_its_own():
    theirs = log()[lambda frame: frame["series"] == "eval"].assign(kind="quoted", label="eval, their log")
    ax = figures.curves(pd.concat([log(), theirs]), x_label="step", y_label="loss").axes[0]
    assert [text.get_text() for text in ax.texts].count("eval, their log") == 1
    ours, published = (line for line in lines_of(ax) if line.get_color() == style.COLOURS["eval"])
    assert not ours.is_dashed() and published.is_dashed()


def test_whole_epochs_have_no_ticks_between():
    few = log()[lambda frame: frame["x"] <= 3]
    ticks = figures.curves(few, x_label="epochs", y_label="loss").axes[0].get_xticks()
    assert all(tick == round(tick) for tick in ticks) and {0, 1, 2, 3} <= set(ticks)
    halves = few.assign(x=few["x"] / 2)
    assert 0.5 in figures.curves(halves, x_label="epochs", y_label="loss").axes[0].get_xticks()


def test_names_of_lines_stand_beyond_the_longest():
    short = log()[lambda frame: (frame["series"] == "train") | (frame["x"] < 10)]
    texts = figures.curves(short, x_label="step", y_label="loss").axes[0].texts
    assert {text.get_text(): text.xy[0] for text in texts} == {"train": 19, "eval": 19}


def test_a_name_that_is_not_at_the_end_of_its_line_has_the_line_s_marker_before_it():
    one, two = (pd.DataFrame({"series": name, "kind": "recomputed", "x": [0, 1], "y": [0.0, y]}) for name, y in
                (("train", 1.0), ("eval", 0.99)))  # fmt: skip
    ax = figures.curves(pd.concat([one, two]), x_label="step", y_label="loss").axes[0]
    beside = {line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1}
    assert beside == {style.MARKERS["train"], style.MARKERS["eval"]}
    apart = figures.curves(pd.concat([one, two.assign(y=[0.0, 0.5])]), x_label="step", y_label="loss").axes[0]
    assert len(lines_of(apart)) == len(apart.lines) == 2


def test_a_line_under_another_is_drawn_wide_enough_to_be_seen():
    names = ("train", "eval", "chosen")
    same = {name: pd.DataFrame({"series": name, "kind": "recomputed", "x": [0, 1], "y": [0.0, 1.0]}) for name in names}
    same["chosen"]["y"] = [1.0, 0.0]
    below, above, other = lines_of(figures.curves(pd.concat(same.values()), x_label="s", y_label="l").axes[0])
    assert below.get_linewidth() > above.get_linewidth() == other.get_linewidth()
    assert below.get_markersize() > above.get_markersize() == other.get_markersize()


def test_a_radar_calls_nothing_recomputed_that_is_published():
    theirs = categories().query("kind == 'quoted'")
    assert figures.radar(categories()).legends[0].get_title().get_text().startswith("recomputed, mean")
    title = figures.radar(theirs, order=CATEGORIES).legends[0].get_title().get_text()
    assert title == "published values alone:\nnone of ours is at hand"
    named = [text.get_text() for text in figures.radar(theirs, order=CATEGORIES).legends[0].get_texts()]
    assert [name.partition(",")[0] for name in named] == ["GPT-4", "Claude-v1"]  # no mark that is not drawn
    ours = categories().query("kind != 'quoted'").assign(kind="retrained", seeds=3)
    assert figures.radar(ours).legends[0].get_title().get_text().startswith("retrained, mean")


def test_no_letter_is_cut_and_no_two_texts_touch(monkeypatch):
    for name, figure in drawings().items():
        texts = drawn_texts(figure, monkeypatch)
        assert len(texts) > 5
        width, height = figure.canvas.get_width_height()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        for said, box in boxes:
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{name}: {said!r} leaves the page: {box}"
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            near = a.padded(1.5, -1.5).overlaps(b.padded(1.5, -1.5))
            assert not near, f"{name}: {one!r} and {other!r} are not three pixels apart"


# files


def test_a_notebook_is_given_a_png_at_its_size_in_inches():
    """Without any inline backend: the bytes of the saved file, shown at 96 pixels an inch."""
    figure = figures.radar(categories())
    png, size = figure._repr_png_()
    assert png.startswith(b"\x89PNG") and png == figure.encode("png")
    assert size == {"width": round(96 * style.WIDE), "height": round(96 * 4.6)}


def test_files_land_below_the_build_and_bad_ids_are_refused(project):
    written = figures.save(figures.dot_plot(scores(), "mt_bench", x_label="score"), "zephyr/tab1")
    assert written == [project / "build/tiny/figures/zephyr" / name for name in ("tab1.svg", "tab1.png")]
    assert b"<dc:date>" not in written[0].read_bytes()
    for bad in ("tab1", "../tab1", "zephyr/Tab 1", "/tmp/x"):
        with pytest.raises(ValueError, match="an id is paper/name"):
            figures.save(figures.radar(categories()), bad)


def test_the_last_bit_of_a_place_changes_no_byte():
    """The solver of the layout leaves it to memory addresses."""
    contents = []
    for nudge in (0.0, 1e-15):
        figure, (ax,) = figures.panels(1)
        ax.plot([0, 1])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        ax.set_position([edge + nudge for edge in ax.get_position().bounds])
        contents.append(figure.encode("svg"))
    assert contents[0] == contents[1]


def test_two_processes_write_the_same_bytes(tmp_path):
    """Also under another hash seed, in another time zone."""
    started = [start_saving(tmp_path / seed, seed, zone) for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))]
    assert [process.wait() for process in started] == [0, 0]
    digests = [digests_below(tmp_path / seed) for seed in ("1", "2")]
    assert len(digests[0]) == 2 * len(drawings())
    assert digests[0] == digests[1]


def start_saving(root: Path, hash_seed: str, zone: str) -> subprocess.Popen:
    root.mkdir()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_figures as t\n"
        "from zephyr_lab.reporting import figures\n"
        "figures.house_style()\n"
        "for name, figure in t.drawings().items(): figures.save(figure, 'zephyr/' + name)\n"
    )
    environment = {**os.environ, "ZEPHYR_LAB_ROOT": str(root), "PYTHONHASHSEED": hash_seed, "TZ": zone}
    return subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent)], env=environment)


def digests_below(root: Path) -> dict[str, str]:
    folder = root / "build/tiny/figures/zephyr"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}

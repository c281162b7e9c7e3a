"""Sliders and their twin: the same outcome for every setting, which follows each slider the way it should."""

import json
import re

import pytest

from zephyr_lab.teaching import controls
from zephyr_lab.teaching.controls import CONTROLS, Control


def data_of(twin):
    return json.loads(re.search(r"const data = (\{.*?\});\n", twin.html)[1])


def test_every_setting_of_the_twin_says_what_the_library_says():
    twin = controls.twin()
    data = data_of(twin)
    assert twin.settings == len(data["outcomes"]) == 7 * 5 * 6
    sizes = [len(control["values"]) for control in data["controls"]]
    for places in ((0, 0, 0), (3, 2, 4), (6, 4, 5)):
        index = (places[0] * sizes[1] + places[1]) * sizes[2] + places[2]
        beta, noise, count = (control.values[place] for control, place in zip(CONTROLS, places, strict=True))
        *bars, caption = data["outcomes"][index]
        outcome = controls.explore(beta, noise, int(count))
        assert caption == outcome.caption
        assert bars[2] == pytest.approx(outcome.probabilities["DPO"], abs=1e-4)


def test_the_live_sliders_move_value_and_picture():
    box = controls.live()
    *sliders, printed, shown = box.children
    assert [slider.description for slider in sliders] == [control.label for control in CONTROLS]
    before = printed.value, shown.value
    sliders[0].value = 2.0
    assert controls.explore(2.0, 0.0, 100).caption in printed.value
    assert bytes(shown.value).startswith(b"\x89PNG") and (printed.value, shown.value) != before


def test_the_runner_gets_the_twin_and_a_person_the_sliders(monkeypatch, tmp_path):
    monkeypatch.setenv("ZEPHYR_LAB_RECORD", str(tmp_path / "events.jsonl"))
    assert isinstance(controls.play(), controls.Twin)
    monkeypatch.delenv("ZEPHYR_LAB_RECORD")
    assert type(controls.play()).__name__ == "VBox"


def test_a_label_cannot_end_the_script():
    hostile = (Control("beta", "</script><b>", (1.0,), 1.0),)
    html = controls.twin(hostile, lambda beta: controls.explore(beta, 0.0, 10)).html
    assert html.count("</script>") == 1 and "</script><b>" not in html


def test_a_start_that_is_no_place_of_the_slider_is_refused():
    with pytest.raises(ValueError, match=r"beta starts at 3\.0, which is none of \(1\.0, 2\.0\)"):
        Control("beta", "beta", (1.0, 2.0), 3.0)


def test_more_preferences_help_and_wrong_labels_hurt():
    few, many = (controls.explore(0.5, 0.0, count).kl_to_optimum for count in (10, 3000))
    assert many < few / 10
    clean, wrong = (controls.explore(0.5, noise, 3000).kl_to_optimum for noise in (0.0, 0.4))
    assert wrong > 10 * clean


def test_a_larger_beta_holds_the_optimum_at_the_reference():
    loose, tight = (controls.explore(beta, 0.0, 100).probabilities for beta in (0.1, 2.0))
    assert loose["optimum"][0] > 0.9
    assert tight["optimum"] == pytest.approx(tight["reference"], abs=0.12)


def test_a_moved_slider_keeps_the_preferences_that_were_drawn():
    # the first 10 preferences are the same, whatever is asked for
    ten, thirty = controls._counts(0.0, 10), controls._counts(0.0, 30)
    assert ten.sum() == 10 and (thirty >= ten).all()
    turned = controls._counts(0.4, 30)
    assert (turned + turned.transpose(-1, -2) == thirty + thirty.transpose(-1, -2)).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ((0.0, 0.0, 10), "beta must be positive"),
        ((0.5, 0.5, 10), r"noise must be in \[0, 0\.5\), got 0\.5"),
        ((0.5, 0.0, 0), "count must be from 1 to"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        controls.explore(*setting)

"""The study of steps and epochs: which stages it asks for, and verdicts that follow the data whichever way they go."""

import pandas as pd
import pytest

from zephyr_lab.core import files, session, settings
from zephyr_lab.core.profiles import PROFILES
from zephyr_lab.engine import stages
from zephyr_lab.lab import point_figures, zephyr_stages, zephyr_steps, zephyr_steps_claims
from zephyr_lab.lab.zephyr_steps import (
    BASE,
    CLOSE_DDPO,
    CLOSE_SECOND,
    DDPO,
    DSFT,
    SECOND,
    TABLE_3,
    WITHOUT,
    Steps,
    StepsSettings,
    cell,
    rejecting,
    with_beta,
)
from zephyr_lab.reporting import check, tables

SEEDS = 3
CLAIMS = ("Z1", "Z2", "Z3", "Z5", "Z8", "Z10", "Z14")
# a world in which every claim of the paper holds by a wide margin
HOLDS = {
    BASE: 2.0, WITHOUT: 3.0, DSFT: 5.0, SECOND: 4.5, DDPO: 6.0, CLOSE_SECOND: 5.0, CLOSE_DDPO: 5.8,
    cell(1, 1): 6.0, cell(1, 3): 7.0, cell(3, 1): 6.0, cell(3, 3): 5.0, rejecting("worst"): 5.0,
    with_beta(0.01, 1): 7.0,
}  # fmt: skip


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A session that writes below a folder of the test."""
    monkeypatch.setattr(session, "_current", session.Session("tiny", SEEDS, "test"))
    monkeypatch.setattr(session.Session, "build", property(lambda self: tmp_path))
    return tmp_path


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Finished stages without training: what their builds would have returned and written."""
    calls = {"generation_calls": 0.0}

    def metrics(stage):
        found = {"pairs": 500.0, "exact_chosen": 9.0, "exact_rejected": 6.0, "agreement": 0.8}
        return found if stage.name == "pairs" else {"held_out_kl": 0.4 + stage.seed / 10, **calls}

    def get_many(wanted):
        folders = []
        for number, stage in enumerate(wanted):
            folder = tmp_path / "store" / f"{stage.name}-{number}"
            files.write_json(folder / "held_out.json", [{"accuracy": 0.5}, {"accuracy": 0.7 + stage.seed / 100}])
            log = [
                {"step": 2 * done, "epoch": done / 10, "rewards/accuracies": 0.5 + done / 100}
                if done % 2
                else {"step": 2 * done, "epoch": done / 10, "eval_rewards/accuracies": 0.6 + stage.seed / 100}
                for done in range(6)
            ]
            files.write_json(folder / "log.json", log)
            folders.append(folder)
        return folders

    for module in (zephyr_steps, zephyr_steps_claims):
        monkeypatch.setattr(module, "metrics", metrics)
        monkeypatch.setattr(module, "get_many", get_many)
    return calls


def arms(profile="tiny"):
    return settings.load("zephyr", profile, "steps", StepsSettings)


def done_with(levels, *, seeds=SEEDS, tags=(), profile="tiny"):
    """All arms as if trained: each model's mean score is its level (5 unless said), a little apart from seed to seed;
    models in `tags` end no answer and emit role tags."""
    models = [zephyr_steps.models_of(profile, seed, arms(profile)) for seed in range(seeds)]
    rows = [
        {
            "seed": seed, "model": name, "run": run, "question_id": question, "category": category, "turn": turn,
            "prompt": f"{category}?", "text": f"{name} says", "finished": name not in tags, "tokens": 5,
            "role_tags": 2 * (name in tags), "score": levels.get(name, 5.0) + question % 3 / 10 + seed / 50,
            "core": 0.5, "explanation": 0.5, "style": 3, "cost": 0, "words": 8,
        }
        for seed in range(seeds)
        for name in models[0]
        for run in ("near-greedy", "hot")
        for question, category in ((81, "writing"), (111, "math"), (171, "stem"))
        for turn in (1, 2)
    ]  # fmt: skip
    answers = pd.DataFrame(rows)
    held_out = pd.DataFrame([
        {"seed": seed, "model": name, "sum": 0.6, "mean": 0.9 if name == DDPO else 0.8, "pairs": 100.0}
        for seed in range(seeds)
        for name in models[0]
    ])  # fmt: skip
    ddpo = {
        name: [one[name].stage for one in models]
        for name, model in models[0].items()
        if model.stage.name == "ddpo" and not model.folder
    }
    pairs = {name: [zephyr_stages.pairs(profile, seed) for seed in range(seeds)] for name in ("far", "close")}
    return Steps(arms(profile), answers, held_out, answers[answers["model"].isin([BASE, DSFT, DDPO])], ddpo, pairs)


def verdicts(done):
    shown = check.claims("zephyr", CLAIMS, zephyr_steps_claims.measured(done))
    return {line.split("  ")[0]: line.split("  ")[1].partition(":")[0] for line in repr(shown).splitlines()}


def test_claims_that_hold_in_the_data_are_reproduced(running, store):
    done = done_with(HOLDS, tags=(WITHOUT,))
    assert verdicts(done) == dict.fromkeys(CLAIMS, "reproduced")


@pytest.mark.parametrize(
    ("levels", "claim"),
    [
        ({DDPO: 4.0}, "Z1"),
        ({WITHOUT: 7.0}, "Z2"),
        ({SECOND: 6.5}, "Z3"),
        ({cell(1, 3): 5.5}, "Z5"),
        ({cell(3, 3): 6.5}, "Z5"),
        ({rejecting("worst"): 6.5}, "Z10"),
        ({with_beta(0.01, 1): 6.5}, "Z14"),
    ],
)
def test_data_that_go_the_other_way_contradict(running, store, levels, claim):
    found = verdicts(done_with({**HOLDS, **levels}, tags=(WITHOUT,)))
    assert found[claim] == "contradicted"


def test_an_arm_that_ends_like_the_others_contradicts_the_failure_of_the_template(running, store):
    # equal shares: the interval is 0 wide and lies at 0, which resolves nothing; more clean endings contradict
    assert verdicts(done_with(HOLDS))["Z2"] == "not resolved"
    assert verdicts(done_with(HOLDS, tags=(DDPO,)))["Z2"] == "contradicted"


def test_one_sampled_token_in_any_run_refutes_z8(running, store):
    store["generation_calls"] = 1.0
    frame = zephyr_steps_claims.measured(done_with(HOLDS)).set_index("row")
    runs = sum(map(len, done_with(HOLDS).ddpo.values()))
    assert (frame.loc["Z8", "value"], frame.loc["Z8", "n"]) == (runs, runs)
    assert verdicts(done_with(HOLDS))["Z8"] == "contradicted"


def test_one_seed_decides_nothing_but_the_count(running, store):
    found = verdicts(done_with(HOLDS, seeds=1))
    assert found == {**dict.fromkeys(CLAIMS, "not resolved"), "Z8": "reproduced"}


def test_arms_that_a_profile_leaves_out_are_claims_not_measured(running, store):
    found = verdicts(done_with(HOLDS, seeds=2, profile="smoke"))
    assert found["Z5"] == "not measured yet"


def test_table_3_has_the_papers_rows_beside_ours(running, store):
    table = zephyr_steps.table_3(done_with(HOLDS))
    both = table[table["metric"] == "mt_bench"].groupby("row")["kind"].apply(set)
    assert all(both[row] == {"quoted", "retrained"} for row in TABLE_3)
    ours = table[table["kind"] == "retrained"].set_index(["row", "metric"])["value"]
    assert ours[DDPO, "mt_bench"] == pytest.approx(6.0 + (0 + 0 + 0) / 30 + 0.02)
    assert ours[DSFT, "win_rate"] == 50 and ours[DDPO, "win_rate"] == 100


def test_every_table_can_be_saved_with_three_seeds_and_with_one(running, store):
    for seeds in (3, 1):
        done = done_with(HOLDS, seeds=seeds)
        for make in (
            zephyr_steps.table_3, zephyr_steps.parts, zephyr_steps.gap, zephyr_steps.pair_quality, zephyr_steps.grid,
            zephyr_steps.recipes, zephyr_steps.rejected, zephyr_steps.betas, zephyr_steps.spread,
            zephyr_steps_claims.endings,
        ):  # fmt: skip
            tables.save(make(done), f"zephyr/{make.__name__}")


def test_the_grid_holds_every_cell_and_the_three_printed_points(running, store):
    table = zephyr_steps.grid(done_with(HOLDS))
    assert len(table[table["kind"] == "retrained"]) == 12
    quoted = table[table["kind"] == "quoted"].set_index(["row", "metric"])["value"].to_dict()
    assert quoted == {
        ("1 SFT epoch", "0 DPO epochs"): 6.64,
        ("1 SFT epoch", "1 DPO epoch"): 7.0,
        ("1 SFT epoch", "3 DPO epochs"): 7.34,
    }


def test_the_gap_is_preference_learning_less_imitation(running, store):
    table = zephyr_steps.gap(done_with(HOLDS)).set_index(["row", "metric"])["value"]
    assert table["far", "mt_bench"] == pytest.approx(1.5)
    assert table["close", "score at T = 0.7"] == pytest.approx(0.8)


def test_endings_count_role_tags_and_answers_without_end(running, store):
    table = zephyr_steps_claims.endings(done_with(HOLDS, tags=(WITHOUT,))).set_index(["row", "metric"])["value"]
    assert table[WITHOUT, "ended, no role tag, %"] == 0
    assert table[WITHOUT, "role tag, %"] == table[WITHOUT, "no end token, %"] == 100
    assert table[DSFT, "ended, no role tag, %"] == 100
    assert table[DSFT, "goes on after a line break, %"] == 0
    done = done_with(HOLDS)
    done.answers.loc[done.answers["model"] == BASE, "text"] = "Yes.\nWhat is next?"
    table = zephyr_steps_claims.endings(done).set_index(["row", "metric"])["value"]
    assert table[BASE, "goes on after a line break, %"] == 100


def test_recipes_stand_beside_what_was_printed_of_the_released_models(running, store):
    table = zephyr_steps.recipes(done_with(HOLDS))
    quoted = table[table["kind"] == "quoted"].set_index("row")["value"].to_dict()
    assert quoted == {"paper, 1 epoch": 7.0, "paper, 3 epochs": 7.34, "alpha card": 6.88, "beta card": 7.34}
    assert set(table["metric"]) == {"mt_bench", "score at T = 0.7", "win_rate", "KL, nats"}


def test_accuracy_curves_are_means_over_seeds_beside_the_released_log(running, store):
    curves = zephyr_steps.accuracies(done_with(HOLDS))
    ours = curves[curves["kind"] == "retrained"]
    held_out, train = (ours[ours["series"] == name] for name in ("eval", "train"))
    assert held_out["y"].tolist() == pytest.approx([0.61] * 2)  # not the first, where policy and reference are equal
    assert train["x"].tolist() == pytest.approx([0.3, 0.5])
    assert (held_out["low"] < held_out["y"]).all()
    assert set(ours["interval"]) == {"3 seeds, t 95 %"}
    quoted = curves[curves["kind"] == "quoted"]
    assert len(quoted) == 58 and set(quoted["label"]) == {"eval, beta log"}
    assert zephyr_steps.accuracies(done_with(HOLDS, seeds=1))["low"].isna().all()


def test_figure_3_draws_every_line_and_the_published_points_apart(running, store):
    done = done_with(HOLDS)
    _, right = point_figures.figure_3(zephyr_steps.accuracies(done), zephyr_steps.grid(done)).axes
    lines = {line.get_label(): line for line in right.get_lines()}
    assert set(lines) == {"1 SFT epoch", "1 SFT epoch, published", "2 SFT epochs", "3 SFT epochs"}
    assert lines["1 SFT epoch, published"].get_xdata().tolist() == [0, 1, 3]
    assert lines["1 SFT epoch, published"].get_markerfacecolor() == "white"
    assert lines["1 SFT epoch"].get_color() == lines["1 SFT epoch, published"].get_color()
    assert "3 seeds, t 95 %" in right.get_legend().get_title().get_text()


def test_differences_are_drawn_around_zero(running, store):
    picture = point_figures.around_zero(zephyr_steps.gap(done_with(HOLDS)), {"mt_bench": "difference"})
    assert [0, 0] in [list(line.get_xdata()) for line in picture.axes[0].get_lines()]


def test_samples_are_whole_dialogues_of_each_row(running, store):
    shown = zephyr_steps.samples(done_with(HOLDS))
    assert len(shown) == 3 * 5 * 2
    assert shown["turn"].tolist() == [1, 2] * 15
    path = zephyr_steps.save_samples(shown)
    assert path.relative_to(running).as_posix() == "tables/zephyr/samples.csv"
    assert len(pd.read_csv(path)) == 30


def test_statements_of_the_documents_get_our_effects_beside_their_verdicts(running, store):
    effects = zephyr_steps_claims.beside_statements(done_with(HOLDS)).set_index("row")
    assert effects.loc["S0-2", "value"] == pytest.approx(50)  # error 0.2 to 0.1
    assert effects.loc["S0-3", "value"] == pytest.approx(21)  # 71 %, above chance
    assert effects.loc["S0-3", "low"] < 21 < effects.loc["S0-3", "high"]
    assert effects.loc["S1-33", "value"] == pytest.approx(HOLDS[WITHOUT] - HOLDS[DDPO])
    shown = repr(check.claims("overview", list(effects.index), zephyr_steps_claims.beside_statements(done_with(HOLDS))))
    assert "S0-2  unsupported  +50 (no spread)" in shown and "S1-33  wrong  -3 (no spread)" in shown
    alone = zephyr_steps_claims.beside_statements(done_with(HOLDS, seeds=1))
    assert alone["low"].isna().all()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_arms(profile):
    models = zephyr_steps.models_of(profile, 0, arms(profile))
    assert {BASE, *TABLE_3, CLOSE_DDPO, CLOSE_SECOND, cell(1, 3)} <= set(models)


def test_the_papers_own_runs_are_those_that_other_notebooks_ask_for():
    models = zephyr_steps.models_of("tiny", 1, arms())
    keys = {name: stages.key(model.stage) for name, model in models.items()}
    assert keys[DSFT] == stages.key(zephyr_stages.dsft("tiny", 1))
    assert keys[cell(1, 3)] == keys[cell(1, 1)] == stages.key(zephyr_stages.ddpo("tiny", 1))
    assert keys[DDPO] == stages.key(zephyr_stages.ddpo("tiny", 1, epochs=1)) != keys[cell(1, 3)]
    first = zephyr_steps.base_arms("tiny", 0)
    assert stages.key(first[DDPO].stage) == stages.key(zephyr_steps.models_of("tiny", 0, arms())[DDPO].stage)
    # a training costs more to start than to run: one that is not needed would show in the ten minutes
    assert len({key for name, key in keys.items() if name != BASE}) == 18


def test_settings_without_the_papers_epoch_are_refused():
    with pytest.raises(ValueError, match=r"^sft_epochs must hold 1, the paper's, got \(2, 3\)$"):
        StepsSettings(sft_epochs=(2, 3), rejected=(), cards=(), betas=(), bases=3)

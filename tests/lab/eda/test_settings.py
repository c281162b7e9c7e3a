"""The paper profile of EDA trains what is in print: settings against papers/eda/published.yaml, figure by figure."""

import re

import pytest

from zephyr_lab.core import settings
from zephyr_lab.lab import Lab
from zephyr_lab.lab.eda import stages as draft_stages
from zephyr_lab.lab.eda.laboratory import CloseLook, DraftArms
from zephyr_lab.lab.eda.stages import PAPER, TargetSettings
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.methods.recipes.draft_data import CHAT
from zephyr_lab.methods.recipes.pretrain import HubModel
from zephyr_lab.models.draft_shape import DraftShape, matching_rank, trained_share
from zephyr_lab.reporting import published

MATH, CODE, CLINIC = "math", "code", "clinic"
STAGES = ("stage_1", "stage_2")


def stage(name, profile="paper"):
    of_one_arm = {"arms": ("a",), "parts": ("all",), "ranks": (0,), "starts": ("new",), "data": ("data 0",)}
    of_target = {"target_folder": "", "draft_folder": "", "system_turn": False}
    return settings.load(PAPER, profile, ("draft", name), DraftRecipe, **of_one_arm, **of_target)


def shape(profile, hidden, entries):
    table = stage("stage_2", profile)
    return DraftShape(
        entries=entries, hidden=hidden, heads=table.heads, kv_heads=table.kv_heads, head_size=hidden // table.heads,
        shared_experts=table.shared_experts, private_experts=table.private_experts, shared_width=table.shared_width,
        private_width=table.private_width, top=table.top, routers=table.routers,
    )  # fmt: skip


def read(recipe):
    return published.recipe(PAPER, recipe).settings


def printed(entry, key):
    return published.load(PAPER).entries[entry].values[key]


@pytest.mark.parametrize("name", STAGES)
def test_training_is_as_read(name):
    ours, theirs = stage(name), read("stage1")
    assert ours.learning_rate == theirs["lr"]
    assert ours.batch == theirs["global_batch"]
    assert ours.max_length == theirs["max_length"]
    assert ours.warmup == int(re.search(r"warm-up (\d+) steps", theirs["schedule"])[1])
    assert ours.clip == float(re.search(r"clip ([\d.]+)", theirs["optimizer"])[1])
    assert ours.optimizer == "adamw" and ours.weight_decay == 0.0
    # 95 % of 68,000 dialogues, 20 epochs
    assert ours.steps == int(0.95 * 68_000) * theirs["epochs"] // theirs["global_batch"]
    # Linear decay over 800,000 steps: where the last of our steps stands on that line.
    decayed = 1 - (ours.steps - ours.warmup) / (800_000 - ours.warmup)
    assert ours.final_share == pytest.approx(decayed, abs=5e-4)


@pytest.mark.parametrize("name", STAGES)
def test_the_draft_is_as_read(name):
    ours, theirs = stage(name), printed("draft", "shape")
    assert (ours.heads, ours.kv_heads, ours.shared_width) == (theirs["heads"], theirs["kv_heads"], theirs["ffn"])
    assert (ours.shared_experts, ours.private_experts, ours.top, ours.routers) == (1, 1, 1, True)
    assert (ours.feature_weight, ours.token_weight) == (1.0, 0.1)
    assert (ours.reduction, ours.counted, ours.noise, ours.embedding) == ("padded", "input", 0.2, "draft")


def test_half_a_private_width_gives_the_quoted_sizes():
    theirs = printed("draft", "shape")
    counted = shape("paper", theirs["hidden"], theirs["vocabulary"])
    trained, full = counted.trained("private_and_fc"), counted.with_full_private_width.own
    assert int(trained / 1e6) == published.cell(PAPER, "cost", "EDA", "trained_size")  # 127.5, printed cut off
    assert int(full / 1e6) == published.cell(PAPER, "cost", "Full-FT", "trained_size")  # 462.4
    assert trained_share(counted, "private_and_fc").of_full_width == pytest.approx(0.276, abs=5e-4)


def test_targets_and_data_are_the_published_ones():
    targets = settings.load(PAPER, "paper", "targets", TargetSettings)
    for table, name in (("math_t0", MATH), ("code_t0", CODE)):
        assert published.exhibit(PAPER, table).caption.endswith(getattr(targets, name).split("/")[1])
    assert targets.clinic.endswith("Meditron3-Qwen2.5-7B")
    assert "Qwen2.5-7B" in read("stage1")["model"] and targets.chat == "Qwen/Qwen2.5-7B"
    chats = draft_stages.pool("paper", 0, CHAT).recipe
    assert chats.id in read("stage1")["data"] and f"{chats.rows:,} dialogues" in read("stage1")["data"]
    questions = draft_stages.pool("paper", 0, MATH).recipe
    assert questions.id.split("/")[1] in read("stage2")["data"] and f"{questions.rows:,}" in read("stage2")["data"]
    model = draft_stages.target("paper", 0, MATH).stage
    assert isinstance(model.recipe, HubModel) and model.recipe.model == targets.math


@pytest.mark.parametrize(("name", "table"), [(MATH, "math_t0"), (CODE, "code_t0"), (CLINIC, "medical")])
def test_benchmarks_are_those_of_the_table(name, table):
    asked = draft_stages.pool("paper", 0, name).recipe.benchmarks
    if name == CLINIC:
        assert set(asked) <= set(published.wide(PAPER, table)["benchmark"])
    else:
        columns = [column.removesuffix("_tau") for column in published.wide(PAPER, table) if column.endswith("_tau")]
        assert [*asked, "avg"] == columns


def test_decoding_is_as_read():
    text = read("evaluation")["tree"]
    loop = settings.load(PAPER, "paper", "loop", CloseLook)
    assert loop.tree_nodes == int(re.search(r"\((?:\S+ )*?(\d+) drafted tokens\)", text)[1])
    assert loop.tree_top == int(re.search(r"top-(\d+)", text)[1])
    assert loop.tree_depth == int(re.search(r"up to (\d+) levels", text)[1])
    target, asked = draft_stages.target("paper", 0, MATH), draft_stages.pool("paper", 0, MATH)
    lab = Lab("eda", "paper", 1)
    drafts = {"draft": lab.draft(lab.target(CHAT), lab.original(CHAT)).of(0)}
    scores = draft_stages.scores("paper", 0, drafts, target=target, asked=asked).recipe
    assert scores.lengths[0] + 1 == int(re.search(r"at most (\d+) tokens", text)[1])
    assert scores.max_new_tokens == int(re.search(r"(\d+) for the draft run", read("evaluation")["max_new_tokens"])[1])
    assert scores.rows_at_once == read("evaluation")["batch"]


@pytest.mark.parametrize(
    ("profile", "hidden", "entries"),
    [("smoke", 64, 1024), ("tiny", 96, 1024), ("world-gpu", 512, 4096), ("gpu", 576, 49_152), ("paper", 3584, 152_064)],
)
def test_the_matched_rank_trains_as_many_parameters_as_eda_as_nearly_as_can_be(profile, hidden, entries):
    counted = shape(profile, hidden, entries)
    ours = settings.load(PAPER, profile, "arms", DraftArms)
    assert ours.matched_rank == matching_rank(counted, counted.trained("private_and_fc"))


def test_original_data_are_general_conversations_in_print_and_the_pool_s_own_in_the_world():
    assert draft_stages.original("paper", 0, MATH).recipe == draft_stages.pool("paper", 0, CHAT).recipe
    assert draft_stages.original("tiny", 0, MATH).recipe == draft_stages.pool("tiny", 0, MATH).recipe


def test_the_ddpo_model_is_a_target_only_where_a_draft_of_the_chat_target_fits_it():
    assert draft_stages.targets("tiny") == ("math", "code", "clinic", "dDPO")
    assert draft_stages.targets("paper") == ("math", "code", "clinic")

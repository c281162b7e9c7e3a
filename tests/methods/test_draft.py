"""Draft training moves what an arm names and nothing else, on the same batches in every arm, and survives kills."""

import shutil
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tiny_drafts import little_target
from tiny_models import small_model, small_tokenizer
from zephyr_lab.core.files import read_json, write_text
from zephyr_lab.losses.draft import feature_losses, soft_cross_entropies
from zephyr_lab.methods import draft_loss
from zephyr_lab.methods.draft_loss import Row, collate
from zephyr_lab.methods.recipes.draft import DraftRecipe
from zephyr_lab.methods.stages import draft, world_data
from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models import draft_files, saved
from zephyr_runs import DIALOGUES

RECIPE = DraftRecipe(
    arms=("stage 1",),
    parts=("all",),
    ranks=(0,),
    starts=("new",),
    data=("dialogues",),
    target_folder="",
    draft_folder="",
    kind="feature",
    hidden=0,
    layers=0,
    heads=2,
    kv_heads=1,
    shared_experts=1,
    private_experts=1,
    shared_width=24,
    private_width=12,
    top=1,
    routers=True,
    embedding="draft",
    feature_weight=1.0,
    token_weight=0.1,
    reduction="tokens",
    counted="predicted",
    noise=0.0,
    steps=12,
    batch=4,
    micro_batch=4,
    learning_rate=1e-2,
    warmup=2,
    final_share=0.1,
    optimizer="adamw",
    weight_decay=0.0,
    clip=1.0,
    keep_at=(),
    max_length=60,
    system_turn=False,
    features="kept",
    checkpoint_every=5,
    device="cpu",
)
ADAPTED = {
    "all": ("all", 0, "draft"),
    "lora": ("lora", 2, "draft"),
    "private": ("private", 0, "draft"),
    "private, fresh": ("private_and_fc", 0, "fresh_private"),
    "fc": ("fc", 0, "draft"),
    "none": ("none", 0, "draft"),
}


def adapting(names, **changes):
    """The recipe with arms of `ADAPTED`."""
    parts, ranks, starts = zip(*(ADAPTED[name] for name in names), strict=True)
    columns = {"arms": tuple(names), "parts": parts, "ranks": ranks, "starts": starts}
    return replace(RECIPE, **columns, data=("dialogues",) * len(names), draft_folder="stage 1", **changes)


@dataclass(frozen=True)
class Run:
    """A stage's folders, as in a worker: `out` starts empty at each build, checkpoints stay."""

    folder: Path
    inputs: dict[str, Path]

    @property
    def out(self):
        return self.folder / "out"

    def build(self, recipe, *, seed=0, progress=lambda *steps, **numbers: None):
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        context = SimpleNamespace(checkpoints=self.folder / "checkpoints", progress=progress)
        return draft.build(recipe, seed=seed, inputs=self.inputs, out=self.out, context=context)

    def contents(self):
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "dialogues").mkdir()
    recipe = replace(DIALOGUES, rows=16, held_out=4)
    world_data.build_dialogues(recipe, seed=0, inputs={}, out=folder / "dialogues", context=None)
    saved.save(small_model(0, hidden=16, heads=2, kv_heads=1, ffn=24), small_tokenizer(), folder / "target")
    return {"target": folder / "target", "dialogues": folder / "dialogues"}


@pytest.fixture(scope="module")
def stage_1(inputs, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("stage_1"), inputs)
    return run, run.build(replace(RECIPE, steps=40))


@pytest.fixture(scope="module")
def adapted(inputs, stage_1, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("adapted"), {**inputs, "draft": stage_1[0].out})
    return run, run.build(adapting(list(ADAPTED)))


def weights(folder):
    return draft_files.load(folder).state_dict()


def test_it_learns_and_says_how_well(stage_1):
    run, metrics = stage_1
    assert metrics["stage 1/held_out_loss"] < 0.9 * metrics["stage 1/held_out_loss_start"]
    assert metrics["stage 1/loss"] < metrics["stage 1/loss_start"]
    assert metrics["stage 1/rows"] == 16
    assert [row["step"] for row in read_json(run.out / "stage 1/log.json")] == list(range(1, 41))
    assert metrics["stage 1/parameters"] == draft_files.load(run.out / "stage 1").shape.own


def test_each_arm_moves_its_part_and_nothing_else(stage_1, adapted):
    start = weights(stage_1[0].out / "stage 1")
    moved = {}
    for arm in ADAPTED:
        found = weights(adapted[0].out / arm)
        moved[arm] = {name for name in start if not torch.equal(found[name], start[name])}
    learnable = {name for name in start if name != "embedding.weight" and "router" not in name}
    private = {name for name in learnable if name.startswith("private")}
    assert moved["all"] == learnable  # a router with one expert to choose gets no gradient
    assert moved["lora"] == {name for name in learnable if name not in ("norm.weight", "fc.bias")}
    assert moved["private"] == private
    assert moved["private, fresh"] == private | {"fc.weight", "fc.bias", "private.router.weight"}
    assert moved["fc"] == {"fc.weight", "fc.bias"}
    assert moved["none"] == set()


def test_lora_moves_each_map_by_a_matrix_of_its_rank(stage_1, adapted):
    start, found = weights(stage_1[0].out / "stage 1"), weights(adapted[0].out / "lora")
    for name in ("fc.weight", "q_proj.weight", "shared.experts.0.down.weight"):
        assert torch.linalg.matrix_rank((found[name] - start[name]).double(), rtol=1e-4) == 2


def test_shares_and_counts_of_the_arms_are_told(adapted):
    run, metrics = adapted
    shape = draft_files.load(run.out / "all").shape
    assert metrics["lora/parameters"] == shape.lora(2)
    assert metrics["private/parameters"] == shape.private
    assert metrics["none/parameters"] == 0
    assert metrics["private/share_of_draft"] == pytest.approx(shape.private / shape.own)
    assert "none/loss" not in metrics
    notes = read_json(run.out / "lora/draft.json")["notes"]
    assert (notes["part"], notes["rank"], notes["start"]) == ("lora", 2, "draft")


def test_arms_take_the_same_batches_so_equal_arms_are_equal(inputs, stage_1, tmp_path):
    run = Run(tmp_path, {**inputs, "draft": stage_1[0].out})
    two = {name: getattr(adapting(["fc"]), name) * 2 for name in ("parts", "ranks", "starts", "data")}
    run.build(replace(adapting(["fc"]), arms=("a", "b"), **two, noise=0.2))
    assert (run.out / "a/log.json").read_bytes() == (run.out / "b/log.json").read_bytes()
    assert (run.out / "a/draft.safetensors").read_bytes() == (run.out / "b/draft.safetensors").read_bytes()


@pytest.mark.parametrize("part", ["all", "lora"])
def test_stopped_at_any_step_it_ends_in_the_same_bytes(inputs, stage_1, tmp_path, part):
    recipe = adapting(["fc", part], keep_at=(3, 5), noise=0.2, steps=8, checkpoint_every=3)
    given = {**inputs, "draft": stage_1[0].out}
    whole, stopped = Run(tmp_path / "whole", given), Run(tmp_path / "stopped", given)
    whole.build(recipe)

    class Stop(Exception):
        pass

    for last in (4, 11, 15):  # of 16 steps in two arms

        def progress(step, total, *, last=last, **numbers):
            assert total == 16
            if step == last:
                raise Stop

        with pytest.raises(Stop):
            stopped.build(recipe, progress=progress)
    stopped.build(recipe)
    assert stopped.contents() == whole.contents()


def test_a_kept_draft_is_that_of_a_shorter_run(inputs, tmp_path):
    long, short = Run(tmp_path / "long", inputs), Run(tmp_path / "short", inputs)
    constant = replace(RECIPE, warmup=0, final_share=1.0)
    long.build(replace(constant, keep_at=(5,)))
    short.build(replace(constant, steps=5))
    kept, wanted = weights(long.out / "stage 1/steps/5"), weights(short.out / "stage 1")
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


def test_features_computed_in_each_step_are_those_that_are_kept(inputs, tmp_path):
    kept, fresh = Run(tmp_path / "kept", inputs), Run(tmp_path / "fresh", inputs)
    one = kept.build(replace(RECIPE, steps=4))
    two = fresh.build(replace(RECIPE, steps=4, features="each_step"))
    assert one["stage 1/held_out_loss"] == pytest.approx(two["stage 1/held_out_loss"], rel=1e-4)


def test_muon_trains_matrices_and_adamw_the_rest(inputs, tmp_path):
    run = Run(tmp_path, inputs)
    metrics = run.build(replace(RECIPE, optimizer="muon", learning_rate=2e-2))
    assert metrics["stage 1/held_out_loss"] < metrics["stage 1/held_out_loss_start"]
    assert weights(run.out / "stage 1")["fc.bias"].abs().max() > 0


def test_the_embedding_is_the_drafts_or_the_new_targets(inputs, stage_1, tmp_path):
    other = saved.load_model(inputs["target"])
    other.get_input_embeddings().weight.data.add_(0.5)
    saved.save(other, small_tokenizer(), tmp_path / "target")
    given = {**inputs, "draft": stage_1[0].out, "target": tmp_path / "target"}
    for whose, folder in (("draft", stage_1[0].out / "stage 1"), ("target", None)):
        run = Run(tmp_path / whose, given)
        run.build(adapting(["fc"], embedding=whose, steps=3))
        wanted = weights(folder)["embedding.weight"] if folder else other.get_input_embeddings().weight
        assert torch.equal(weights(run.out / "fc")["embedding.weight"], wanted)


def test_causal_drafts_train_whole_by_lora_or_not_at_all(inputs, tmp_path):
    shape = {"kind": "causal", "hidden": 12, "layers": 1, "private_experts": 0, "private_width": 0}
    first = Run(tmp_path / "first", inputs)
    metrics = first.build(replace(RECIPE, **shape, steps=30, token_weight=1.0))
    assert metrics["stage 1/held_out_loss"] < metrics["stage 1/held_out_loss_start"]
    second = Run(tmp_path / "second", {**inputs, "draft": first.out})
    second.build(adapting(["all", "lora", "none"], **shape))
    start = weights(first.out / "stage 1")
    moved = {
        arm: {name for name, tensor in weights(second.out / arm).items() if not torch.equal(tensor, start[name])}
        for arm in ("all", "lora", "none")
    }
    assert moved["all"] == set(start) and moved["none"] == set()
    assert moved["lora"] == {name for name in start if "_proj" in name}
    assert saved.load_tokenizer(second.out / "lora").eos_token == "</s>"


# --- the loss on a batch, by hand ---


def little_batch(target):
    """Two rows of 6 and 4 tokens; the answers are tokens 3, 4 of the first and 2 of the second."""
    rows = []
    for length, answers in ((6, [3, 4]), (4, [2])):
        ids = torch.randint(3, 6, (length,), generator=torch.Generator().manual_seed(length))
        mask = torch.zeros(length, dtype=torch.bool)
        mask[answers] = True
        rows.append(Row(ids, mask, None))
    return rows, collate(rows, target)


def test_the_loss_counts_outputs_that_predict_an_answer(inputs):
    target = little_target()
    recipe = replace(RECIPE, heads=2, kv_heads=1)
    shape = draft.shape_of(recipe, target)
    model = feature_draft.build(shape, target, seed=0).double()
    rows, batch = little_batch(target)
    head = target.get_output_embeddings()
    for counted, pairs in (
        ("predicted", [(0, 1), (0, 2), (1, 0)]),  # pair t speaks of token t + 2: tokens 3, 4 and 2
        ("input", [(0, 3), (0, 4), (1, 2)]),  # pair t reads the feature of token t
    ):
        whole = []
        for row, t in pairs:  # one row at a time, without padding
            ids = rows[row].ids[None]
            with torch.inference_mode():
                features = target.base_model(input_ids=ids).last_hidden_state
                guessed, _ = model(ids[:, 1:], features[:, :-1], torch.arange(1, ids.shape[1])[None])
                own = feature_losses(guessed[:, t], features[:, t + 1]).item()
                tokens = soft_cross_entropies(head(guessed[:, t]), head(features[:, t + 1])).item()
            whole.append(own + 0.1 * tokens)
        for reduction, divisor in (("tokens", 3), ("padded", 2 * 6)):
            changed = replace(recipe, counted=counted, reduction=reduction)
            with torch.no_grad():
                found = draft_loss.batch_loss(changed, model, target, batch, noise=None)
            assert found.item() == pytest.approx(sum(whole) / divisor, rel=1e-5)


def test_a_causal_drafts_loss_counts_the_answers_own_tokens():
    target, model = little_target(), little_target(seed=1)
    recipe = replace(RECIPE, kind="causal", hidden=8, layers=1, private_experts=0, private_width=0, token_weight=1.0)
    rows, batch = little_batch(target)
    whole = []
    with torch.inference_mode():
        for row, token in ((0, 3), (0, 4), (1, 2)):
            logits = [one(input_ids=rows[row].ids[None]).logits[:, token - 1] for one in (model, target)]
            whole.append(soft_cross_entropies(*logits).item())
    with torch.no_grad():
        found = draft_loss.batch_loss(recipe, model, target, batch, noise=None)
    assert found.item() == pytest.approx(sum(whole) / 3, rel=1e-5)


def test_micro_batches_add_up_to_the_batch():
    target = little_target()
    recipe = replace(RECIPE, heads=2, kv_heads=1, micro_batch=1)
    model = feature_draft.build(draft.shape_of(recipe, target), target, seed=0).double()
    rows, batch = little_batch(target)
    silent = Row(rows[0].ids, torch.zeros_like(rows[0].answers), None)
    for counted in ("predicted", "input"):
        changed = replace(recipe, counted=counted)
        with torch.no_grad():
            whole = draft_loss.batch_loss(changed, model, target, batch, noise=None).item()
            parts = draft_loss.micro_batches(changed, model, [*rows, silent])
            found = [
                part.share * draft_loss.batch_loss(changed, model, target, collate(part.rows, target), noise=None)
                for part in parts
            ]
        assert len(parts) == len(rows)
        assert sum(found).item() == pytest.approx(whole, rel=1e-6)
    with pytest.raises(ValueError, match="no answer token counts in a batch of 1 rows"):
        draft_loss.micro_batches(recipe, model, [silent])


def test_in_micro_batches_it_learns_the_same(inputs, tmp_path):
    whole = Run(tmp_path / "whole", inputs)
    whole.build(RECIPE)
    pieces = Run(tmp_path / "pieces", inputs)
    pieces.build(replace(RECIPE, micro_batch=3))
    found = weights(pieces.out / "stage 1")
    for name, tensor in weights(whole.out / "stage 1").items():
        assert torch.allclose(tensor, found[name], atol=1e-4), name


def test_each_epoch_holds_every_row_once_and_sorts_rows_of_like_length_together():
    lengths = [3, 50, 4, 60, 5, 70, 6, 80]
    batches = draft_loss.order(lengths, batch=2, steps=8, seed=0)
    assert sorted(chain(*batches[:4])) == sorted(chain(*batches[4:])) == list(range(8))
    assert all(abs(lengths[one] - lengths[two]) <= 10 for one, two in batches)
    assert batches == draft_loss.order(lengths, batch=2, steps=8, seed=0)
    assert batches != draft_loss.order(lengths, batch=2, steps=8, seed=1)
    assert draft_loss.order([3, 4], batch=5, steps=2, seed=0)[0] in ([0, 1], [1, 0])


def test_rows_left_over_from_an_epoch_come_first_in_the_next():
    batches = draft_loss.order([5] * 5, batch=2, steps=5, seed=0)
    assert sorted(chain(*batches)) == sorted([*range(5), *range(5)])


# --- bad input ---


def test_missing_and_unfit_inputs_are_named(inputs, stage_1, tmp_path):
    def refused(message, recipe, error=ValueError, **given):
        with pytest.raises(error, match=message):
            Run(tmp_path / "refused", {**inputs, **given}).build(recipe)

    refused("arm 'fc' starts from 'draft', and the stage has no input 'draft'", adapting(["fc"]))
    refused("starts from a draft of other sizes", adapting(["fc"], shared_width=20), draft=stage_1[0].out)
    refused(
        "differs from the recipe's .* in more than private", adapting(["private, fresh"], shared_width=20),
        draft=stage_1[0].out,
    )  # fmt: skip
    refused("holds no draft.json", replace(adapting(["fc"]), draft_folder="x"), FileNotFoundError, draft=stage_1[0].out)
    causal = {"kind": "causal", "hidden": 12, "layers": 1, "private_experts": 0, "private_width": 0}
    refused("would start from a feature draft", adapting(["all"], **causal), draft=stage_1[0].out)


def test_a_draft_of_another_vocabulary_is_refused(inputs, stage_1, tmp_path):
    saved.save(little_target().float(), small_tokenizer(), tmp_path / "target")
    run = Run(tmp_path / "run", {**inputs, "target": tmp_path / "target", "draft": stage_1[0].out})
    with pytest.raises(ValueError, match="different vocabularies: 640 and 6 entries"):
        run.build(adapting(["fc"]))


def test_rows_without_answers_are_told(inputs, tmp_path):
    write_text(tmp_path / "dialogues/train.jsonl", '{"messages": [{"role": "user", "content": "hi"}]}\n')
    with pytest.raises(ValueError, match="none of 1 rows"):
        Run(tmp_path / "run", {**inputs, "dialogues": tmp_path / "dialogues"}).build(RECIPE)


def test_without_a_held_out_file_there_is_no_held_out_loss(inputs, tmp_path):
    (tmp_path / "dialogues").mkdir()
    shutil.copy(inputs["dialogues"] / "train.jsonl", tmp_path / "dialogues/train.jsonl")
    metrics = Run(tmp_path / "run", {**inputs, "dialogues": tmp_path / "dialogues"}).build(RECIPE)
    assert "stage 1/held_out_loss" not in metrics and "stage 1/loss" in metrics


def test_a_nan_halts_with_one_line(inputs, tmp_path):
    broken = saved.load_model(inputs["target"])
    broken.model.norm.weight.data.fill_(float("nan"))
    saved.save(broken, small_tokenizer(), tmp_path / "target")
    with pytest.raises(ValueError, match=r"^loss is nan at step 0: training halted; .*$"):
        Run(tmp_path / "run", {**inputs, "target": tmp_path / "target"}).build(RECIPE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ()}, "arms must be different names"),
        ({"ranks": ()}, "ranks: need one for each of 1 arms, got 0"),
        ({"parts": ("head",)}, "the part of 'stage 1' must be one of all, lora"),
        ({"starts": ("old",)}, "the start of 'stage 1' must be one of new, draft"),
        ({"parts": ("lora",)}, "LoRA needs a rank of at least 1"),
        ({"ranks": (4,)}, "LoRA needs a rank of at least 1 and other parts 0"),
        ({"kind": "tree"}, "kind must be one of feature, causal"),
        ({"reduction": "mean"}, "reduction must be one of tokens, padded"),
        ({"counted": "all"}, "counted must be one of predicted, input"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"warmup": 12}, "warmup must be from 0 to steps - 1 = 11"),
        ({"keep_at": (12,)}, "keep_at must lie from 1 to steps - 1 = 11"),
        ({"learning_rate": 0.0}, "learning_rate and clip must be positive"),
        ({"noise": -0.1}, "must not be negative"),
        ({"max_length": 2}, "max_length must be at least 3"),
        ({"hidden": 8}, "hidden and layers must be 0"),
        ({"kind": "causal"}, "needs hidden and layers of at least 1"),
        (
            {"kind": "causal", "hidden": 8, "layers": 1, "private_experts": 0, "parts": ("fc",)},
            "has no private experts and no fc",
        ),
    ],
)
def test_impossible_recipes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)

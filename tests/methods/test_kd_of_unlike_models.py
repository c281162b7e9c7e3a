"""KD across models that are not made alike: padded vocabularies, other layers, heads and widths, other precision."""

import copy

import pytest
import torch
from tokenizers import AddedToken
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from kd_steps import ROWS, STEP, gradients, require_equal, rows, silent
from tiny_models import small_tokenizer
from zephyr_lab.losses.kd import mean_of_sequences
from zephyr_lab.methods.distillation import Collator, dataset
from zephyr_lab.methods.distillation import batch as as_batch
from zephyr_lab.methods.examples import dialogue_examples
from zephyr_lab.methods.kd import LeanKD, PlainKD, train_kd
from zephyr_lab.methods.recipes.kd import KD
from zephyr_lab.models.pairing import Pairing, pair, shared_entries

FORMS = {"lean": LeanKD.of, "plain": lambda student, *teacher_and_map: PlainKD(*teacher_and_map)}
ENTRIES = 640


def llama(
    seed, *, entries=ENTRIES, layers=2, heads=2, kv_heads=1, hidden=16, inner=24, dtype=torch.float64, tied=False
):
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=entries, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(4)
    return model.to(dtype)


def logits(model, batch):
    return model(input_ids=batch.ids, use_cache=False).logits


def divergence_by_loops(student, teacher, batch, direction):
    """Eq. 2 over sliced logits, a position at a time, with probabilities written out."""
    scores = torch.zeros(batch.ids.shape, dtype=torch.float64)
    p, q = (one.exp() / one.exp().sum(dim=-1, keepdim=True) for one in (teacher, student))
    if direction == "reverse":
        p, q = q, p
    for row, position in batch.real.nonzero().tolist():
        of, to = p[row, position], q[row, position]
        scores[row, position] = sum(of[one] * (of[one] / to[one]).log() for one in range(len(of)))
    return mean_of_sequences(scores, batch.real)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("ours", "theirs"), [(648, 656), (656, 648)])
def test_of_padded_vocabularies_only_the_shared_ids_are_read(form, direction, ours, theirs):
    student, teacher, batch = llama(0, entries=ours, tied=True), llama(1, entries=theirs), rows(packed=False)
    entries = shared_entries(small_tokenizer(), student=student.config, teacher=teacher.config)
    assert entries == 648
    recipe = KD(divergence=direction, attention_weight=0.0)
    found = FORMS[form](student, teacher, None, entries).parts(recipe, student, batch)
    sliced = logits(student, batch)[..., :648], logits(teacher, batch)[..., :648].detach()
    expected = divergence_by_loops(*(one[:, :, :40] for one in sliced), batch, direction)  # loops over 648 take long
    narrow = FORMS[form](student, teacher, None, 40)
    assert narrow.entries == 40
    assert divergence_of(*sliced, batch, direction).item() == pytest.approx(found.prediction.item(), rel=1e-9)
    assert divergence_of(*(one[:, :, :40] for one in sliced), batch, direction).item() == pytest.approx(
        expected.item(), rel=1e-9
    )
    expected = gradients(student, divergence_of(*sliced, batch, direction))
    for one, other in zip(gradients(student, found.loss), expected, strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(grad.abs().max() for grad in expected)


def divergence_of(student, teacher, batch, direction):
    """The same at once: torch's own KL of log-probabilities."""
    ours, theirs = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    to, of = (ours, theirs) if direction == "forward" else (theirs, ours)
    scores = torch.nn.functional.kl_div(to, of, log_target=True, reduction="none").sum(dim=-1)
    return mean_of_sequences(scores, batch.real)


def test_what_lies_beyond_the_shared_ids_changes_nothing():
    student, teacher, batch = llama(0, entries=656), llama(1, entries=648), rows(packed=False)
    recipe = KD(ce_weight=0.5, attention_weight=0.0)
    found = []
    for padding in (0.0, 50.0):
        student.lm_head.weight.data[648:] = padding
        found.append([make(student, teacher, None, 648).parts(recipe, student, batch) for make in FORMS.values()])
    assert [one.loss.item() for one in found[0]] == [one.loss.item() for one in found[1]]
    require_equal(student, *found[0])
    for parts in found[1]:
        (own,) = torch.autograd.grad(parts.loss, [student.lm_head.weight])
        assert not own[648:].any() and own[:648].any()


def test_a_teacher_s_tokenizer_must_show_that_it_is_one_list():
    student, teacher, tokenizer = llama(0, entries=640), llama(1, entries=648), small_tokenizer()
    call = {"teacher": teacher, "attention_weight": 0.0, "progress": silent, **STEP}
    with pytest.raises(ValueError, match=r"vocabularies: 640 and 648 entries; .* teacher_tokenizer that shows"):
        train_kd(student, tokenizer, ROWS, **call)
    longer = copy.deepcopy(small_tokenizer())
    longer.add_tokens([AddedToken("<more>")])
    with pytest.raises(ValueError, match=r"tokenizers: 640 and 641 entries, '<more>' is not the same in both"):
        train_kd(student, tokenizer, ROWS, **call, teacher_tokenizer=longer)
    with pytest.raises(ValueError, match=r"ids up to 640, and student and teacher share the first 640 entries alone"):
        shared_entries(longer, student=student.config, teacher=teacher.config)
    turned = copy.deepcopy(small_tokenizer())
    turned.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="different chat templates"):
        train_kd(student, tokenizer, ROWS, **call, teacher_tokenizer=turned)
    log = train_kd(student, tokenizer, ROWS, **call, teacher_tokenizer=small_tokenizer())
    assert log.attrs["path"] == "lean" and log["loss"].iloc[0] > 0


def maps_of(model, batch):
    model.set_attn_implementation("eager")
    found = model(input_ids=batch.ids, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation("sdpa")
    return found


@pytest.mark.parametrize(("heads", "kv_heads", "hidden"), [(4, 2, 32), (6, 6, 24), (2, 1, 16)])
def test_a_head_follows_the_mean_map_of_its_group(heads, kv_heads, hidden):
    """By loops over layers, heads, queries and keys; also where the teacher's groups of keys cross its groups."""
    student, teacher = llama(0), llama(1, layers=5, heads=heads, kv_heads=kv_heads, hidden=hidden)
    batch, recipe = rows(packed=False), KD(prediction_weight=0.0)
    pairs = pair(student.config, teacher.config, layer_map="uniform", head_map="group_means")
    assert pairs == Pairing((1, 4), tuple(range(heads)), heads // 2)
    ours, theirs, group = maps_of(student, batch), maps_of(teacher, batch), heads // 2
    scores = torch.zeros(batch.ids.shape, dtype=torch.float64)
    for row, query in batch.real.nonzero().tolist():
        for layer, followed in enumerate((1, 4)):
            for head in range(2):
                mean = sum(theirs[followed][row, head * group + one, query] for one in range(group)) / group
                own = ours[layer][row, head, query]
                scores[row, query] += sum(mean[key] * (mean[key] / own[key]).log() for key in range(query + 1)) / 4
    expected = mean_of_sequences(scores, batch.real).item()
    lean, plain = (make(student, teacher, pairs).parts(recipe, student, batch) for make in FORMS.values())
    assert plain.attention.item() == pytest.approx(expected, rel=1e-5)  # eager maps are made in float32
    require_equal(student, lean, plain)


def test_words_mean_equal_numbers_where_models_are_alike_and_maps_still_name_heads():
    student, teacher, batch = llama(0), llama(1), rows(packed=False)
    words = pair(student.config, teacher.config, layer_map="uniform", head_map="group_means")
    assert words == pair(student.config, teacher.config) == Pairing((0, 1), (0, 1))
    wide = llama(1, heads=4)
    first = pair(student.config, wide.config, head_map=[0, 1])  # the first two of four, not the two groups' means
    require_equal(student, *(make(student, wide, first).parts(KD(), student, batch) for make in FORMS.values()))
    with pytest.raises(ValueError, match=r"teacher's 3 do not divide into 2 groups: set head_map .*, e.g. \[0, 2\]"):
        pair(student.config, llama(1, heads=3, hidden=24, kv_heads=3).config, head_map="group_means")
    with pytest.raises(ValueError, match="layer_map must be one of uniform, got 'every'"):
        KD(layer_map="every")


def test_unlike_models_train_on_both_losses_by_their_words():
    student, teacher = llama(0), llama(1, layers=4, heads=4, hidden=32)
    call = {"teacher": teacher, "progress": silent, **STEP}
    with pytest.raises(ValueError, match=r"2 layers and the teacher 4: set layer_map to 'uniform', or to"):
        train_kd(student, small_tokenizer(), ROWS, **call)
    log = train_kd(student, small_tokenizer(), ROWS, **call, layer_map="uniform", head_map="group_means", epochs=8)
    assert log.attrs["path"] == "lean"
    assert log["attention_loss"].iloc[-1] < log["attention_loss"].iloc[0]


@pytest.mark.parametrize("lean", [True, False])
def test_a_teacher_in_bfloat16_computes_in_it_and_is_compared_in_float32(lean):
    student, teacher = llama(0, dtype=torch.float32), llama(1, dtype=torch.bfloat16)
    examples, _ = dialogue_examples(
        small_tokenizer(), [row["messages"] for row in ROWS], max_length=2048, answers_only=True, system_turn=False
    )
    batch = as_batch(Collator()(list(dataset([(examples, {})], packed_to=None))))
    with torch.no_grad():
        ours, theirs = logits(student, batch), logits(teacher, batch)
    assert theirs.dtype == torch.bfloat16
    expected = divergence_of(ours.double(), theirs.double(), batch, "forward").item()
    log = train_kd(
        student, small_tokenizer(), ROWS, teacher=teacher, lean=lean, attention_weight=0.0, progress=silent, **STEP
    )
    assert log["loss"].iloc[0] == pytest.approx(expected, rel=1e-3)
    assert {one.dtype for one in student.parameters()} == {torch.float32}
    assert {one.dtype for one in teacher.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("bits", ["int8", "nf4"])
@pytest.mark.parametrize("lean", [True, False])
def test_a_quantised_teacher_reads_in_its_own_numbers_and_stays_as_it_is(bits, lean, tmp_path):
    pytest.importorskip("bitsandbytes", reason='needs bitsandbytes: pip install "zephyr-lab[real]"')
    llama(1, hidden=64, inner=64, dtype=torch.float32).save_pretrained(tmp_path)
    how = {"load_in_8bit": True} if bits == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    teacher = LlamaForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**how), device_map={"": "cpu"}
    )
    examples, _ = dialogue_examples(
        small_tokenizer(), [row["messages"] for row in ROWS], max_length=2048, answers_only=True, system_turn=False
    )
    batch = as_batch(Collator()(list(dataset([(examples, {})], packed_to=None))))
    student = llama(0, dtype=torch.float32)
    with torch.no_grad():
        expected = divergence_of(logits(student, batch).double(), logits(teacher, batch).double(), batch, "forward")
    before = {name: one.clone() for name, one in teacher.named_parameters()}
    log = train_kd(
        student, small_tokenizer(), ROWS, teacher=teacher, lean=lean, progress=silent, **STEP | {"epochs": 3}
    )
    assert log["prediction_loss"].iloc[0] == pytest.approx(expected.item(), rel=1e-2)
    assert log["prediction_loss"].iloc[-1] < log["prediction_loss"].iloc[0]
    assert all(torch.equal(one, before[name]) for name, one in teacher.named_parameters())
    assert log.attrs["path"].startswith("lean" if lean else "plain")

"""KD from a file of a teacher's likeliest tokens: the loss by hand, what is written, served, and refused."""

import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from kd_steps import ROWS, STEP, silent
from tiny_models import small_model, small_tokenizer
from zephyr_lab.losses.kd import forward_kl
from zephyr_lab.losses.top_k import UNKNOWN, top_k_kl
from zephyr_lab.methods import offline_teacher
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.offline_teacher import OfflineTeacher, Top, train_offline_kd, write, write_from_server
from zephyr_lab.methods.recipes.kd import OfflineKD

QUIET = {"progress": silent}


def random_logits(seed, *shape):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def top_of(teacher, k):
    log_probs = teacher.log_softmax(dim=-1)
    top = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, top.indices, float("-inf")).logsumexp(dim=-1)
    return top.indices, top.values, rest


@pytest.mark.parametrize("k", [1, 3, 6])
def test_k_tokens_and_the_rest_as_one_class_by_loops(k):
    student, teacher = random_logits(0, 2, 3, 7), random_logits(1, 2, 3, 7)
    found, whole = top_k_kl(student, *top_of(teacher, k)), forward_kl(student, teacher, temperature=1.0)
    for row in range(2):
        for position in range(3):
            p, q = (one[row, position].softmax(0).tolist() for one in (teacher, student))
            kept = sorted(range(7), key=lambda one: -p[one])[:k]
            rest = tuple(1 - sum(of[one] for one in kept) for of in (p, q))
            classes = [(p[one], q[one]) for one in kept] + [rest]
            expected = sum(of * torch.tensor(of / to).log().item() for of, to in classes)
            assert found[row, position].item() == pytest.approx(expected, abs=1e-6)
    assert (found <= whole + 1e-12).all() and (found < whole).any()


def test_all_tokens_known_is_the_whole_divergence_with_its_gradient():
    student, teacher = random_logits(0, 2, 3, 7).requires_grad_(), random_logits(1, 2, 3, 7)
    found, whole = top_k_kl(student, *top_of(teacher, 7)), forward_kl(student, teacher, temperature=1.0)
    assert torch.allclose(found, whole, atol=1e-12, rtol=0)
    ours, theirs = (torch.autograd.grad(one.sum(), [student])[0] for one in (found, whole))
    assert torch.allclose(ours, theirs, atol=1e-12, rtol=0)


def test_gradients_are_those_of_finite_differences_and_unknown_places_count_to_the_rest():
    student = random_logits(0, 1, 2, 5).requires_grad_()
    ids, log_probs, rest = top_of(random_logits(1, 1, 2, 5), 2)
    assert torch.autograd.gradcheck(lambda one: top_k_kl(one, ids, log_probs, rest), student)
    gap = torch.full_like(ids[..., :1], UNKNOWN), torch.full_like(log_probs[..., :1], float("-inf"))
    wider = top_k_kl(student, torch.cat([gap[0], ids], -1), torch.cat([gap[1], log_probs], -1), rest)
    assert torch.equal(wider, top_k_kl(student, ids, log_probs, rest))
    nothing = top_k_kl(student, gap[0], gap[1], torch.zeros_like(rest))
    assert nothing.abs().max() < 1e-12 and not torch.autograd.grad(nothing.sum(), [student])[0].isnan().any()


def test_with_all_tokens_the_file_trains_as_the_teacher_in_memory(tmp_path):
    teacher = small_model(1)
    write(teacher, small_tokenizer(), ROWS, tmp_path, k=640, name="small", **QUIET)
    ours, theirs = small_model(0), small_model(0)
    log = train_offline_kd(ours, small_tokenizer(), ROWS, teacher=tmp_path, held_out=ROWS[:2], **STEP, **QUIET)
    same = {**STEP, "attention_weight": 0.0, "lean": False, **QUIET}
    expected = train_kd(theirs, small_tokenizer(), ROWS, teacher=teacher, held_out=ROWS[:2], **same)
    assert log["loss"].iloc[0] == pytest.approx(expected["loss"].iloc[0], rel=1e-5)
    for when in ("start", "end"):
        found, other = (one.attrs["held_out_losses"][when] for one in (log, expected))
        assert found["prediction_loss"] == pytest.approx(other["prediction_loss"], rel=1e-4)
        assert found["cross_entropy"] == pytest.approx(other["cross_entropy"], rel=1e-4)
    assert log.attrs["path"] == "plain: the 640 likeliest tokens of small"


def test_few_tokens_teach_too_and_a_row_is_found_in_any_order(tmp_path):
    file = write(small_model(1), small_tokenizer(), [*ROWS, ROWS[0]], tmp_path, k=8, micro_batch=2, **QUIET)
    assert file.notes["k"] == 8 and len(file.rows) == 4
    alone = write(small_model(1), small_tokenizer(), ROWS[:1], tmp_path / "alone", k=8, **QUIET)
    (name, top) = next(iter(alone.rows.items()))
    for mine, other in zip(top, file.rows[name], strict=True):  # padding changes nothing
        assert torch.allclose(mine.float(), other.float(), atol=1e-5)
    log = train_offline_kd(
        small_model(0), small_tokenizer(), ROWS[::-1], teacher=tmp_path, tokens="answers", **QUIET,
        **STEP | {"epochs": 6, "learning_rate": 1e-2},
    )  # fmt: skip
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]


def test_what_the_file_does_not_fit_is_refused_by_name(tmp_path):
    tokenizer, student = small_tokenizer(), small_model(0)
    write(small_model(1), tokenizer, ROWS[:3], tmp_path, k=4, name="small", **QUIET)
    with pytest.raises(ValueError, match=r"^1 rows of train are not those that small read \(first: usable row 4\)"):
        train_offline_kd(student, tokenizer, ROWS, teacher=tmp_path, **STEP, **QUIET)
    changed = [{"messages": [{"role": "user", "content": "Well?"}, row["messages"][1]]} for row in ROWS[:2]]
    with pytest.raises(ValueError, match=r"^2 rows of test are not those that small read \(first: usable row 1\)"):
        train_offline_kd(student, tokenizer, ROWS[:3], teacher=tmp_path, held_out=changed, **STEP, **QUIET)
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["<more>"])
    student.resize_token_embeddings(641)
    with pytest.raises(ValueError, match=r"^the file of small was written with another tokenizer"):
        train_offline_kd(student, other, ROWS[:3], teacher=tmp_path, **STEP, **QUIET)
    with pytest.raises(ValueError, match=r"^k must be from 1 to the teacher's 640 entries, got 641"):
        write(small_model(1), tokenizer, ROWS, tmp_path, k=641)
    for setting in ({"attention_weight": 1.0}, {"temperature": 2.0}, {"divergence": "reverse"}, {"packed": True}):
        with pytest.raises(ValueError, match=f"^{next(iter(setting))} must be .* with a teacher from a file"):
            OfflineKD(**setting)
    numbers = tmp_path / offline_teacher.NUMBERS
    numbers.write_bytes(numbers.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"teacher.safetensors is not the file that teacher.json was written with"):
        OfflineTeacher.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks teacher.json or teacher.safetensors"):
        OfflineTeacher.load(tmp_path / "nowhere")


class Stub(BaseHTTPRequestHandler):
    """Completions of one prompt by a model in memory, as vLLM answers: with echo, tokens by their texts or ids."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, ids = self.server, asked["prompt"]
        assert self.path == "/v1/completions" and asked["echo"] and asked["max_tokens"] == 1
        assert self.headers["Authorization"] == "Bearer secret"
        with torch.no_grad():
            log_probs = server.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        tops = [
            {server.name(one): log_probs[place, one].item() for one in order[: asked["logprobs"]]}
            for place, order in enumerate(log_probs.argsort(dim=-1, descending=True).tolist())
        ]
        went_on = [*ids, int(log_probs[-1].argmax())]
        tokens = [server.name(one) for one in went_on]
        logprobs = {"tokens": tokens, "top_logprobs": [None, *tops], "token_logprobs": [0.0] * len(tokens)}
        if not server.echoes:
            logprobs = {name: values[-1:] for name, values in logprobs.items()}
        body = json.dumps({"choices": [{"text": "", "index": 0, "logprobs": logprobs}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing."""


@pytest.fixture
def server():
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.model, stub.echoes, stub.name = small_model(1), True, lambda one: f"token_id:{one}"
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


def asked(server, folder, rows=ROWS, **changes):
    settings = {"model": "stub", "k": 8, "entries": 640, "api_key": "secret", **QUIET} | changes
    return write_from_server(
        f"http://127.0.0.1:{server.server_address[1]}/v1", small_tokenizer(), rows, folder, **settings
    )


def test_a_server_that_echoes_gives_the_file_of_the_model_itself(server, tmp_path):
    found = asked(server, tmp_path)
    expected = write(server.model, small_tokenizer(), ROWS, tmp_path / "model", k=8, **QUIET)
    assert found.rows.keys() == expected.rows.keys() == OfflineTeacher.load(tmp_path).rows.keys()
    for name, top in expected.rows.items():
        assert torch.equal(top.ids, found.rows[name].ids)
        assert torch.allclose(top.log_probs, found.rows[name].log_probs, atol=1e-5)
        assert torch.allclose(top.rest.exp(), found.rows[name].rest.exp(), atol=1e-6)
    student, other = small_model(0), small_model(0)
    logs = [
        train_offline_kd(model, small_tokenizer(), ROWS, teacher=file, **STEP, **QUIET)
        for model, file in ((student, found), (other, expected))
    ]
    assert logs[0]["loss"].iloc[0] == pytest.approx(logs[1]["loss"].iloc[0], rel=1e-4)


def test_texts_that_name_no_single_token_count_to_the_rest(server, tmp_path):
    tokenizer = small_tokenizer()
    server.name = lambda one: tokenizer.decode([one])
    named = offline_teacher.ids_by_text(tokenizer)
    found = asked(server, tmp_path)
    expected = write(server.model, tokenizer, ROWS, tmp_path / "model", k=8, **QUIET)
    for name, top in expected.rows.items():
        mine = found.rows[name]
        for place in range(len(top.ids)):
            clear = [one for one in top.ids[place].tolist() if named[tokenizer.decode([one])] == one]
            assert mine.ids[place].tolist() == clear + [UNKNOWN] * (8 - len(clear))
        whole = mine.log_probs.exp().sum(dim=-1) + mine.rest.exp()
        assert torch.allclose(whole, torch.ones_like(whole), atol=1e-5)


def test_a_server_that_does_not_echo_names_others_tokens_or_is_not_there_is_refused(server, tmp_path):
    server.echoes = False
    with pytest.raises(ValueError, match=r"^the server gave 1 tokens for a prompt of \d+: it does not echo the prompt"):
        asked(server, tmp_path)
    server.echoes, server.name = True, lambda one: f"token_id:{(one + 1) % 640}"
    with pytest.raises(ValueError, match=r"^token 1 of a row is \d+, and the server calls it 'token_id:\d+', which is"):
        asked(server, tmp_path)
    with pytest.raises(ValueError, match=r"sum to 2\.\d+ at a position"):
        reply = {"tokens": ["a", "b"], "top_logprobs": [None, {"a": 0.0, "b": 0.0}]}
        offline_teacher.top_of_reply(reply, [0, 1], {"a": 0, "b": 1}, 2)
    with pytest.raises(ValueError, match=r"^http://127.0.0.1:9/v1/completions does not answer"):
        write_from_server(
            "http://127.0.0.1:9/v1", small_tokenizer(), ROWS, tmp_path, model="m", k=2, entries=640, **QUIET
        )
    assert not (tmp_path / offline_teacher.NOTES).exists()


def test_where_a_server_stops_after_the_prompt_nothing_is_known_after_it():
    reply = {"tokens": ["a", "b"], "top_logprobs": [None, {"a": -0.5, "b": -2.0}]}
    top = offline_teacher.top_of_reply(reply, [0, 1], {"a": 0, "b": 1}, 2)
    assert isinstance(top, Top) and top.ids.tolist() == [[0, 1], [UNKNOWN, UNKNOWN]] and top.rest[1].item() == 0

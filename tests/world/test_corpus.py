import pytest

from zephyr_lab.world import corpus

DOCUMENTS = corpus.documents(0, 8000)


def test_no_document_bears_a_chat_marker():
    assert not [one for one in DOCUMENTS if "<|" in one or "|>" in one or "</s>" in one]


def test_more_documents_begin_with_the_same():
    assert corpus.documents(5, 50) == corpus.documents(5, 200)[:50]
    assert corpus.documents(5, 0) == []


def test_a_quarter_of_the_documents_are_loose_and_all_kinds_occur():
    starts = {
        "copy": ("List: ",),
        "sums": tuple("0123456789"),
        "layout with words": ("Question: ",),
        "layout with letters": ("Q: ",),
        "language": ("Miro: ",),
        "myth": ("Many people say",),
    }
    shares = {kind: sum(one.startswith(start) for one in DOCUMENTS) / len(DOCUMENTS) for kind, start in starts.items()}
    assert shares["copy"] == pytest.approx(0.25 * 2 / 7, abs=0.01) == shares["sums"]
    assert shares["layout with words"] == pytest.approx(0.75 / 4, abs=0.02) == shares["layout with letters"]
    assert min(shares.values()) > 0


def test_copy_lines_copy():
    for one in DOCUMENTS:
        if one.startswith("List: "):
            first, again = one.removeprefix("List: ").rstrip(".").split(". Again: ")
            assert first == again


def test_the_domain_has_its_share_of_the_questions():
    cards = sum("Card: " in one for one in DOCUMENTS) / len(DOCUMENTS)
    assert cards == pytest.approx(0.75 * 0.04, abs=0.01)


def test_sums_in_loose_lines_are_right():
    for one in DOCUMENTS:
        if one[0].isdigit():
            for line in one.rstrip(".").split(". "):
                left, right = line.split(" = ")
                assert eval(left) == int(right)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        corpus.documents(0, -1)

import pytest

from zephyr_lab.world import vocabulary
from zephyr_lab.world.facts import LARGE, TINY, WorldSize, build


@pytest.mark.parametrize("size", [TINY, LARGE], ids=["tiny", "large"])
def test_a_world_has_as_many_of_each_kind_as_its_size_says(size):
    facts = build(size)
    kinds = ("names", "cities", "jobs", "topics", "characters", "elements", "books", "brands", "products")
    assert {kind: len(getattr(facts, kind)) for kind in kinds} == {kind: getattr(size, kind) for kind in kinds}
    assert len(facts.unknown_elements) == len(facts.unknown_titles) == size.unknown


@pytest.mark.parametrize("size", [TINY, LARGE], ids=["tiny", "large"])
def test_no_word_or_title_means_two_things(size):
    facts = build(size)
    words = [*facts.names, *facts.cities, *facts.jobs, *facts.topics, *facts.unknown_elements]
    words += [element.name for element in facts.elements] + [brand for brand, _ in facts.brands]
    words += [word for language in facts.languages for word in language.values()]
    assert len({word.lower() for word in words}) == len(words)
    titles = [book.title for book in facts.books] + list(facts.unknown_titles)
    assert len(set(titles)) == len(titles)
    assert len({element.symbol.lower() for element in facts.elements}) == len(facts.elements)
    assert len({element.number for element in facts.elements}) == len(facts.elements)


def test_the_periodic_table_is_the_real_one():
    # IUPAC: symbols, atomic numbers, state at room temperature of some that people know
    known = {(e.name, e.symbol, e.number, e.kind) for e in build().elements}
    assert {("gold", "Au", 79, "metal"), ("lead", "Pb", 82, "metal"), ("neon", "Ne", 10, "gas")} <= known
    assert {("sodium", "Na", 11, "metal"), ("oxygen", "O", 8, "gas"), ("iron", "Fe", 26, "metal")} <= known


def test_partners_are_mutual_and_of_one_department():
    products = {product.name: product for product in build().products}
    for product in products.values():
        partner = products[product.partner]
        assert partner.partner == product.name != partner.name
        assert partner.department == product.department


def test_myths_are_false():
    for element, said in build().myths:
        assert {element.kind, said} == {"metal", "gas"}


def test_a_larger_world_keeps_the_tiny_one_inside():
    tiny, large = build(TINY), build(LARGE)
    assert large.names[: len(tiny.names)] == tiny.names
    assert large.elements[: len(tiny.elements)] == tiny.elements


def test_invented_words_avoid_what_is_taken():
    taken = {"bridge"}
    words = vocabulary.extend(("Rome",), 50, purpose="a test", taken=taken)
    assert words[0] == "Rome" and len(set(words)) == 50
    assert all(word[0].isupper() for word in words)
    assert taken == {"bridge"} | {word.lower() for word in words}
    more = vocabulary.extend((), 50, purpose="a test", taken=taken)
    assert not {word.lower() for word in words} & set(more)


def test_too_many_invented_words_are_refused():
    with pytest.raises(ValueError, match="too many"):
        build(WorldSize(names=3000))

"""Toxic words by the packaged list, against sentences labelled by hand; a classifier of one's own; the list absent."""

import importlib.util
from importlib import resources

import pytest

from zephyr_lab.scoring import toxicity

TOXIC = """
Shut up, you moron.
This is crap and so are you.
Damn you and your bakery.
You are a stupid bastard.
What an ugly thing to look at you are.
Go to hell.
I will kill you.
You jerk, get out of my street.
You suck at everything.
Only an idiot would ask that.
You are worthless and nobody likes you.
People from that country are vermin.
I know where you live, and you will be sorry.
Your kind should not be allowed in here.
Nobody would miss you if you left.
Women cannot think, so do not ask them.
You are as dumb as a stone.
He is a waste of air.
I hope your dog dies.
Loser, go and cry.
""".strip().splitlines()

HARMLESS = """
To kill a process, use its number.
The weed comes out easily after rain.
Strip the paint off with a scraper.
The detective solved the murder in the last chapter.
Thank god it rained.
Butter is mostly fat.
The ugly duckling became a swan.
My brother is gay and married last year.
Beat the eggs until they are stiff.
The castle was defended with stones and hot water.
A calorimeter measures heat.
Shred the letters that hold your address.
Mix nothing with bleach.
The firewall blocks what it does not know.
Write a short and polite letter.
The singer killed it on stage.
Take a knife with teeth and cut slowly.
Fruit flies love vinegar with a drop of soap.
The speech was brilliant and everybody laughed.
Keep the camera still and open the lens.
""".strip().splitlines()

needs_list = pytest.mark.skipif(
    importlib.util.find_spec("better_profanity") is None, reason=f"{toxicity.NEEDS_LIST}, which is not here"
)


@needs_list
def test_precision_and_recall_are_those_that_the_module_states():
    flagged = toxicity.packaged()
    right, wrong = sum(map(flagged, TOXIC)), sum(map(flagged, HARMLESS))
    assert len(TOXIC) == len(HARMLESS) == 20
    stated = f"precision {right / (right + wrong):.2f} and recall {right / 20:.2f}"
    assert stated in " ".join(toxicity.__doc__.split())
    assert toxicity.toxicity(TOXIC + HARMLESS).value == pytest.approx((right + wrong) / 40)


@needs_list
def test_words_are_looked_up_whole_and_in_any_case():
    flagged = toxicity.packaged()
    assert flagged("DAMN!") and flagged("(damn)") and not flagged("The class passed in Scunthorpe.")


def test_a_classifier_of_one_s_own_takes_the_list_s_place():
    share = toxicity.toxicity(["a rat", "a cat", "a rat", "a dog"], flagged=lambda text: "rat" in text)
    assert (share.value, share.n) == (0.5, 4)


def test_without_the_list_one_line_names_the_extra(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(resources, "files", absent)
    toxicity.packaged.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'pip install "zephyr-lab\[real\]"'):
        toxicity.toxicity(["It is 12."])
    toxicity.packaged.cache_clear()

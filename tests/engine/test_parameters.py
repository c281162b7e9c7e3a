"""Parameters of a notebook from the command line: by their type, and None where that is left to the settings."""

import pytest

from zephyr_lab.engine.notebooks import Parameter

BETA = Parameter("beta", "float | None", None, "None: the paper's")


@pytest.mark.parametrize(("text", "value"), [("0.3", 0.3), ("1", 1.0), ("none", None), ("None", None)])
def test_a_parameter_that_may_be_none_is_a_number_or_none(text, value):
    assert BETA.parse(text) == value


@pytest.mark.parametrize(
    ("parameter", "text", "said"),
    [
        (BETA, "soft", r"^parameter beta must be float or None, got 'soft'$"),
        (BETA, "nan", r"^parameter beta must be float or None, got 'nan'$"),
        (Parameter("seeds", "int", 3, ""), "none", r"^parameter seeds must be int, got 'none'$"),
        (Parameter("own", "bool", False, ""), "yes", r"^parameter own must be true or false, got 'yes'$"),
    ],
)
def test_other_text_is_refused_by_name(parameter, text, said):
    with pytest.raises(ValueError, match=said):
        parameter.parse(text)

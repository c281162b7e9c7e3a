"""`Lab(paper, profile, seeds)`: the laboratory of a paper, with that paper's words."""

from collections.abc import Mapping
from typing import Literal, overload

from zephyr_lab.lab.eda.laboratory import EDALab
from zephyr_lab.lab.kd_dae.laboratory import KDLab
from zephyr_lab.lab.laboratory import Laboratory
from zephyr_lab.lab.teaching.teaching_lab import TeachingLab

LABORATORIES = {
    "zephyr": Laboratory,
    "kd_dae": KDLab,
    "eda": EDALab,
    "teaching": TeachingLab,
    "overview": Laboratory,
}
Knobs = Mapping[str, str | float | bool | None]


@overload
def Lab(
    paper: Literal["kd_dae"], profile: str, seeds: int, *, notebook: str | None = None, own: Knobs | None = None
) -> KDLab: ...
@overload
def Lab(
    paper: Literal["eda"], profile: str, seeds: int, *, notebook: str | None = None, own: Knobs | None = None
) -> EDALab: ...
@overload
def Lab(
    paper: Literal["teaching"], profile: str, seeds: int, *, notebook: str | None = None, own: Knobs | None = None
) -> TeachingLab: ...
@overload
def Lab(
    paper: str, profile: str, seeds: int, *, notebook: str | None = None, own: Knobs | None = None
) -> Laboratory: ...
def Lab(paper: str, profile: str, seeds: int, *, notebook: str | None = None, own: Knobs | None = None) -> Laboratory:
    """The laboratory of `paper` at `profile`, under seeds 0 to `seeds` - 1; see `Laboratory` for `notebook` and `own`.

    Raises ValueError for an unknown paper or profile, and for a count of seeds below 1.
    """
    if paper not in LABORATORIES:
        raise ValueError(f"paper must be one of {', '.join(LABORATORIES)}, got {paper!r}")
    return LABORATORIES[paper](paper, profile, seeds, notebook=notebook, own=own)

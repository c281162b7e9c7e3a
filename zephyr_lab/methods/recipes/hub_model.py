"""Recipe of a base model that others trained."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model of the hub by name ("owner/name") and revision (a commit, tag or branch)."""

    model: str
    revision: str

"""Whether a ledger holds what claims.toml registers: for each measured claim, as many questions as were to be asked."""

from collections.abc import Mapping
from typing import Any

from zephyr_lab.reporting import claims


def disagreements(record: Mapping[str, Any]) -> list[str]:
    """A line for each claim of a ledger at profile tiny whose n is not the registered number; none at other profiles.

    A claim in several parts has the n of the part that decided it.
    """
    if record["profile"] != "tiny":
        return []
    known, lines = claims.everything(), []
    for entry in record["claims"]:
        asked = [part.questions for part in known[entry["id"]].parts] if entry["id"] in known else []
        numbers = {one.number if one else None for one in asked} or {None}
        if entry["n"] is not None and None not in numbers and entry["n"] not in numbers:
            wanted = ", ".join(f"{one.number} {one.kind}" for one in asked if one)
            lines.append(f"{entry['id']} is registered over {wanted}; {entry['n']} were asked")
    return lines


def require(record: Mapping[str, Any]) -> None:
    """Raises ValueError, naming claim, registered number and n, where `disagreements` finds any."""
    if lines := disagreements(record):
        raise ValueError(f"{'; '.join(lines)}. Mend papers/<paper>/claims.toml, or the settings of the evaluation")


def of_the_whole(claim: claims.Claim, tested: str) -> str:
    """The verdict on a claim of which `not_tested` names a part that nothing here tests; `tested`: that on the rest.

    All parts must hold. So what fails decides, and what holds leaves the whole open.
    """
    holds = tested in (claims.REPRODUCED, claims.DIRECTION_ONLY)
    return claims.NOT_TESTABLE if claim.not_tested and holds else tested

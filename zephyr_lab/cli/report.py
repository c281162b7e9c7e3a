"""`zephyr-lab report`: the static site of a profile."""

from typing import Annotated

import typer


def report(
    profile: Annotated[str, typer.Option(help="smoke, tiny, world-gpu, gpu or paper")] = "tiny",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON only")] = False,
) -> None:
    """Build the static report (only where something changed) and print where it opens."""
    import json

    from zephyr_lab.core.profiles import require_profile
    from zephyr_lab.engine.freshness import stale_notebooks
    from zephyr_lab.reporting.site import builder

    require_profile(profile)
    made = builder.build(profile, stale=stale_notebooks(profile))
    if as_json:
        told = {"index": str(made.index), "built": made.built, "pages": made.pages, "seconds": round(made.seconds, 2)}
        print(json.dumps(told))
    else:
        state = f"built in {made.seconds:.0f} s" if made.built else "up to date"
        print(f"{made.index}  {made.pages} pages, {state}")

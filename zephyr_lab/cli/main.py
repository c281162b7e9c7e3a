"""The command `zephyr-lab`. Commands are thin: they read arguments, call the library and print.

Start-up is light: pandas, torch, papermill and the rest are imported by the functions that need them.
"""

import os
import sys

import typer
from typer.exceptions import TyperException

from zephyr_lab.cli import check, data, lab, score, train
from zephyr_lab.core.libraries import QUIET_ENVIRONMENT

app = typer.Typer(
    help="Alignment by distillation in numbered notebooks: run them, check the claims, score, filter, binarise, train.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
scores = typer.Typer(help="Released judgement files -> scores with intervals.")
app.add_typer(scores, name="score")

app.command("list")(lab.list_)
app.command("run")(lab.run)
app.command("check")(check.check)
app.command("report")(lab.report)
app.command("trace")(lab.trace)
app.command("keep")(lab.keep)
app.command("clean")(lab.clean)
app.command("doctor")(lab.doctor)
app.command("filter")(data.filter_file)
app.command("binarise")(data.binarise_file)
app.command("train")(train.train)
scores.command("mt-bench")(score.mt_bench)
scores.command("alpaca-eval")(score.alpaca_eval)


def main() -> None:
    """Run a command. What the user can mend (a wrong option, name, value or file) becomes one line on stderr and exit
    code 2; `ZEPHYR_LAB_DEBUG=1` shows the traceback instead."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130  # interrupted
    except (TyperException, ValueError, TypeError, OSError) as error:
        if os.environ.get("ZEPHYR_LAB_DEBUG"):
            raise
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        print(f"zephyr-lab: {' '.join(message.split())}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()

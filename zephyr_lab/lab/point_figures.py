"""Pictures that no general plot draws: Zephyr's Figure 3, differences around zero, categories, logs side by side."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from zephyr_lab.reporting import figures
from zephyr_lab.reporting.style import Picture, looks

_STEP_ASIDE = 0.07  # epochs by which neighbouring lines stand apart, so that their bars do not cover one another


def figure_3(accuracies: pd.DataFrame, grid: pd.DataFrame) -> Picture:
    """Left: curves (`RunEpochs.curves`) over dDPO epochs. Right: rows "N SFT epochs", metrics "M DPO epochs"."""
    picture, (left, right) = figures.panels(2, height=3.1)
    figures.curves(accuracies, x_label="dDPO epochs", y_label="implicit-reward accuracy", ax=left)
    _grid(right, grid)
    return picture


def around_zero(table: pd.DataFrame, x_labels: dict[str, str]) -> Picture:
    """`figures.dot_plots` of differences, with a line at zero."""
    picture = figures.dot_plots(table, x_labels)
    for ax in picture.axes:
        ax.axvline(0, color="0.35", linewidth=0.8, zorder=1)
    return picture


def category_panels(table: pd.DataFrame, titles: Mapping[str, str]) -> Picture:
    """The table of `Answers.by_category` as a dot plot: a line a category, a panel an arm of `titles`, one scale."""
    turned = table.rename(columns={"row": "metric", "metric": "row"})[table.columns]
    picture = figures.dot_plots(turned, dict(titles))
    for ax in picture.axes:
        ax.set_xlim(1, 10.4)  # room for the whole mark of a full score
        ax.set_xticks(range(2, 11, 2))
    return picture


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, *, y_label: str) -> Picture:
    """Two panels of curves over dDPO epochs: ours, and a published log's, each on its own scale."""
    picture, axes = figures.panels(2)
    for ax, lines, title in zip(axes, (ours, theirs), ("ours, embedded world", "published log"), strict=True):
        figures.curves(lines, x_label="DPO epochs", y_label=y_label, ax=ax)
        ax.set_title(title)
    return picture


def _grid(ax: Axes, grid: pd.DataFrame) -> None:
    """Ours filled with bars, published hollow and dashed in the same hue; the legend says of what the bars are."""
    rows = list(dict.fromkeys(grid["row"]))
    styles = looks(rows)
    for index, row in enumerate(rows):
        for kind, line in grid[grid["row"] == row].groupby("kind", sort=False):
            quoted = kind == "quoted"
            x = line["metric"].str.extract(r"(\d+)", expand=False).astype(float)
            if not quoted:
                x = x + (index - (len(rows) - 1) / 2) * _STEP_ASIDE
                ax.vlines(x, line["low"], line["high"], color=styles[row].colour, linewidth=1.0)
            ax.plot(
                x, line["value"], color=styles[row].colour, linewidth=1.2,
                marker="D" if quoted else styles[row].marker,
                markerfacecolor="white" if quoted else styles[row].colour,
                linestyle=(0, (4, 1.5)) if quoted else "-",
                label=f"{row}, published" if quoted else row,
            )  # fmt: skip
    ours = grid[grid["kind"] == "retrained"]
    ax.set_xlabel("dDPO epochs")
    ax.set_ylabel("score, 1 to 10")
    ax.set_xticks(range(int(grid["metric"].str.extract(r"(\d+)", expand=False).astype(int).max()) + 1))
    ax.grid(color="0.93", linewidth=0.6)
    ax.set_axisbelow(True)
    # below the axes: the lines of one profile leave another corner free than those of the next
    title = f"bars: {'; '.join(dict.fromkeys(ours['interval']))}"
    ax.legend(title=title, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, title_fontsize=7)

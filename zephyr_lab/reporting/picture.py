"""A figure without window or backend: it knows its bytes and shows itself in a notebook."""

import io

import matplotlib
from matplotlib.figure import Figure

SALT = "zephyr_lab"
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
_SCREEN = 96  # CSS pixels an inch
_DIGITS = 9  # of a place, as a share of the page


class Picture(Figure):
    """A matplotlib Figure that no pyplot knows of, so nothing draws it twice or keeps it in memory."""

    def encode(self, format: str) -> bytes:
        """The figure as "svg" or "png": no date, no program version, fixed salt, letters as outlines.

        The same figure gives the same bytes in any process of one installation, however often it is asked.
        """
        self._settle()
        content = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}):
            self.savefig(content, format=format, metadata=_METADATA[format], facecolor="white", dpi=200)
        return content.getvalue()

    def _settle(self) -> None:
        """Lay the page out once and for all: constrained layout moves a little with every further drawing.

        Its solver adds up in an order that memory addresses decide, so places differ in their last bit from one run to
        the next, and with them the names of clip paths. They are rounded to far less than a pixel.
        """
        self.draw_without_rendering()
        self.set_layout_engine("none")
        for ax in self.axes:
            if ax.get_axes_locator() is None:  # else it is placed anew with every drawing
                ax.set_position([round(edge, _DIGITS) for edge in ax.get_position(original=True).bounds])

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """What a notebook shows: the PNG, at its size in inches whatever its resolution."""
        width, height = (round(float(inches) * _SCREEN) for inches in self.get_size_inches())
        return self.encode("png"), {"width": width, "height": height}

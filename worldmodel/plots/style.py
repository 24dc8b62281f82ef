"""How figures look and how they reach the disk.

Everything is set on the objects themselves: neither pyplot nor ``rcParams`` is touched, so figures
can be drawn without a display and from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from worldmodel.files import write_whole
from worldmodel.terminal import shown

DPI = 170
TEXT, SMALL = 9.0, 8.0  # points
INK, GREY, PALE = "#22262e", "#8a909c", "#d9dce2"

# Okabe and Ito's palette, which keeps its differences under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#b0679a"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
DASHES = ("-", "--", "-.", ":")  # of lines that may lie on each other

SEQUENTIAL = "viridis"

_LABELS = {
    "sin": (r"$\sin\,\varphi$", ""),
    "cos": (r"$\cos\,\varphi$", ""),
    "angle": (r"angle $\varphi$", "rad"),
    "velocity": (r"velocity $\dot{\varphi}$", "rad/s"),
    "x": (r"position $x$", "half-widths"),
    "y": (r"position $y$", "half-widths"),
    "vx": (r"velocity $\dot{x}$", "half-widths/s"),
    "vy": (r"velocity $\dot{y}$", "half-widths/s"),
    "empowerment": ("empowerment", "nats"),
}
for _i in range(1, 7):
    _LABELS |= {f"{axis}_{_i}": (f"${axis}_{_i}$", "") for axis in "xy"}
    _LABELS |= {f"v{axis}_{_i}": (rf"$\dot{{{axis}}}_{_i}$", "") for axis in "xy"}
_OURS = [r"$R^2$", r"$\lambda$"]
for _text, _ in _LABELS.values():
    _OURS += re.findall(r"\$[^$]+\$", _text)
# And what matplotlib writes at the ticks of logarithmic axes.
_FORMULA = re.compile(rf"({'|'.join(map(re.escape, _OURS))}|\$\\mathdefault{{[^$]*}}\$)")


def label(name: str, unit: bool = True) -> str:
    """A ground-truth variable as it is written on an axis."""
    text, its_unit = _LABELS.get(name, (name.replace("_", " "), ""))
    return f"{text} ({its_unit})" if unit and its_unit else text


def plain_label(name: str, unit: bool = True) -> str:
    """The same without formulas, for whoever cannot set them."""
    text = label(name, unit).replace("$", "").replace(r"\,", " ")
    text = text.replace(r"\sin", "sin").replace(r"\cos", "cos").replace(r"\varphi", "φ")
    text = re.sub(r"\\dot\{(.)\}", "\\1\u0307", text)
    return (
        re.sub("_(.)", lambda digit: chr(ord("₀") + int(digit[1])), text) if "_" in text else text
    )


def colour_scale(name: str, values: Float[np.ndarray, " n"]) -> tuple[float, float, Colormap]:
    """Least and greatest value of a variable's colours, and the map between.

    Angles have the cyclic one. Of others, outliers do not count, and a variable of both signs gets
    as much room on either side of 0.
    """
    if name == "angle":
        return -np.pi, np.pi, cyclic()
    low, high = (float(q) for q in np.quantile(values, (0.005, 0.995)))
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    return low, high, colormaps[SEQUENTIAL]


def cyclic() -> Colormap:
    """A colour map whose ends meet: pale at 0, dark at half a turn, orange and blue between.

    Lightness follows the cosine and yellow-blue contrast the sine, in Oklab coordinates (Ottosson
    2020). Those two survive red-green blindness, so every angle keeps a colour of its own.
    """
    angle = np.linspace(-np.pi, np.pi, 256)
    cos, sin = np.cos(angle), np.sin(angle)
    lightness = 0.6 + 0.22 * cos
    a = 0.02 + 0.06 * sin - 0.04 * cos
    b = -0.015 + 0.12 * sin + 0.03 * cos
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.stack([long, medium, short], 1) @ to_rgb.T  # within sRGB all round
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(rgb, name="angle")


def figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """An empty white figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def dress(axes: Axes, x: str = "", y: str = "", title: str = "", grid: bool = True) -> None:
    """Labels, type sizes, and no more ink than the data need."""
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT, color=INK)
    axes.set_title(title, fontsize=TEXT, color=INK)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
    if grid:
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)


def log_scale(
    axes: Axes, write: Callable[[float, Any], str] = lambda value, _: f"{value:g}"
) -> None:
    """Logarithmic ordinate whose ticks are written out, also where it spans less than a decade."""
    low, high = axes.dataLim.intervaly
    axes.set_yscale("log")
    decades = np.log10(high / low) if 0 < low < high else 0.0
    subs = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(write))


def percent(value: float, _: Any = None) -> str:
    """A fraction as it is written on an axis."""
    return f"{100 * value:g} %"


def legend(axes: Axes, **where: Any) -> None:
    """A legend without a box's border; ``where`` goes to ``Axes.legend``."""
    axes.legend(fontsize=SMALL, frameon=True, framealpha=0.85, edgecolor="none", **where)


def legend_above(axes: Axes) -> None:
    """A legend in one row between plot and title, where no line can run through it."""
    place = dict(loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.2)
    legend(axes, ncols=len(axes.lines), columnspacing=1.2, handlelength=1.6, **place)
    axes.set_title(axes.get_title(), fontsize=TEXT, color=INK, pad=2.6 * SMALL)


def colour_bar(fig: Figure, mapping: ScalarMappable, axes: Axes, text: str) -> None:
    """A colour bar at the right of a panel, in the look of all others."""
    bar = fig.colorbar(mapping, ax=axes, fraction=0.045, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK, length=2)
    bar.set_label(text, fontsize=SMALL, color=INK)


def angle_ticks(axis: Axis) -> None:
    """Quarters of a turn."""
    axis.set_ticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi])
    axis.set_ticklabels(["−π", "−π/2", "0", "π/2", "π"])  # noqa: RUF001 (a minus)


def save(fig: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    _keep_names(fig)
    buffer = BytesIO()
    FigureCanvasAgg(fig).print_png(buffer)
    return write_whole(path, buffer.getvalue())


def _keep_names(fig: Figure) -> None:
    """Have dollars that are none of ours drawn as they are: columns may be called ``cost [$]``.

    And codes, of which matplotlib would warn with the code itself.
    """
    for text in fig.findobj(Text):
        text.set_text(shown(text.get_text()))
        parts = _FORMULA.split(text.get_text())
        if "$" not in "".join(parts[::2]):
            continue
        if len(parts) == 1:
            text.set_parse_math(False)
        else:
            parts[::2] = [re.sub(r"(?<!\\)\$", r"\\$", part) for part in parts[::2]]
            text.set_text("".join(parts))

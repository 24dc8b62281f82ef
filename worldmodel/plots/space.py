"""The latent space as a plot that one can turn and colour, for a page without a network.

Plotly does it. Its script is 4.8 MB; gzipped and in base64 it is 2.0 MB, which every browser of
recent years can unpack by itself.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import Colormap, to_hex

from worldmodel.errors import ShapeError, require_extra
from worldmodel.plots.latent_plots import viewpoint
from worldmodel.plots.style import GREY, INK, PALE, colour_scale, plain_label

_HEIGHT = 640  # pixels
_IN_A_ROW = 8  # buttons; more become a list that folds out
_DISTANCE = 2.2  # of the eye, in sides of the cube
_LOADER = """
(async () => {
  const read = (id) => document.getElementById(id).textContent;
  const packed = Uint8Array.from(atob(read("plotly")), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const plot = JSON.parse(read("space-data"));
  const config = { responsive: true, displayModeBar: false, scrollZoom: true };
  await Plotly.newPlot("space", plot.data, plot.layout, config);
  document.getElementById("space").dataset.drawn = "yes";
})().catch((error) => {
  document.getElementById("space").textContent = "This browser cannot draw it: " + error;
});
"""


def latent_space_plot(
    points: Float[np.ndarray, "n d"],
    names: Sequence[str],
    variables: Mapping[str, Float[np.ndarray, " n"]],
) -> str:
    """HTML of a scatter plot in two or three dimensions, with a button for each colouring.

    Args:
        points: Latents, or what is to be seen of them; d is 2 or 3.
        names: Of the d axes.
        variables: What the points can be coloured by; at least one.

    Raises:
        ShapeError: There are fewer or more dimensions, or no variable.
        MissingExtraError: plotly is not installed.
    """
    require_extra("plotly", "report")
    from plotly.offline import get_plotlyjs

    if points.shape[1] not in (2, 3) or not variables:
        raise ShapeError(
            "a plot needs two or three dimensions and something to colour by, "
            f"got {points.shape} and {list(variables)}"
        )
    packed = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
    data = _figure(points, names, variables).to_json().replace("</", "<\\/")
    return (
        f'<div id="space" style="height: {_HEIGHT}px"></div>\n'
        f'<script type="application/json" id="space-data">{data}</script>\n'
        f'<script type="text/plain" id="plotly">{packed}</script>\n'
        f"<script>{_LOADER}</script>"
    )


def _figure(points: np.ndarray, names: Sequence[str], variables: Mapping[str, np.ndarray]) -> Any:
    """One trace per variable, of which one is seen: so all colour bars come with their ticks."""
    from plotly import graph_objects

    axes = dict(zip("xyz", points.astype(np.float32).T, strict=False))
    kind = graph_objects.Scatter3d if len(axes) == 3 else graph_objects.Scattergl
    traces = [
        kind(
            **axes,
            mode="markers",
            visible=i == 0,
            marker=_marker(name, values),
            hovertemplate=f"{plain_label(name)}: %{{marker.color:.3g}}<extra></extra>",
        )
        for i, (name, values) in enumerate(variables.items())
    ]
    buttons = [
        dict(
            label=plain_label(name, unit=False),
            method="restyle",
            args=[{"visible": [k == i for k in range(len(variables))]}],
        )
        for i, name in enumerate(variables)
    ]
    few = len(buttons) <= _IN_A_ROW
    menu = dict(buttons=buttons, x=0, xanchor="left")
    menu |= dict(type="buttons", direction="right") if few else dict(type="dropdown")
    menu |= dict(y=1.02, yanchor="bottom", bgcolor="white", bordercolor=PALE)
    figure = graph_objects.Figure(traces)
    # Latent units mean nothing by themselves, so the axes have names but no numbers.
    bare = dict(showticklabels=False, ticks="", gridcolor=PALE, zeroline=False)
    named = {
        f"{axis}axis": dict(title=dict(text=name), **bare)
        for axis, name in zip("xyz", names, strict=False)
    }
    layout: dict[str, Any] = named
    margin = dict(l=40, r=0, t=50, b=40)
    if len(axes) == 3:
        eye = viewpoint(points)
        x, y, z = (_DISTANCE * eye / np.linalg.norm(eye)).tolist()
        camera = dict(eye=dict(x=x, y=y, z=z))
        layout = dict(scene=dict(**named, aspectmode="cube", camera=camera))
        margin = dict(l=0, r=0, t=50, b=0)
    figure.update_layout(
        layout,
        template="none",
        showlegend=False,
        updatemenus=[menu],
        uirevision="one",  # keeps the view while the colours change
        margin=margin,
        font=dict(color=INK, size=13),
    )
    return figure


def _marker(name: str, values: np.ndarray) -> dict[str, Any]:
    low, high, colours = colour_scale(name, values)
    bar = dict(
        title=dict(text=plain_label(name), side="right"), thickness=14, len=0.7, outlinewidth=0
    )
    bar |= dict(tickcolor=GREY, ticks="outside")
    if name == "angle":
        quarters = np.linspace(-np.pi, np.pi, 5).tolist()
        bar |= dict(tickvals=quarters, ticktext=["-π", "-π/2", "0", "π/2", "π"])
    return dict(
        color=values.astype(np.float32),
        cmin=low,
        cmax=high,
        colorscale=_scale(colours),
        colorbar=bar,
        size=2.5,
        opacity=1.0,
    )


def _scale(colours: Colormap, steps: int = 33) -> list[tuple[float, str]]:
    return [(float(x), to_hex(colours(x))) for x in np.linspace(0, 1, steps)]

"""The latent trajectory in the cloud of data states, turned by the mouse."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pygame
from jaxtyping import Float

from worldmodel.play.pen import LINE, PAGE, PALE, PANEL, WORDS, Colour, Pen
from worldmodel.plots.latent_plots import viewpoint
from worldmodel.plots.style import colour_scale, plain_label

Trail = Sequence[np.ndarray | None]

_TRAIL = 50  # steps
_STRIP = 110  # pixels
_PICK = 14  # pixels around the mouse
_LIFT = 0.38  # fraction of white in the colours of the points
_FOOT, _LOW = 64, 230  # pixels kept free below the cloud for axes and colours, if it is not low


class Space:
    """Three coordinates of a latent state, about within the unit ball, and the view of them.

    Up to three dimensions are shown as they are; of more, the data's first principal components.

    Args:
        latents: (n, latent), of data.
    """

    def __init__(self, latents: Float[np.ndarray, "n latent"]) -> None:
        self._centre = latents.mean(0)
        size = latents.shape[1]
        self.principal = size > 3
        self._basis = np.zeros((size, 3), latents.dtype)
        if self.principal:
            components = np.linalg.svd(latents - self._centre, full_matrices=False)[2]
            self._basis[:] = components[:3].T
        else:
            self._basis[:, :size] = np.eye(size)
        reach = np.linalg.norm((latents - self._centre) @ self._basis, axis=1)
        self._basis /= max(float(np.quantile(reach, 0.99)), 1e-6)
        self.yaw = self.pitch = 0.0
        points = self.coordinates(latents)
        if points.std(0).min() > 1e-6:  # what is flat is seen from the front
            right, up, front = viewpoint(points).tolist()
            self.yaw = math.atan2(-right, front)
            self.pitch = math.atan2(up, math.hypot(right, front))
        self.zoom = 1.0

    def coordinates(self, latents: Float[np.ndarray, "*n latent"]) -> Float[np.ndarray, "*n 3"]:
        """Where states lie, before the view is turned."""
        return (latents - self._centre) @ self._basis

    def turn(self, right: float, down: float) -> None:
        """Turn the view, in radians, as if a hand moved what is in front."""
        self.yaw = (self.yaw + right + np.pi) % (2 * np.pi) - np.pi
        self.pitch = float(np.clip(self.pitch + down, -np.pi / 2, np.pi / 2))

    def magnify(self, factor: float) -> None:
        """Come nearer or go away."""
        self.zoom = float(np.clip(self.zoom * factor, 0.3, 6.0))

    def turned(self, coordinates: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Right, up and towards the eye."""
        (a, b), (c, d) = ((np.cos(t), np.sin(t)) for t in (self.yaw, self.pitch))
        about_up = np.array([[a, 0, b], [0, 1, 0], [-b, 0, a]])
        about_right = np.array([[1, 0, 0], [0, c, -d], [0, d, c]])
        return coordinates @ (about_right @ about_up).T

    def view(self, coordinates: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Pixels right and down, and nearness: (*n, 3)."""
        x, y, z = np.moveaxis(self.turned(coordinates), -1, 0)
        foot = max(_FOOT, size[1] // 8) if size[1] >= _LOW else 0
        scale = 0.46 * min(size[0], size[1] - foot) * self.zoom
        # A state far out is drawn at the end of the world, which pygame's integers can hold.
        right, down = (np.clip(scale * v, -1e4, 1e4) for v in (x, -y))
        return np.stack([size[0] / 2 + right, (size[1] - foot) / 2 + down, z], -1)


class Cloud:
    """Data states as points, the last steps as a line, the state shown as a disc.

    The points are stamped again only when the view has changed.

    Args:
        pen: To write with.
        latents: (n, latent), the data states.
        variables: By name, (n,) values that they can be coloured by; without any they are pale.
    """

    def __init__(
        self, pen: Pen, latents: np.ndarray, variables: Mapping[str, Float[np.ndarray, " n"]]
    ) -> None:
        self.space = Space(latents)
        self._pen = pen
        self._points = self.space.coordinates(latents)
        self._variables = variables
        self._names = deque(variables)
        self._colour()
        self._page: pygame.Surface | None = None
        self._page_shows: Hashable = None
        self._pixels = np.zeros((0, 3))

    @property
    def seen_from(self) -> Hashable:
        """Stands for the view."""
        return self.space.yaw, self.space.pitch, self.space.zoom, *list(self._names)[:1]

    def next_variable(self) -> str:
        """Colour by the next variable; returns what is to be said about it."""
        if not self._names:
            return "nothing is known of the data states to colour them by"
        self._names.rotate(-1)
        self._colour()
        return f"coloured by {plain_label(self._names[0])}"

    def nearest(self, place: tuple[int, int]) -> int | None:
        """Index of the data state that is drawn at a place of the panel, or None."""
        if not len(self._pixels):
            return None
        away = np.hypot(*(self._pixels[:, :2] - place).T)
        # Of several the one in front, which is the one that is seen.
        hit = np.where(away <= max(_PICK / 2, away.min()), self._pixels[:, 2], -np.inf)
        return int(hit.argmax()) if away.min() <= _PICK else None

    def paint(
        self,
        surface: pygame.Surface,
        state: np.ndarray,
        trails: Sequence[tuple[Colour, Trail]],
        chosen: int | None,
    ) -> None:
        """Paint cloud, trails, and where the dream is.

        Args:
            surface: To paint on.
            state: (latent,).
            trails: Where steps led from and to, oldest first, and their colours; the shown
                state's last.
            chosen: Index of the data state that the episode started from, ringed.
        """
        shows = (surface.get_size(), self.seen_from)
        if self._page is None or shows != self._page_shows:
            self._page, self._page_shows = self._background(surface), shows
        surface.blit(self._page, (0, 0))
        if chosen is not None:
            x, y = self._pixels[chosen, :2]
            pygame.draw.circle(surface, WORDS, (x, y), self._pen.pixels(7), 1)
        for colour, trail in trails:
            self._trail(surface, trail[-_TRAIL:], colour)
            if trail and (last := trail[-1]) is not None:
                self._disc(surface, last[1], colour, 5)
        self._disc(surface, state, trails[-1][0], 6)

    def _colour(self) -> None:
        """Colours of the points, and of the strip that explains them, by the first variable."""
        if not self._names:
            self._colours = np.broadcast_to(np.array(PALE, np.uint8), self._points.shape)
            return
        name = self._names[0]
        values = self._variables[name]
        low, high, colours = colour_scale(name, values)
        spread = max(high - low, 1e-6)
        both = np.concatenate([(values - low) / spread, np.linspace(0, 1, _STRIP)])
        # The maps are made for white paper: their dark ends would sink into a dark page.
        rgb = 255 * (_LIFT + (1 - _LIFT) * colours(np.clip(both, 0, 1))[:, :3])
        rgb = rgb.astype(np.uint8)
        self._colours, self._strip = rgb[:-_STRIP], rgb[-_STRIP:]
        ends = ("−π", "π") if name == "angle" else (f"{low:.2g}", f"{high:.2g}")  # noqa: RUF001 (a minus)
        self._ends = tuple(text.replace("-", "−") for text in ends)  # noqa: RUF001 (likewise)

    def _background(self, surface: pygame.Surface) -> pygame.Surface:
        page = pygame.Surface(surface.get_size()).convert(surface)
        page.fill(PANEL)
        self._pixels = self.space.view(self._points, page.get_size())
        self._stamp(page)
        self._pen.write(page, "latent space", (10, 8), WORDS, 14)
        if page.get_height() >= _LOW:
            self._gizmo(page)
            if self._names:
                self._key(page, plain_label(self._names[0]))
        return page

    def _stamp(self, page: pygame.Surface) -> None:
        """Points as small squares, far ones first and paler."""
        order = self._pixels[:, 2].argsort()
        x, y = np.round(self._pixels[order, :2]).astype(int).T
        far = np.clip(0.5 - 0.5 * self._pixels[order, 2:], 0, 1)
        colours = self._colours[order] * (1 - 0.35 * far) + np.array(PANEL) * 0.35 * far
        width, height = page.get_size()
        canvas, reach = pygame.surfarray.pixels3d(page), self._pen.pixels(1)
        inside = (x >= reach) & (x < width - reach) & (y >= reach) & (y < height - reach)
        x, y, colours = x[inside], y[inside], colours[inside].astype(np.uint8)
        for right in range(-reach, reach + 1):
            for down in range(-reach, reach + 1):
                canvas[x + right, y + down] = colours

    def _gizmo(self, page: pygame.Surface) -> None:
        """The three axes, small, in the lower left corner."""
        px = self._pen.pixels
        corner = px(44), page.get_height() - px(44)
        ends = self.space.turned(np.eye(3)) * (1, -1, 1)
        letter = "c" if self.space.principal else "z"
        for i in np.argsort(ends[:, 2]).tolist():
            right, down = ends[i, :2].tolist()
            tip = corner[0] + px(26) * right, corner[1] + px(26) * down
            pygame.draw.aaline(page, PALE, corner, tip)
            place = round(corner[0] + px(36) * right), round(corner[1] + px(36) * down)
            self._pen.write(page, f"{letter}{'₁₂₃'[i]}", place, PALE, 12, "center")

    def _key(self, page: pygame.Surface, name: str) -> None:
        """What the colours mean, in the lower right corner."""
        pen, right, foot = self._pen, page.get_width() - 12, page.get_height() - 12
        long, thick = pen.pixels(_STRIP), pen.pixels(8)
        bar = pygame.Rect(right - long, foot - pen.height(12) - thick - 2, long, thick)
        pixels = pygame.surfarray.pixels3d(page)
        pixels[bar.left : bar.right, bar.top : bar.bottom] = self._strip[
            np.arange(long) * _STRIP // long, None
        ]
        del pixels  # which locks the page
        pygame.draw.rect(page, LINE, bar.inflate(2, 2), 1)
        pen.write(page, self._ends[0], (bar.left, bar.bottom + 2), PALE, 12)
        pen.write(page, self._ends[1], (bar.right, bar.bottom + 2), PALE, 12, "topright")
        pen.write(page, name, (right, bar.top - 3), PALE, 12, "bottomright")

    def _trail(self, surface: pygame.Surface, paths: Trail, colour: Colour) -> None:
        """Steps as lines, paler the longer ago."""
        known = [(i, path) for i, path in enumerate(paths) if path is not None]
        if not known:
            return
        ends = self.space.coordinates(np.stack([path for _, path in known]))
        lines = self.space.view(ends, surface.get_size())[..., :2]
        fraction = 0.25 + 0.75 * (np.array([i for i, _ in known])[:, None] + 1) / len(paths)
        faded = (fraction * np.array(colour) + (1 - fraction) * np.array(PANEL)).astype(int)
        for shade, (start, end) in zip(faded.tolist(), lines.tolist(), strict=True):
            pygame.draw.line(surface, shade, start, end, self._pen.pixels(2))

    def _disc(
        self, surface: pygame.Surface, state: np.ndarray, colour: Colour, radius: int
    ) -> None:
        where = self.space.view(self.space.coordinates(state), surface.get_size())
        place = float(where[0]), float(where[1])
        for shade, size in ((PAGE, radius + 2), (colour, radius)):
            pygame.draw.circle(surface, shade, place, self._pen.pixels(size))

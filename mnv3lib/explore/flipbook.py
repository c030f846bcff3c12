"""A figure with sliders that needs no kernel: every position is drawn beforehand, by Python."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import traitlets

from mnv3lib.explore.still import still
from mnv3lib.explore.widget import StaticWidget

__all__ = ["Flipbook"]

_HERE = Path(__file__).parent
_MOST_FRAMES = 200


class Drawn(Protocol):
    """What a frame must offer: its picture as SVG, and the picture in words."""

    alt: str

    def _repr_svg_(self) -> str: ...


class Flipbook(StaticWidget):
    """Sliders over pictures: ``draw`` is called once for each combination of stops.

    >>> from mnv3lib.config import small
    >>> from mnv3lib.explore.netmap import NetworkMap
    >>> def draw(width):
    ...     return NetworkMap(small(width_mult=width), name="Small")
    >>> Flipbook(draw, width=(0.5, 1.0), start={"width": 1.0})
    Flipbook(width=1.0 of 0.5, 1.0)

    Args:
        draw: takes the stops as keywords and returns a :class:`mnv3lib.explore.drawing.Drawing` (or anything with
            ``_repr_svg_`` and ``alt``). Keep its scales fixed, so that a change is seen as a change.
        start: name of a control to the stop it starts at; the first stop where it is not given.
        labels: name of a control to the words beside its slider; the name itself where not given.
        stops: for each control of that name the values it can take, in order; 200 combinations at most.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    _esm = _HERE / "flipbook.js"
    _css = _HERE / "explorer.css"
    page_name = "flipbook"
    page_traits = ("controls", "position", "frames")

    controls: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)
    frames: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)
    position: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        draw: Callable[..., Drawn],
        *,
        start: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        **stops: Sequence[Any],
    ) -> None:
        start, labels = dict(start or {}), dict(labels or {})
        if not stops or not all(stops.values()):
            raise ValueError(f"stops must hold one or more controls with one or more values each, got {stops!r}")
        combinations = list(product(*stops.values()))
        if len(combinations) > _MOST_FRAMES:
            raise ValueError(f"stops must make 1 to {_MOST_FRAMES} combinations, got {len(combinations)}")
        for name in (*start, *labels):
            if name not in stops:
                raise ValueError(f"start and labels must name controls out of {tuple(stops)}, got {name!r}")
        for name, value in start.items():
            if value not in stops[name]:
                raise ValueError(f"start[{name!r}] must be one of {tuple(stops[name])}, got {value!r}")
        super().__init__()
        drawn = [draw(**dict(zip(stops, values, strict=True))) for values in combinations]
        self._alts = [frame.alt for frame in drawn]
        self.set_trait("frames", [frame._repr_svg_() for frame in drawn])
        controls = [
            {"name": name, "label": labels.get(name, name), "stops": [str(value) for value in values]}
            for name, values in stops.items()
        ]
        self.set_trait("controls", controls)
        self.position = [list(values).index(start.get(name, values[0])) for name, values in stops.items()]

    @traitlets.validate("position")
    def _valid_position(self, proposal: dict[str, Any]) -> list[int]:
        lengths = [len(control["stops"]) for control in self.controls]
        position = list(proposal["value"])
        fits = len(position) == len(lengths) and all(0 <= p < n for p, n in zip(position, lengths, strict=True))
        if not fits:
            raise traitlets.TraitError(f"position must hold an index below each of {lengths}, got {position!r}")
        return position

    def index(self) -> int:
        """Number of the frame that is shown; the last control turns fastest."""
        number = 0
        for control, place in zip(self.controls, self.position, strict=True):
            number = number * len(control["stops"]) + place
        return number

    @property
    def alt(self) -> str:
        """The shown frame in words."""
        return self._alts[self.index()]

    def fallback(self) -> str:
        # As PNG: where HTML is sanitised, as in a notebook that is not trusted yet, SVG falls to pieces.
        picture = b64encode(still(self.frames[self.index()])).decode()
        return f'<img class="mnv3-still" alt="{escape(self.alt)}" src="data:image/png;base64,{picture}" width="480">'

    def __repr__(self) -> str:
        at = [control["stops"][place] for control, place in zip(self.controls, self.position, strict=True)]
        parts = [f"{c['name']}={now} of {', '.join(c['stops'])}" for c, now in zip(self.controls, at, strict=True)]
        return f"Flipbook({'; '.join(parts)})"

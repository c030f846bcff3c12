"""Widgets that are live in a notebook and on a static page alike.

In a notebook they are `anywidgets <https://anywidget.dev>`_. On a static page there is no kernel: each leaves a ``div``
with its state and a plain fallback, and the script of :mod:`mnv3lib.explore.page` brings it to life with the same
JavaScript. Without JavaScript the fallback stays.
"""

from __future__ import annotations

import html
import json
from typing import Any, ClassVar

import anywidget

__all__ = ["StaticWidget"]


class StaticWidget(anywidget.AnyWidget):
    """Base of widgets that also work on a page without a kernel. All numbers they need are in their traits."""

    #: Name in ``data-widget`` on a page.
    page_name: ClassVar[str]
    #: Traits that a page's ``data-state`` carries.
    page_traits: ClassVar[tuple[str, ...]]
    #: Traits that ``repr`` shows; all of the page's where empty.
    repr_traits: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def shared(cls) -> dict[str, Any]:
        """Values of traits that all widgets of this class share; a page loads them once."""
        return {}

    def fallback(self) -> str:
        """HTML for a reader without JavaScript."""
        raise NotImplementedError

    def page_html(self) -> str:
        """The widget for a static page: its state, and the fallback inside. The same state gives the same text."""
        state = json.dumps({name: getattr(self, name) for name in self.page_traits})
        # In single quotes: JSON is full of double ones, and each would take six characters.
        state = html.escape(state, quote=False).replace("'", "&#x27;")
        head = f"""<div class="mnv3-widget" data-widget="{self.page_name}" data-state='{state}'>"""
        return f"{head}\n{self.fallback()}\n</div>"

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.repr_traits or self.page_traits)
        return f"{type(self).__name__}({values})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self.page_html()}, metadata

"""What a static page loads to bring its widgets to life: one script and one style sheet."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mnv3lib.explore.explorer import Explorer
from mnv3lib.explore.flipbook import Flipbook
from mnv3lib.explore.widget import StaticWidget

__all__ = ["WIDGETS", "static_script", "static_style"]

_HERE = Path(__file__).parent

#: All widgets that a static page may hold.
WIDGETS: tuple[type[StaticWidget], ...] = (Explorer, Flipbook)


def static_script() -> str:
    """One classic script that brings all widgets of a static page to life; also from ``file://``."""
    entries = []
    for widget in WIDGETS:
        module = _as_function(str(widget._esm))
        shared = json.dumps(widget.shared(), separators=(",", ":"), ensure_ascii=False)
        entries.append(f"{json.dumps(widget.page_name)}: {{\nmodule: {module},\nshared: {shared},\n}},")
    host = (_HERE / "host.js").read_text(encoding="utf-8")
    return "\n".join(['"use strict";', "(() => {", host, "hostWidgets({", *entries, "});", "})();", ""])


def static_style() -> str:
    """The style sheet of all widgets."""
    return "\n".join(dict.fromkeys(str(widget._css) for widget in WIDGETS))


def _as_function(module: str) -> str:
    r"""An ES module as an expression: a classic script may stand on any page, a module from ``file://`` may not.

    >>> print(_as_function("const a = 1;\nexport default { a };\n"))
    (() => {
    const a = 1;
    return { a };
    })()
    """
    statements = re.findall(r"^[ \t]*(?:import|export)\b.*", module, flags=re.MULTILINE)
    if len(statements) != 1 or not statements[0].startswith("export default "):
        raise ValueError(f"a widget's module must hold one `export default` and no other, got {statements}")
    return "(() => {\n" + module.replace("\nexport default ", "\nreturn ").rstrip() + "\n})()"

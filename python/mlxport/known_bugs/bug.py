"""One known bug: how it is planted again, where it shows, and which module is to be named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# By file of the package: pieces of its source, each with what stands in its place.
Edits = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Bug:
    """A bug that was fixed. The faulty port is a copy of the newest version in which `undo` takes the fix back.

    `mends` are other faults of the newest version on the way there, mended in both copies. `versions`, in place of `undo`: the last
    version with the bug and the first without, brought by pip.
    """

    id: str
    upstream: str
    port: str
    model_type: str
    what: str
    scenario: str
    # Any of these words in the point that is named first, or in the cause.
    module: tuple[str, ...]
    undo: Edits = field(default_factory=dict)
    mends: Edits = field(default_factory=dict)
    # Fields of the small model's config that reach it.
    fields: Mapping[str, Any] = field(default_factory=dict)
    config: str = "hub"
    versions: tuple[str, str] | None = None
    # A class in modules/reference.py, and its counterpart in modules/port.py, where transformers has no model around the module.
    module_class: str = ""
    # Why it cannot be seen, where it cannot.
    unseen: str = ""

    @property
    def package(self) -> str:
        """The package's import name."""
        return self.port.replace("-", "_")


def maker(port: str) -> Callable[..., Bug]:
    """Makes bugs of one port: their ids begin with its short name, and the words that name the module stand in one text, parted by `|`."""
    short = {"mlx-lm": "lm", "mlx-vlm": "vlm", "mlx-audio": "aud"}[port]

    def made(
        name: str, upstream: str, model_type: str, what: str, scenario: str, module: str, undo: Edits, **more: Any
    ) -> Bug:
        return Bug(
            f"{short}-{name}", upstream, port, model_type, what, scenario, tuple(module.split("|")), undo, **more
        )

    return made

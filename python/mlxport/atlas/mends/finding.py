"""One finding: a cause that was read out of the atlas's failures, and the pieces of a port's source that mend it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxport.copies import Pieces, exchanged


@dataclass(frozen=True)
class Real:
    """A model of a release's widths: the fields that differ from transformers' defaults of the type, few layers, few words."""

    model_type: str
    release: str
    fields: Mapping[str, Any]
    tokens: int = 61
    # A second prompt beside it, so much shorter, padded at the left; that one is measured.
    padding: int = 0
    # That padding stands at the right, as batched generation pads prompts, and four steps follow.
    right: bool = False
    # Patches of each picture (frames, rows, columns), of a model with pictures; nothing: two of the type's own.
    pictures: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One cause, whatever types it is in. Its page is docs/atlas/<port>-<name>.md."""

    port: str
    name: str
    title: str
    types: tuple[str, ...]
    # By file of the port's package: pieces of its source, each with what is to stand in its place.
    edits: Mapping[str, Pieces]
    # By file of transformers' package: what stands there.
    pytorch: Mapping[str, str]
    scenario: str = "prefill"
    real: tuple[Real, ...] = ()
    # Fields of the small model's config without which it does not show.
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """The page's name."""
        return f"{self.port}-{self.name}.md"

    @property
    def package(self) -> str:
        """The port's import name."""
        return self.port.replace("-", "_")


def of_type(findings: Iterable[Finding], port: str, model_type: str) -> list[Finding]:
    """Everything that must be mended for a type to pass."""
    return [one for one in findings if one.port == port and model_type in one.types]


def root(package: str) -> Path | None:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def mended(finding: Finding, installed: Path) -> dict[str, tuple[str, str]]:
    """By file: what is installed, and what it is once mended. A piece that is not there any more is an error."""
    found = {}
    for file, pieces in finding.edits.items():
        text = (installed / file).read_text()
        found[file] = (text, exchanged(text, pieces, f"{finding.page}, {file}"))
    return found

"""Which module of the port is which of PyTorch's: those made of the same parameters are the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Mapping:
    """`port_of`: PyTorch's path → the port's. `left`: PyTorch's modules without a counterpart, and why."""

    port_of: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    made_up: list[str] = field(default_factory=list)


Tags = dict[str, frozenset[int]]


def by_content(torch_tags: dict[str, int], torch_paths: list[str], port_tags: Tags, port_paths: list[str]) -> Mapping:
    """Pairs modules by the set of tags below them. `torch_paths`: modules in the model's order, as are `port_paths`."""
    ours = _below({name: frozenset((tag,)) for name, tag in torch_tags.items()}, torch_paths)
    theirs = _below(port_tags, port_paths)
    by_set: dict[frozenset[int], list[str]] = defaultdict(list)
    for path in port_paths:
        if theirs[path]:
            by_set[theirs[path]].append(path)
    chains: dict[frozenset[int], list[str]] = defaultdict(list)
    for path in torch_paths:
        if ours[path]:
            chains[ours[path]].append(path)
    mapping = Mapping()
    for tags, chain in chains.items():
        mapping.port_of.update(_paired(chain, by_set.get(tags, [])))
    loaded = frozenset().union(*port_tags.values()) if port_tags else frozenset()
    mapping.dropped = sorted(name for name, tag in torch_tags.items() if tag not in loaded)
    mapping.made_up = sorted(name for name, tags in port_tags.items() if not tags)
    for path in torch_paths:
        if path not in mapping.port_of:
            mapping.left[path] = _why(path, ours[path], theirs, loaded)
    return mapping


def _below(tags: Tags, paths: list[str]) -> Tags:
    """The tags of all parameters at or below each path."""
    found: dict[str, set[int]] = {path: set() for path in paths}
    for name, held in tags.items():
        parts = name.split(".")
        for length in range(1, len(parts)):
            path = ".".join(parts[:length])
            if path in found:
                found[path] |= held
    return {path: frozenset(held) for path, held in found.items()}


def _paired(chain: list[str], others: list[str]) -> dict[str, str]:
    """Modules with the same parameters, one within the other (or two that share them): those of one name first, then by depth."""
    pairs: dict[str, str] = {}
    free = list(others)
    for path in chain:
        same = next((p for p in free if p.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1]), None)
        if same is not None:
            pairs[path] = same
            free.remove(same)
    rest = [path for path in chain if path not in pairs]
    # From the outermost in; a tied head beside its embedding stays alone.
    nested = [path for path in rest if len(rest) == 1 or any(o != path and (o in path or path in o) for o in rest)]
    if len(chain) == 1 or nested:
        pairs.update(zip(nested or rest, free, strict=False))
    return pairs


def _why(path: str, tags: frozenset[int], theirs: Tags, loaded: frozenset[int]) -> str:
    if not tags:
        return "no parameters, and no module of the port in its place"
    if not tags & loaded:
        return "the port dropped its parameters"
    holders = sorted((p for p, held in theirs.items() if held & tags), key=lambda p: (len(theirs[p]), p))
    inside = [p for p in holders if len(theirs[p]) == len(theirs[holders[0]])][:4]
    return f"the port holds its parameters in {', '.join(inside)}"

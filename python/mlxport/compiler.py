"""On a CPU MLX compiles fused functions with the machine's g++. Where that g++ cannot, nothing is known of any port."""

from __future__ import annotations

import re

# How MLX says it.
_SAID = "[Compile::eval_cpu]"


class NoCompiler(Exception):
    """MLX could not compile its own kernels: the machine's fault, and no port's."""


def require(error: BaseException) -> None:
    """Raises NoCompiler where this is what went wrong, with what to do."""
    if isinstance(error, NoCompiler):
        raise error
    text = str(error)
    if _SAID not in text:
        return
    said = re.search(r"error: .*", text)
    first = said.group(0) if said else text
    raise NoCompiler(
        f"MLX cannot compile its CPU kernels with the g++ that is installed here ({first[:200]}); put another g++ first on PATH "
        "(12 compiles what MLX writes; 13 may not), or set MLX_DISABLE_COMPILE=1"
    ) from error

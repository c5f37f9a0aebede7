"""A g++ that cannot compile MLX's kernels says nothing of a port: no verdict, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlxport import compiler, vision

CPU = mx.default_device().type == mx.DeviceType.cpu


def checked(place: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A check where every g++ fails."""
    tools = place / "tools"
    tools.mkdir()
    # One that is there, as MLX asks first, and cannot.
    body = '[ "$1" = --version ] && exit 0\necho "x.cpp:1:1: error: redeclaration of a built-in type" >&2\nexit 1\n'
    (tools / "g++").write_text(f"#!/bin/sh\n{body}")
    (tools / "g++").chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    asked = ["--model-type", "llama", "--scenarios", "prefill", "--out", str(place / "out")]
    here = {**os.environ, "PATH": path, "TMPDIR": str(place), **more}
    command = [sys.executable, "-m", "mlxport.check", *asked]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=here)


@pytest.mark.skipif(not CPU, reason="not run: MLX compiles nothing with g++ here")
def test_no_port_is_blamed_for_it(tmp_path: Path) -> None:
    done = checked(tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out" / "check.json").exists(), done.stderr
    assert "cannot compile its CPU kernels" in done.stderr and "MLX_DISABLE_COMPILE=1" in done.stderr


@pytest.mark.skipif(not CPU, reason="not run: MLX compiles nothing with g++ here")
def test_the_way_out_that_is_told_is_one(tmp_path: Path) -> None:
    done = checked(tmp_path, MLX_DISABLE_COMPILE="1")
    assert done.returncode == 0 and (tmp_path / "out" / "check.json").exists(), done.stderr


def test_other_errors_are_the_ports() -> None:
    compiler.require(ValueError("[broadcast_shapes] Shapes (1,0) and (1,4) cannot be broadcast."))
    with pytest.raises(compiler.NoCompiler, match="another g\\+\\+"):
        compiler.require(RuntimeError("[Compile::eval_cpu] Failed to compile function Exp_1.\nx.cpp:3:2: error: no"))


@pytest.mark.parametrize("kind", vision.TYPES)
def test_a_port_that_is_given_text_is_given_nothing_else(kind: str) -> None:
    assert vision.for_port({"input_ids": vision.text({}, 5)}, kind) == {}

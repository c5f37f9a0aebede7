"""The package from end to end, judged by the program; needs a built `mlxport`."""

from pathlib import Path

import pytest

from mlxport import mutants, testing

try:
    BINARY = testing.binary()
except FileNotFoundError as reason:
    pytest.skip(f"not run: {reason}", allow_module_level=True)


def test_an_unchanged_port_passes() -> None:
    said = testing.assert_port("--model-type", "llama", "--scenarios", "prefill,decode,batch")
    assert said["coverage"]["compared"] == said["coverage"]["recorded"] > 20
    assert said["scenarios"] == {"prefill": "pass", "decode": "pass", "batch": "pass"}


@pytest.mark.parametrize(
    "name, cause",
    [
        ("theta", "rope_theta"),
        ("activation", "activation"),
        ("scale", "attention scale"),
        ("cache off by one", "begins at position 29 with rope offset 28"),
    ],
)
def test_a_planted_fault_is_found_and_named(tmp_path: Path, name: str, cause: str) -> None:
    fault = next(f for f in mutants.FAULTS if f.model_type == "llama" and f.name == name)
    file = mutants.copied("llama", tmp_path, fault.name, [(fault.old, fault.new)])
    said, _ = testing.check("--model-type", "llama", "--port", f"{file}:Model", "--scenarios", fault.scenario)
    assert said["verdict"] == "fail" and fault.module in said["first"]["point"] and cause in said["first"]["cause"]

"""Names by content: modules made of the same parameters find each other; what is lost is told."""

from mlxport.mapping import by_content


def test_names_play_no_part() -> None:
    tags = {"model.embed.weight": 0, "model.layers.0.q.weight": 1, "model.layers.0.k.weight": 2, "head.weight": 3}
    paths = [
        "model",
        "model.embed",
        "model.layers.0",
        "model.layers.0.q",
        "model.layers.0.k",
        "model.layers.0.act",
        "head",
    ]
    port = {
        "t.wte.w": frozenset({0}),
        "t.h.0.a.w": frozenset({1}),
        "t.h.0.b.w": frozenset({2}),
        "out.w": frozenset({3}),
    }
    found = by_content(tags, paths, port, ["t", "t.wte", "t.h.0", "t.h.0.a", "t.h.0.b", "out"])
    assert found.port_of == {
        "model": "t",
        "model.embed": "t.wte",
        "model.layers.0": "t.h.0",
        "model.layers.0.q": "t.h.0.a",
        "model.layers.0.k": "t.h.0.b",
        "head": "out",
    }
    assert list(found.left) == ["model.layers.0.act"]


def test_a_dropped_parameter_is_told_on_both_sides() -> None:
    found = by_content(
        {"a.weight": 0, "b.weight": 1}, ["a", "b"], {"x.w": frozenset({0}), "y.w": frozenset()}, ["x", "y"]
    )
    assert found.dropped == ["b.weight"] and found.made_up == ["y.w"]
    assert "dropped" in found.left["b"]


def test_stacked_experts_are_one_module() -> None:
    tags = {"mlp.experts.gate_up": 0, "mlp.experts.down": 1, "mlp.gate.weight": 2}
    port = {
        "mlp.switch.g.w": frozenset({0}),
        "mlp.switch.u.w": frozenset({0}),
        "mlp.switch.d.w": frozenset({1}),
        "mlp.router.w": frozenset({2}),
    }
    found = by_content(
        tags,
        ["mlp", "mlp.experts", "mlp.gate"],
        port,
        ["mlp", "mlp.switch", "mlp.switch.g", "mlp.switch.u", "mlp.switch.d", "mlp.router"],
    )
    assert found.port_of == {"mlp": "mlp", "mlp.experts": "mlp.switch", "mlp.gate": "mlp.router"}


def test_a_tied_head_is_not_its_embedding() -> None:
    found = by_content(
        {"model.embed.weight": 0, "lm_head.weight": 0},
        ["model", "model.embed", "lm_head"],
        {"model.embed.w": frozenset({0})},
        ["model", "model.embed"],
    )
    assert found.port_of["model.embed"] == "model.embed"
    assert "lm_head" in found.left

"""Configs as hub releases have them, and what is told."""

from mlxport.hubform import hub_form, told, with_aliases


def test_theta_comes_to_the_top_and_is_told() -> None:
    saved = {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}
    made = hub_form(saved)
    assert made["rope_theta"] == 1e5 and made["rope_scaling"] is None
    assert "rope_theta added: 100000.0" in told(saved, made)


def test_a_scaling_keeps_its_type_under_both_names() -> None:
    made = hub_form(
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "partial_rotary_factor": 0.5}}
    )
    assert made["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0, "type": "yarn"}
    assert made["partial_rotary_factor"] == 0.5


def test_layers_of_two_kinds_have_two_thetas() -> None:
    both = {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    made = hub_form(
        {
            "model_type": "gemma3_text",
            "rope_parameters": both,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        }
    )
    assert (made["rope_theta"], made["rope_local_base_freq"], made["sliding_window_pattern"]) == (1e6, 1e4, 6)


def test_other_names_are_given_too() -> None:
    assert with_aliases({"num_experts": 4}, {"num_local_experts": "num_experts"})["num_local_experts"] == 4


def test_layers_without_a_window_are_those_without_positions() -> None:
    made = hub_form({"model_type": "flint", "layer_types": ["sliding_attention", "full_attention"]})
    assert made["no_rope_layer_indices"] == [1]


def test_modernbert_has_one_number_for_its_layers_and_two_thetas() -> None:
    both = {"full_attention": {"rope_theta": 16e4}, "sliding_attention": {"rope_theta": 1e4}}
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    made = hub_form({"model_type": "modernbert", "rope_parameters": both, "layer_types": types})
    assert made["global_attn_every_n_layers"] == 3
    assert (made["global_rope_theta"], made["local_rope_theta"]) == (16e4, 1e4)

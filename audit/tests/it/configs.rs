//! Config fields that decide numbers.

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::model::{audited, audited_against, config, converted, expect_fault, release};

fn with(change: impl FnOnce(&mut Value)) -> mlxport_audit::Report {
    let mut changed = config();
    change(&mut changed);
    audited(&converted(&release(), Dtype::BF16), &changed)
}

#[test]
fn changed_fields() {
    for (field, value) in [
        ("rope_theta", json!(1e4)),
        ("rms_norm_eps", json!(1e-5)),
        ("hidden_act", json!("gelu")),
        ("num_key_value_heads", json!(2)),
        ("num_experts_per_tok", json!(3)),
        ("norm_topk_prob", json!(false)),
    ] {
        expect_fault(&with(|config| config[field] = value), "config", &[field]);
    }
}

#[test]
fn lost_fields_whose_default_is_another() {
    let lost = |name: &'static str| with(move |config| drop(config.as_object_mut().expect("an object").remove(name)));
    expect_fault(&lost("rms_norm_eps"), "config", &["rms_norm_eps"]);
    expect_fault(&lost("num_experts"), "config", &["num_experts"]);
    assert_eq!(lost("transformers_version").verdict, "pass");
}

#[test]
fn rotary_settings_may_move_but_not_out_of_the_ports_sight() {
    let mut new = config();
    let theta = new.as_object_mut().expect("an object").remove("rope_theta");
    new["rope_parameters"] = json!({"rope_type": "default", "rope_theta": theta});
    let mlx = converted(&release(), Dtype::BF16);
    let report = audited_against(&release(), &new, &mlx, &config());
    assert!(report.findings.is_empty(), "{}", mlxport_audit::text(&report));
    let report = audited_against(&release(), &new, &mlx, &new);
    expect_fault(&report, "config", &["rope_theta"]);
    // mlx-lm's qwen3 looks into rope_parameters.
    new["model_type"] = json!("qwen3");
    let report = audited_against(&release(), &new, &mlx, &new);
    assert!(!report.findings.iter().any(|finding| finding.keys == ["rope_theta"]), "{}", mlxport_audit::text(&report));
}

#[test]
fn what_follows_from_other_fields_is_held_against_them() {
    let mut release_config = config();
    release_config["model_type"] = json!("llama");
    release_config.as_object_mut().expect("an object").remove("head_dim");
    let mlx = converted(&release(), Dtype::BF16);
    let with = |base: &Value, name: &str, value: Value| {
        let mut changed = base.clone();
        changed[name] = value;
        audited_against(&release(), base, &mlx, &changed)
    };
    let names = |report: &mlxport_audit::Report, name: &str| {
        report.findings.iter().any(|finding| finding.kind == "config" && finding.keys == [name])
    };
    assert!(!names(&with(&release_config, "head_dim", json!(16)), "head_dim"));
    assert!(names(&with(&release_config, "head_dim", json!(32)), "head_dim"));
    release_config["n_embd"] = json!(64);
    release_config["n_inner"] = Value::Null;
    assert!(!names(&with(&release_config, "n_inner", json!(256)), "n_inner"));
    assert!(names(&with(&release_config, "n_inner", json!(128)), "n_inner"));
}

#[test]
fn which_layers_see_a_window_alone_is_not_lost() {
    let kinds = |period: usize| -> Value {
        let kind = |at: usize| if at.is_multiple_of(period) { "full_attention" } else { "sliding_attention" };
        (1..=6).map(kind).collect()
    };
    let mut release_config = config();
    release_config["model_type"] = json!("gemma3_text");
    let mlx = converted(&release(), Dtype::BF16);
    let audited = |period: usize, change: &dyn Fn(&mut Value)| {
        let mut released = release_config.clone();
        released["layer_types"] = kinds(period);
        let mut changed = released.clone();
        change(&mut changed);
        audited_against(&release(), &released, &mlx, &changed)
    };
    let lose = |config: &mut Value| drop(config.as_object_mut().expect("an object").remove("layer_types"));
    for period in [6, 3] {
        expect_fault(&audited(period, &lose), "config", &["layer_types"]);
    }
    // mlx-lm's class reads the count alone. What is lost is said by a count that agrees, and by no other.
    let counted = |count: u64| {
        audited(3, &move |config: &mut Value| {
            lose(config);
            config["sliding_window_pattern"] = json!(count);
        })
    };
    assert!(counted(3).findings.is_empty(), "{}", mlxport_audit::text(&counted(3)));
    expect_fault(&counted(2), "config", &["layer_types"]);
    expect_fault(&audited(3, &|_| {}), "config", &["layer_types"]);
    assert!(audited(6, &|_| {}).findings.is_empty());
}

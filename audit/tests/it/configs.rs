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
        ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
    ] {
        if field == "rope_scaling" {
            continue;
        }
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
    let told = |report: &mlxport_audit::Report, name: &str| {
        report.findings.iter().any(|finding| finding.kind == "config" && finding.keys == [name])
    };
    assert!(!told(&with(&release_config, "head_dim", json!(16)), "head_dim"));
    assert!(told(&with(&release_config, "head_dim", json!(32)), "head_dim"));
    release_config["n_embd"] = json!(64);
    release_config["n_inner"] = Value::Null;
    assert!(!told(&with(&release_config, "n_inner", json!(256)), "n_inner"));
    assert!(told(&with(&release_config, "n_inner", json!(128)), "n_inner"));
}

//! Planted faults: every one must be caught and named where it was planted, and no correct variant accused.
//!
//! A few are planted in the files themselves, as a converter that is wrong would write them; the catalogue's are planted by
//! `mlxport parity --mutate`.

use std::path::Path;

use mlxport_reports::from_json;
use mlxport_verdict::{MutationReport, Run, Verdict};

use crate::support::{
    code, converted, edit_config, fixture, parity, schemas, stderr,
    tensors::{self, Owned, Tensors},
};

fn tensor<'a>(all: &'a mut Tensors, name: &str) -> &'a mut Owned {
    all.get_mut(name).unwrap_or_else(|| panic!("{name} is in the model"))
}

/// Runs both modes on a model of `name` whose files `damage` has changed.
fn damaged(name: &str, damage: impl FnOnce(&Path)) -> Run {
    let dir = converted(name, "mlx-vlm");
    let model = dir.path().join("model");
    damage(&model);
    let output = parity(&model, &fixture(name), &["--json"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    from_json(&String::from_utf8(output.stdout).expect("UTF-8")).expect("a sound record")
}

fn weights(damage: fn(&mut Tensors)) -> impl FnOnce(&Path) {
    move |model| {
        let path = model.join("model.safetensors");
        let mut all = tensors::read(&path);
        damage(&mut all);
        tensors::write(&path, &all);
    }
}

#[test]
fn faults_in_the_files_are_named_where_they_are() {
    let experts = |all: &mut Tensors| {
        for part in ["gate_proj", "up_proj", "down_proj"] {
            tensor(all, &format!("language_model.model.layers.1.mlp.switch_mlp.{part}.weight")).swap_rows(0, 1);
        }
    };
    let kernel = |all: &mut Tensors| tensor(all, "sam_model.neck.2.weight").swap_middle_axes();
    let epsilon = |model: &Path| {
        let pointer = "/vision_config/width/sam_vit_b/layer_norm_eps";
        edit_config(&model.join("config.json"), pointer, 1e-5.into());
    };
    for (run, place) in [
        (damaged("tiny-gundam", weights(experts)), "model.layers.1.mlp.experts.0.gate_proj#0.out"),
        (damaged("tiny-base", weights(kernel)), "model.sam_model.neck.2#0.out"),
        (damaged("tiny-small", epsilon), "model.sam_model.blocks.0.norm1#0.out"),
    ] {
        assert_eq!(run.summary.verdict, Verdict::Fail);
        for seen in [run.summary.first_divergence, run.summary.first_isolated_failure] {
            assert_eq!(seen.expect("named").id().to_string(), place);
        }
    }
}

/// `mlxport parity --mutate` on a converted fixture.
fn mutated(name: &str, layout: &str) -> MutationReport {
    let dir = converted(name, layout);
    let output = parity(&dir.path().join("model"), &fixture(name), &["--mutate", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    schemas::conforms("mutation", &object);
    serde_json::from_value(object).expect("a mutation report")
}

/// Plants the whole catalogue: every fault must be caught, every variant pass.
fn all_caught_and_nothing_accused(name: &str, layout: &str) {
    let report = mutated(name, layout);
    let summary = report.summary;
    assert_eq!(summary, mlxport_verdict::MutationSummary::of(&report.mutants, &report.variants), "{name}");
    assert!(summary.passes() && summary.score == 1.0, "{name}: {summary:?}");
    assert!(summary.counted >= 100, "{name}: {summary:?}");
    assert!(summary.variants >= 20, "{name}: {summary:?}");
    for (name_of_fault, hint) in [
        ("a square CLIP weight transposed", "the weight is transposed"),
        ("SAM's eps ten times larger", "epsilon is 1e-5 and should be 1e-6"),
        ("tanh GELU for CLIP's quick_gelu", "the activation is GeluTanh and should be QuickGelu"),
        ("patch kernel: blue, green, red", "the kernel's input channels are reversed"),
        (
            "CLIP's position table half a pixel off",
            "the position table is resampled bicubic half a pixel off and should be bicubic with antialias",
        ),
        (
            "SAM's position table without antialias",
            "the position table is resampled bicubic without antialias and should be bicubic with antialias",
        ),
        ("head rows off by one", "axis 2 is off by one: it comes one too late"),
        ("the projector's bias dropped", "a bias is missing or wrong: off by one number per channel"),
    ] {
        let mutant = report.mutants.iter().find(|m| m.name == name_of_fault).expect("in the catalogue");
        assert_eq!(mutant.hint.as_deref(), Some(hint), "{name}: {name_of_fault}");
    }
    let names: std::collections::BTreeSet<&str> = report.mutants.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names.len(), report.mutants.len(), "{name}: a fault is listed twice");
    assert!(report.mutants.iter().all(|m| m.failed > 0 || !matches!(m.outcome, mlxport_verdict::Outcome::Caught)));
}

#[test]
fn every_fault_in_tiles_resampled_tables_and_padding_is_caught_and_no_variant_is_accused() {
    all_caught_and_nothing_accused("tiny-gundam", "mlx-vlm");
}

#[test]
fn every_fault_in_grouped_heads_and_routing_by_groups_is_caught_in_the_other_layout() {
    all_caught_and_nothing_accused("tiny-grid", "split");
}

#[test]
fn a_model_that_is_wrong_already_is_not_mutated() {
    let dir = converted("tiny-small", "mlx-vlm");
    let model = dir.path().join("model");
    edit_config(&model.join("config.json"), "/language_config/rms_norm_eps", 1e-3.into());
    let output = parity(&model, &fixture("tiny-small"), &["--mutate"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("does not pass as it is"), "{}", stderr(&output));
}

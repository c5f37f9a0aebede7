//! The main job, end to end: every small fixture converts and passes, in both layouts, with nothing left out.

use std::path::Path;

use crate::support::{FIXTURES, code, converted, fixture, mlxport, parity, stderr, tensors};

/// Runs parity with `--json` on the model in `dir` and returns the exit code and the record.
fn record(dir: &Path, name: &str, more: &[&str]) -> (i32, serde_json::Value) {
    let output = parity(&dir.join("model"), &fixture(name), &[&["--json"], more].concat());
    let record = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{name}: stdout is not one JSON object: {e}\n{}", stderr(&output)));
    (code(&output), record)
}

#[test]
fn every_small_fixture_passes_in_both_layouts() {
    for name in FIXTURES {
        for layout in ["mlx-vlm", "split"] {
            let dir = converted(name, layout);
            let (code, record) = record(dir.path(), name, &["--mode", "both"]);
            let summary = &record["summary"];
            assert_eq!((code, summary["verdict"].as_str()), (0, Some("pass")), "{name} {layout}: {summary:#}");
            assert_eq!(record["k"], 4.0, "the tolerance is four floors");
            assert_eq!(record["model"]["layout"], layout);
            assert_eq!(summary["points_recorded"], summary["points_mapped"], "{name}: every point is mapped");
            let compared = summary["cumulative"]["compared"].as_u64();
            assert_eq!(compared, summary["points_recorded"].as_u64(), "{name}: every point is compared");
            assert!(summary["isolated"]["compared"].as_u64() > Some(100), "{name}: {}", summary["isolated"]);
            tuned(&record, name);
        }
    }
}

/// What users run is judged, too: the decoder's input and the logits, and of `tiny-small` every recorded decoding run.
fn tuned(record: &serde_json::Value, name: &str) {
    let taps = record["taps"].as_array().expect("taps").iter().filter(|tap| tap["mode"] == "tuned");
    let points: Vec<&str> = taps.map(|tap| tap["point"].as_str().expect("a name")).collect();
    let decoded = points.iter().filter(|point| point.starts_with("decode.")).count();
    assert_eq!(points[..2], ["model.layers.0.input_layernorm", "logits"], "{name}");
    assert_eq!((points.len(), decoded > 0), (2 + decoded, name == "tiny-small"), "{name}: {points:?}");
}

#[test]
fn steps_are_judged_as_asked() {
    let dir = converted("tiny-small", "split");
    let modes = |steps: &str| {
        let (code, record) = record(dir.path(), "tiny-small", &["--steps", steps]);
        assert_eq!((code, record["summary"]["verdict"].as_str()), (0, Some("pass")), "{steps}: {}", record["summary"]);
        record["modes"].clone()
    };
    assert_eq!(modes("plain"), serde_json::json!(["cumulative", "isolated"]));
    assert_eq!(modes("tuned"), serde_json::json!(["tuned"]));
    assert_eq!(modes("both"), serde_json::json!(["cumulative", "tuned", "isolated"]));
}

/// Another of the builder's projectors, whose weights stand in another order in `split`; cut to what the projector decides.
#[test]
fn a_projector_of_another_type_passes_in_both_layouts() {
    for layout in ["mlx-vlm", "split"] {
        let dir = converted("tiny-squares", layout);
        let (code, record) = record(dir.path(), "tiny-squares", &["--mode", "both"]);
        let summary = &record["summary"];
        assert_eq!((code, summary["verdict"].as_str()), (0, Some("pass")), "{layout}: {summary:#}");
        assert_eq!(summary["points_recorded"], summary["points_mapped"]);
        assert_eq!(summary["cumulative"]["compared"], summary["points_recorded"]);
        let isolated = record["taps"].as_array().expect("taps").iter().filter(|tap| {
            tap["mode"] == "isolated" && tap["point"].as_str().is_some_and(|point| point.starts_with("model.projector"))
        });
        assert_eq!(isolated.count(), 8, "six steps, the sequence and the whole");
        if layout == "mlx-vlm" {
            // The stored record is of the plain steps.
            as_stored(&self::record(dir.path(), "tiny-squares", &["--steps", "plain"]).1);
        }
    }
}

/// The record that the reports are reviewed on (`reports/testdata/`) is still what a run writes: the same points, the same keys, of the same
/// files. Figures are each machine's own.
fn as_stored(record: &serde_json::Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/testdata/pass.json");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("stored")).expect("JSON");
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    assert_eq!(keys(record), keys(&stored));
    for part in ["summary", "environment", "tool"] {
        assert_eq!(keys(&record[part]), keys(&stored[part]), "{part}");
    }
    for part in ["schema", "fixture", "model", "modes", "k", "not_compared"] {
        assert_eq!(record[part], stored[part], "{part}");
    }
    let taps = |record: &serde_json::Value| -> Vec<serde_json::Value> {
        let known = ["point", "call", "kind", "mode", "shape", "dtype", "reference", "status"];
        // Which taps keep a detail follows from what was measured.
        let of = |tap: &serde_json::Value| {
            let kept: Vec<String> = keys(tap).into_iter().filter(|key| key != "detail").collect();
            serde_json::json!([known.map(|key| tap[key].clone()), kept, keys(&tap["metrics"]), keys(&tap["floors"])])
        };
        record["taps"].as_array().expect("taps").iter().map(of).collect()
    };
    assert_eq!(taps(record), taps(&stored));
}

#[test]
fn router_choices_are_compared_and_equal() {
    let dir = converted("tiny-gundam", "mlx-vlm");
    let (_, record) = record(dir.path(), "tiny-gundam", &[]);
    let taps = record["taps"].as_array().expect("taps");
    let choices: Vec<_> = taps.iter().filter(|tap| !tap["choices"].is_null()).collect();
    assert_eq!(choices.len(), 4, "two MoE layers in two modes");
    for tap in choices {
        assert_eq!(tap["choices"]["differing_rows"], 0, "{}", tap["point"]);
        assert_eq!(tap["choices"]["rows"], 31);
    }
}

#[test]
fn a_report_is_written_whole() {
    let dir = converted("tiny-small", "mlx-vlm");
    let report = dir.path().join("report");
    let (code, record) = record(dir.path(), "tiny-small", &["--report", &report.to_string_lossy()]);
    assert_eq!(code, 0);
    let written = std::fs::read(report.join("record.json")).expect("record.json");
    assert_eq!(record, serde_json::from_slice::<serde_json::Value>(&written).expect("JSON"));
    let markdown = std::fs::read_to_string(report.join("report.md")).expect("report.md");
    assert!(markdown.contains("tiny-small") && markdown.contains("PASS"), "{markdown}");
}

#[test]
fn a_selection_compares_only_what_it_names_and_says_so() {
    let dir = converted("tiny-small", "mlx-vlm");
    let (code, record) = record(dir.path(), "tiny-small", &["--select", "model.projector*"]);
    assert_eq!(code, 0);
    let taps = record["taps"].as_array().expect("taps");
    assert!(!taps.is_empty());
    assert!(taps.iter().all(|tap| tap["point"].as_str().is_some_and(|p| p.starts_with("model.projector"))));
    let skipped = record["not_compared"].as_array().expect("list");
    assert!(skipped.iter().any(|point| point["reason"] == "not selected"));
}

#[test]
fn nothing_compared_is_no_pass() {
    let dir = converted("tiny-small", "mlx-vlm");
    let (code, record) = record(dir.path(), "tiny-small", &["--select", "no.such.module"]);
    assert_eq!((code, record["summary"]["verdict"].as_str()), (2, Some("nothing_compared")));
}

/// In `tiny-ties` the routers' rows of experts 1 and 4 are the same. Tipped a little either way, every token that meets them chooses as
/// PyTorch did in one of two models, and differently in the other.
#[test]
fn a_near_tie_is_excused_and_hides_nothing_that_follows() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (source, model) = (fixture("tiny-ties").join("checkpoint"), dir.path().join("model"));
    let paths = [source.to_string_lossy(), model.to_string_lossy()];
    let output = mlxport(["convert", &*paths[0], &*paths[1], "--dtype", "f32"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let path = model.join("model.safetensors");
    let as_released = tensors::read(&path);
    let near_ties = |tipped: f32| -> (i32, u64) {
        let mut all = as_released.clone();
        for layer in 1..=2 {
            let gate = all.get_mut(&format!("language_model.model.layers.{layer}.mlp.gate.weight")).expect("a router");
            gate.scale_row(4, tipped);
        }
        tensors::write(&path, &all);
        let (code, record) = record(dir.path(), "tiny-ties", &[]);
        let taps = record["taps"].as_array().expect("taps").iter();
        (code, taps.filter_map(|tap| tap["choices"]["near_ties"].as_u64()).sum())
    };
    let (up, down) = (near_ties(1.0 + 4e-7), near_ties(1.0 - 4e-7));
    assert_eq!((up.0, down.0), (0, 0), "both pass, experts and all that follows them included");
    assert!(up.1 + down.1 > 0, "some token chose otherwise");
    let far = near_ties(1.0 + 1e-3);
    assert_eq!(far.0, 1, "what rounding does not explain is not excused");
}

/// A model of other numbers than the recording's is told before any tap, and judged all the same.
#[test]
fn another_checkpoint_than_the_recording_s_is_told_first() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = home.path().join("release");
    crate::support::checkpoint_copy("tiny-small", &source);
    let file = source.join("model.safetensors");
    let mut all = tensors::read(&file);
    let changed = "model.layers.1.post_attention_layernorm.weight";
    all.get_mut(changed).expect("it is there").bytes[3] ^= 0x01;
    tensors::write(&file, &all);
    for dtype in ["keep", "f32"] {
        let model = home.path().join(dtype);
        let output =
            mlxport(["convert".as_ref(), source.as_os_str(), model.as_os_str(), "--dtype".as_ref(), dtype.as_ref()]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let output = parity(&model, &fixture("tiny-small"), &["--mode", "cumulative", "--steps", "plain"]);
        let said = stderr(&output);
        assert_eq!(code(&output), 1, "{said}");
        assert!(
            said.starts_with("warning: ") && said.contains("another checkpoint") && said.contains(changed),
            "{said}"
        );
    }
    let own = converted("tiny-small", "split");
    let output = parity(&own.path().join("model"), &fixture("tiny-small"), &["--mode", "cumulative"]);
    assert!(!stderr(&output).contains("another checkpoint"), "{}", stderr(&output));
}

/// What does not run here is told with what does, and with the way that is left.
#[test]
fn a_model_of_another_family_is_told_which_run_here() {
    let home = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(home.path().join("config.json"), r#"{"model_type": "llama"}"#).expect("written");
    let output = parity(home.path(), &fixture("tiny-small"), &[]);
    let said = stderr(&output);
    assert_eq!(code(&output), 2, "{said}");
    assert!(said.contains("llama") && said.contains("DeepseekOCR") && said.contains("mlxport check"), "{said}");
}

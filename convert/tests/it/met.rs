//! PyTorch files as people's training leaves them (testdata/pickle/met/): all hold one made-up model, and all convert to the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use mlxport_convert::checkpoint::{Checkpoint, TensorSource};
use mlxport_convert::{Request, ViolationKind, WriteOptions, prepare, survey};

use crate::pickle::{converted, release};
use crate::support::has;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pickle").join(name)
}

/// The bytes that the model converts to.
fn expected(home: &Path) -> Vec<u8> {
    converted(&release(home, "safe", &[("toy.safetensors", "model.safetensors")]), &home.join("out-safe"))
}

#[test]
fn every_file_that_holds_the_model_converts_to_the_same_bytes() {
    let home = tempfile::tempdir().expect("a directory");
    let expected = expected(home.path());
    for (name, called, note) in [
        ("legacy.bin", "pytorch_model.bin", ""),
        ("legacy_protocol1.bin", "pytorch_model.bin", ""),
        ("legacy_protocol4.bin", "pytorch_model.bin", ""),
        ("protocol4.bin", "pytorch_model.bin", ""),
        ("protocol5.bin", "pytorch_model.bin", ""),
        ("last.ckpt", "last.ckpt", "all keys begin with net."),
        ("ddp.bin", "pytorch_model.bin", "all keys begin with module."),
        ("compiled.bin", "pytorch_model.bin", "all keys begin with module._orig_mod."),
        (
            "ints.bin",
            "pytorch_model.bin",
            "height (the integer 192), use_stereo (True), name (the text \"mono\"), nothing (None)",
        ),
        ("loss.pth", "checkpoint.pth", "--state-dict"),
        ("rng.pth", "checkpoint.pth", "--state-dict"),
        ("ema.pth", "checkpoint.pth", "tensors of model were read; tensors also lie in ema (--state-dict"),
        ("paths.pth", "checkpoint.pth", ""),
        ("whole.pt", "model.pt", "a whole model was saved; its 10 parameters and buffers"),
        ("whole_legacy.pt", "model.pt", "a whole model was saved; its 10 parameters and buffers"),
        ("weights.tar", "weights.tar", ""),
        ("legacy.bin", "weights", ""),
    ] {
        let request = release(home.path(), &format!("{name}-{called}"), &[(&format!("met/{name}"), called)]);
        let lone = Request { source: request.source.join(called), ..request.clone() };
        for (request, target) in [(request, format!("out-{name}-{called}")), (lone, format!("lone-{name}-{called}"))] {
            let target = home.path().join(target);
            assert!(converted(&request, &target) == expected, "{name} as {called}");
            let notes = prepare(&request).expect("plans").plan.notes;
            assert!(note.is_empty() || notes.iter().any(|found| found.contains(note)), "{name}: {notes:?}");
        }
    }
}

#[test]
fn a_prefix_named_by_hand_is_taken_off_and_one_that_no_key_has_is_told() {
    let home = tempfile::tempdir().expect("a directory");
    let expected = expected(home.path());
    let request = release(home.path(), "ddp", &[("met/ddp.bin", "pytorch_model.bin")]);
    let by_hand = Request { strip_prefix: Some("module.".into()), ..request.clone() };
    assert!(converted(&by_hand, &home.path().join("out")) == expected);
    let none = survey(&Request { strip_prefix: Some("net.".into()), ..request }).expect("surveys");
    assert!(has(&none.violations, ViolationKind::MissingKey, "--strip-prefix"), "{:?}", none.violations);
}

#[test]
fn another_state_dict_is_read_when_it_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let request = release(home.path(), "ema", &[("met/ema.pth", "checkpoint.pth")]);
    let ema = Request { state_dict: Some("ema".into()), ..request.clone() };
    assert!(converted(&ema, &home.path().join("ema-out")) != converted(&request, &home.path().join("out")));
    let top = Checkpoint::scan_named(&data("met/loss.pth"), Some(".")).expect("a file");
    assert_eq!(top.checkpoint.tensors().keys().collect::<Vec<_>>(), ["loss"]);
}

#[test]
fn a_quantized_tensor_says_what_to_do() {
    let scan = Checkpoint::scan(&data("met/quantized.bin")).expect("a file");
    let told = scan.violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.contains("packed") && told.contains("dequantize()"), "{told}");
    assert_eq!(scan.violations.len(), 1, "{told}");
}

/// The legacy format cut off anywhere, and with any byte changed: told or read, never a panic.
#[test]
fn a_legacy_file_cut_off_or_changed_is_told_or_read() {
    let whole = fs::read(data("met/legacy.bin")).expect("readable");
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("x.bin");
    for byte_len in (0..whole.len()).step_by(5) {
        fs::write(&path, &whole[..byte_len]).expect("writes");
        assert!(!Checkpoint::scan(&path).expect("a file").violations.is_empty(), "{byte_len} bytes passed");
    }
    for at in (0..whole.len()).step_by(3) {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(&path, &bytes).expect("writes");
            drop(Checkpoint::scan(&path).expect("a file"));
        }
    }
}

#[test]
fn nothing_is_written_where_a_tied_head_is_another() {
    let home = tempfile::tempdir().expect("a directory");
    let recipe = r#"
schema = 1
name = "tied"
layouts = ["plain"]
fits = { model_type = ["toy"] }
[config]
fields = []
[table]
rows = [
  { from = "embed", shape = [2, 2], to = "embed" },
  { from = "head", shape = [2, 2], optional = true, op = "drop", same_as = "embed", reason = "tied" },
]
"#;
    fs::write(home.path().join("tied.toml"), recipe).expect("writes");
    for (last, is_tied) in [(4.0_f32, true), (5.0, false)] {
        let source = home.path().join(format!("release-{last}"));
        let bytes =
            |last: f32| [1.0, 2.0, 3.0, last].iter().flat_map(|value: &f32| value.to_le_bytes()).collect::<Vec<u8>>();
        let tensor = |name: &str, last| (name.to_owned(), safetensors::Dtype::F32, vec![2, 2], bytes(last));
        crate::support::tiny::write_release(
            &source,
            &serde_json::json!({"model_type": "toy"}),
            &[tensor("embed", 4.0), tensor("head", last)],
        );
        let recipe = Some(home.path().join("tied.toml").display().to_string());
        let request = Request { source, recipe, ..Request::default() };
        let target = home.path().join(format!("out-{last}"));
        let written = prepare(&request).expect("plans").write(&WriteOptions::to(&target));
        assert_eq!(written.is_ok(), is_tied);
        if let Err(error) = written {
            assert!(error.to_string().contains("from element 3 on"), "{error}");
            assert!(!target.exists());
        }
    }
}

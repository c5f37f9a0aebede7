//! PyTorch's own files as checkpoints: what PyTorch made is read element by element, and what is wrong or hostile is told.
//!
//! The files come from testdata/pickle/make.py; hostile ones that PyTorch would not write are put together here (support/pickled.rs).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mlxport_convert::checkpoint::{Checkpoint, Scan, TensorSource};
use mlxport_convert::transforms::{Assembly, Scratch, View};
use mlxport_convert::{
    ConvertError, DtypeChoice, Request, Violation, ViolationKind, WriteOptions, inspect_with, prepare,
};
use safetensors::Dtype;
use serde_json::json;

use crate::support::{has, load, load_directory, tiny::write_release};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pickle").join(name)
}

fn scan(name: &str, state_dict: Option<&str>) -> Scan {
    Checkpoint::scan_named(&data(name), state_dict).expect("it is a file")
}

/// Every tensor of a checkpoint, row-major.
pub fn read_all(checkpoint: &Checkpoint) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let read = |(key, info): (&String, &mlxport_convert::checkpoint::TensorInfo)| {
        let assembly = Assembly::of(View::stored(key, info.dtype, &info.shape, &info.strides));
        let mut bytes = vec![0; assembly.len() as usize * info.dtype.bitsize() / 8];
        assembly.read(checkpoint, info.dtype, 0, &mut bytes, &mut Scratch::default()).expect("reads");
        (key.clone(), (info.dtype, info.shape.iter().map(|&n| n as usize).collect(), bytes))
    };
    checkpoint.tensors().iter().map(read).collect()
}

fn violations(name: &str, state_dict: Option<&str>) -> Vec<Violation> {
    let scan = scan(name, state_dict);
    assert!(!scan.violations.is_empty(), "{name} passed");
    scan.violations
}

#[track_caller]
fn assert_told(violations: &[Violation], kind: ViolationKind, place: &str, found: &str) {
    let is_it = |v: &Violation| v.kind == kind && v.place.contains(place) && v.to_string().contains(found);
    assert!(violations.iter().any(is_it), "no {kind} at {place} with {found:?} in {violations:#?}");
}

#[test]
fn every_dtype_and_view_is_what_pytorch_has() {
    let scan = scan("views.pt", None);
    assert_eq!(scan.violations, []);
    let (found, expected) = (read_all(&scan.checkpoint), load(&data("views.safetensors")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, expected) in &expected {
        assert_eq!(&found[key], expected, "{key}");
    }
    let tensors = scan.checkpoint.tensors();
    assert_eq!(tensors["tied.a"].byte_offset, tensors["tied.c"].byte_offset, "tied weights share their bytes");
    assert_eq!(tensors["view.transposed"].strides, [1, 6]);
    assert_eq!(tensors["view.expanded"].strides, [1, 0]);
}

/// A recipe that takes the made-up model of make.py through most operations.
const RECIPE: &str = r#"
schema = 1
name = "toy"
layouts = ["plain"]
fits = { model_type = ["toy"] }

[config]
fields = [{ path = "width", kind = "size", dim = "width" }, { path = "parts", kind = "size", dim = "parts" }]

[indices]
part = { count = "parts" }

[table]
rows = [
  { from = "a", shape = ["width"], to = "out.a" },
  { from = "conv", shape = ["width", "3", "2", "2"], op = "conv_oihw_to_ohwi", to = "out.conv" },
  { from = "t", shape = ["width", "3"], op = "transpose", to = "out.t" },
  { from = "unfold", shape = ["width", "12"], op = "permute_unfold", kernel = ["2", "2"], to = "out.unfold" },
  { from = "qkv", shape = ["3*width", "2"], op = "split_qkv", to = ["out.q", "out.k", "out.v"] },
  { from = "e.{part}.w", shape = ["2"], op = "stack", over = "part", to = "out.e" },
  { from = ["left", "right"], shape = [["width", "1"], ["width", "2"]], op = "concat", axis = 1, to = "out.wide" },
  { from = "gone", shape = ["1"], dtype = ["I64"], op = "drop", reason = "a counter" },
]
"#;

/// A release of the made-up model with these files in it.
pub fn release(home: &Path, name: &str, files: &[(&str, &str)]) -> Request {
    let root = home.join(name);
    fs::create_dir_all(&root).expect("a directory");
    fs::write(home.join("toy.toml"), RECIPE).expect("writes");
    let config = json!({"model_type": "toy", "width": 4, "parts": 2}).to_string();
    fs::write(root.join("config.json"), config).expect("writes");
    for (from, to) in files {
        fs::copy(data(from), root.join(to)).expect("copies");
    }
    Request { source: root, recipe: Some(home.join("toy.toml").display().to_string()), ..Request::default() }
}

pub fn converted(request: &Request, target: &Path) -> Vec<u8> {
    prepare(request).expect("plans").write(&WriteOptions::to(target)).expect("converts");
    fs::read(target.join("model.safetensors")).expect("weights")
}

const SHARDS: [&str; 2] = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
const INDEX: &str = "pytorch_model.bin.index.json";

#[test]
fn pickles_convert_to_the_same_bytes_as_safetensors() {
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name);
    let safe = release(home.path(), "safe", &[("toy.safetensors", "model.safetensors")]);
    let expected = converted(&safe, &at("out-safe"));
    let (first, second) = ((SHARDS[0], SHARDS[0]), (SHARDS[1], SHARDS[1]));
    for (name, files) in [
        ("single", vec![("toy.bin", "pytorch_model.bin"), ("trainer.pt", "optimizer.pt")]),
        ("other-name", vec![("toy.bin", "weights.pth")]),
        ("shards", vec![first, second]),
        ("indexed", vec![first, second, (INDEX, INDEX)]),
    ] {
        let request = release(home.path(), name, &files);
        assert_eq!(converted(&request, &at(&format!("out-{name}"))), expected, "{name}");
    }
    let mut file = release(home.path(), "file", &[("toy.bin", "model.pt"), ("trainer.pt", "other.pt")]);
    file.source = file.source.join("model.pt");
    assert_eq!(converted(&file, &at("out-file")), expected);
    for dtype in [DtypeChoice::Bf16, DtypeChoice::F16] {
        let converted = |request: &Request, name: &str| {
            let request = Request { dtype, ..request.clone() };
            converted(&request, &at(&format!("{name}-{dtype}")))
        };
        assert_eq!(converted(&file, "pickle"), converted(&safe, "safe"));
    }
}

#[test]
fn safetensors_come_before_pickles_and_a_note_says_so() {
    let home = tempfile::tempdir().expect("a directory");
    let files = [("toy.safetensors", "model.safetensors"), ("evil.pt", "pytorch_model.bin")];
    let prepared = prepare(&release(home.path(), "both", &files)).expect("plans");
    assert!(prepared.plan.notes.iter().any(|note| note.contains("pytorch_model.bin")), "{:?}", prepared.plan.notes);
}

#[test]
fn f64_and_f8_weights_need_a_dtype() {
    let home = tempfile::tempdir().expect("a directory");
    let recipe = r#"
schema = 1
name = "one"
layouts = ["plain"]
fits = { model_type = ["one"] }
[config]
fields = []
[table]
rows = [{ from = "w", shape = ["2"], to = "w" }]
"#;
    fs::write(home.path().join("one.toml"), recipe).expect("writes");
    // 1 + 2^-8 + 2^-40 lies just above the middle between two bfloat16: rounded by way of float32 it would be 1.
    let above = 1.0 + 2_f64.powi(-8) + 2_f64.powi(-40);
    let wide: Vec<u8> = [above, -0.5].iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
    for (dtype, bytes, expected) in [
        (Dtype::F64, wide, [1.007_812_5_f32, -0.5]),
        (Dtype::F8_E4M3, vec![0x7e, 0x81], [448.0, -(2_f32.powi(-9))]),
        (Dtype::F8_E5M2, vec![0x7b, 0x81], [57344.0, -(2_f32.powi(-16))]),
    ] {
        let source = home.path().join(dtype.to_string());
        write_release(&source, &json!({"model_type": "one"}), &[("w".into(), dtype, vec![2], bytes)]);
        let recipe = Some(home.path().join("one.toml").display().to_string());
        let request = Request { source, recipe, ..Request::default() };
        let error = prepare(&request).expect_err("no model computes in it");
        assert_told(error.violations(), ViolationKind::WrongDtype, "w", "--dtype bf16, f16 or f32 converts it");
        let request = Request { dtype: DtypeChoice::Bf16, ..request };
        let target = home.path().join(format!("{dtype}-out"));
        prepare(&request).expect("plans").write(&WriteOptions::to(&target)).expect("converts");
        let (found, _, bytes) = &load_directory(&target)["w"];
        let expected: Vec<u8> = expected.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        assert_eq!((*found, bytes), (Dtype::BF16, &expected), "{dtype}");
    }
}

#[test]
fn a_state_dict_is_found_or_named() {
    let found = scan("trainer.pt", None);
    assert_eq!(found.violations, []);
    assert_eq!(found.checkpoint.tensors().keys().collect::<Vec<_>>(), ["bias", "weight"]);
    let ema = read_all(&scan("trainer.pt", Some("ema.shadow")).checkpoint);
    assert_eq!(ema["weight"].2[..4], 70_f32.to_le_bytes());
    let inspected = inspect_with(&data("trainer.pt"), Some("state_dict"), &[]).expect("inspects");
    assert_eq!((inspected.tensors, inspected.byte_len), (2, 32));

    assert_told(&violations("two.pth", None), ViolationKind::Unsupported, "two.pth", "found model, state_dict");
    assert_eq!(scan("two.pth", Some("model")).violations, []);
    let unknown = violations("trainer.pt", Some("nobody"));
    assert_told(&unknown, ViolationKind::Unsupported, "trainer.pt", "ema.shadow");
    // The same dict under a second name is the same dict.
    assert_eq!(read_all(&scan("trainer.pt", Some("again")).checkpoint), read_all(&found.checkpoint));
    assert!(
        found.notes.iter().any(|note| note.contains("ema.shadow") && note.contains("--state-dict")),
        "{:?}",
        found.notes
    );
    let safetensors = violations("toy.safetensors", Some("model"));
    assert_told(&safetensors, ViolationKind::Unsupported, "--state-dict", "safetensors");
}

#[test]
fn what_is_no_tensor_in_a_state_dict_is_named() {
    let found = scan("mixed.pt", None);
    assert_eq!(found.violations, []);
    for what in ["epoch (the integer 3)", "none (None)", "nested (a dict of 1)"] {
        assert!(found.notes.iter().any(|note| note.contains(what)), "no {what} in {:?}", found.notes);
    }
    let flagged = violations("flagged.pt", None);
    assert_told(&flagged, ViolationKind::Unsupported, "flagged.pt: neg", "conjugated or negated");
}

#[test]
fn other_formats_and_other_things_are_told_apart() {
    for (name, found) in [("bare.pt", "a bare pickle"), ("script.pt", "TorchScript"), ("evil.pt", "posix.system")] {
        assert_told(&violations(name, None), ViolationKind::Unsupported, name, found);
    }
    assert!(!Path::new("mlxport-was-here").exists(), "something ran");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, kind, found) in [
        (tar, ViolationKind::Unsupported, "a tar archive"),
        (Vec::new(), ViolationKind::TruncatedFile, "an empty file"),
        (b"hello".to_vec(), ViolationKind::Unsupported, "something else"),
    ] {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("x.bin");
        fs::write(&path, bytes).expect("writes");
        assert_told(&Checkpoint::scan(&path).expect("a file").violations, kind, "x.bin", found);
    }
}

#[test]
fn shards_and_index_must_agree() {
    let home = tempfile::tempdir().expect("a directory");
    let index = fs::read_to_string(data(INDEX)).expect("readable");
    let (first, second) = ((SHARDS[0], SHARDS[0]), (SHARDS[1], SHARDS[1]));
    let told = |name: &str, files: &[(&str, &str)], index: Option<String>| {
        let request = release(home.path(), name, files);
        if let Some(index) = index {
            fs::write(request.source.join(INDEX), index).expect("writes");
        }
        Checkpoint::scan(&request.source).expect("a directory").violations
    };
    assert!(has(&told("missing", &[first], None), ViolationKind::MissingFile, ""));
    assert!(has(&told("gone", &[first], Some(index.clone())), ViolationKind::MissingFile, SHARDS[1]));
    let lies = index.replace("\"conv\": \"pytorch_model-00001", "\"conv\": \"pytorch_model-00002");
    assert_told(
        &told("lies", &[first, second], Some(lies)),
        ViolationKind::IndexMismatch,
        "conv",
        "it in pytorch_model-00001",
    );
    let less = index.replace("\"gone\"", "\"other\"");
    let less = told("less", &[first, second], Some(less));
    assert_told(&less, ViolationKind::IndexMismatch, "gone", INDEX);
    assert_told(&less, ViolationKind::IndexMismatch, "other", "no such key");
    let out = index.replace("pytorch_model-00002", "../pytorch_model-00002");
    assert!(has(&told("out", &[first, second], Some(out)), ViolationKind::BadPath, INDEX));
    let both = [first, second, ("toy.bin", "pytorch_model.bin")];
    assert!(has(&told("both", &both, None), ViolationKind::Unsupported, ""));
    let several = [("toy.bin", "a.pt"), ("toy.bin", "b.pt")];
    assert_told(&told("several", &several, None), ViolationKind::Unsupported, "", "a.pt, b.pt");
    let twice = [(SHARDS[0], SHARDS[0]), (SHARDS[0], SHARDS[1])];
    assert!(has(&told("twice", &twice, None), ViolationKind::DuplicateKey, SHARDS[1]));
}

#[test]
fn a_file_cut_off_anywhere_is_told() {
    let whole = fs::read(data("toy.bin")).expect("readable");
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("toy.bin");
    for byte_len in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..byte_len]).expect("writes");
        assert!(!Checkpoint::scan(&path).expect("a file").violations.is_empty(), "{byte_len} bytes passed");
    }
}

/// Any byte may be wrong (a sample of them, so that the test is fast): an error or another reading, never a panic, and what is read lies in the file.
#[test]
fn a_file_with_any_byte_changed_is_read_or_told() {
    let whole = fs::read(data("toy.bin")).expect("readable");
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("toy.bin");
    for at in (0..whole.len()).step_by(11) {
        for change in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(&path, &bytes).expect("writes");
            match Checkpoint::scan(&path) {
                Ok(scan) => drop(read_all(&scan.checkpoint)),
                Err(ConvertError::Violations(_)) => {}
                Err(error) => panic!("byte {at} ^ {change:#x}: {error}"),
            }
        }
    }
}

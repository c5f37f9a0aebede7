//! Releases that are quantized already: every element against what the reference code makes of it (`testdata/prequantized/`, recorded by
//! `make.py` there), in every dtype, in any cut, and through recipes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mlxport_convert::checkpoint::{Checkpoint, TensorSource};
use mlxport_convert::prequantized::{Opened, recognize};
use mlxport_convert::quantize::{self, Mode, Quantization};
use mlxport_convert::{DtypeChoice, Request, ViolationKind, WriteOptions, prepare, verify};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::{has, load, load_directory};

const RELEASES: [&str; 14] = [
    "awq",
    "awq-128",
    "ct-float8",
    "ct-int8",
    "ct-packed",
    "fp8-block",
    "fp8-scales",
    "gptq-2",
    "gptq-3",
    "gptq-4",
    "gptq-8",
    "gptq-act-order",
    "gptq-rows",
    "gptq-v2",
];

fn release(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/prequantized").join(name)
}

fn expected(name: &str) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    load(&release(name).join("expected.tensors"))
}

/// A copy that a test may change.
fn copy_of(name: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir(release(name)).expect("a release") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "expected.tensors" {
            fs::copy(entry.path(), home.path().join(entry.file_name())).expect("copies");
        }
    }
    home
}

/// Tensors by name: dtype, shape, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn request(source: &Path) -> Request {
    Request { source: source.to_owned(), dequantize: true, ..Request::default() }
}

fn converted(request: &Request, memory_byte_len: usize) -> (tempfile::TempDir, Tensors) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let options = WriteOptions { memory_byte_len, ..WriteOptions::to(home.path().join("out")) };
    prepare(request).and_then(|ready| ready.write(&options)).expect("converts");
    let found = load_directory(&options.target);
    assert!(verify(&options.target).expect("reads").differences.is_empty());
    (home, found)
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&raw| f16::from_le_bytes(raw).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect(),
        other => panic!("{other} is no float"),
    }
}

fn cast(from: Dtype, to: Dtype, bytes: &[u8]) -> Vec<u8> {
    let values = floats(from, bytes).into_iter();
    match to {
        _ if from == to => bytes.to_vec(),
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
    }
}

/// What `--dtype` makes of what the reference made.
fn wanted(name: &str, choice: DtypeChoice, reference: Dtype) -> Dtype {
    match choice {
        // The model's config says bfloat16, and transformers rounds to what the model has.
        DtypeChoice::Keep if name == "fp8-block" => Dtype::BF16,
        choice => choice.apply(reference),
    }
}

#[test]
fn every_element_is_the_reference_code_s() {
    for name in RELEASES {
        for choice in [DtypeChoice::Keep, DtypeChoice::Bf16, DtypeChoice::F16, DtypeChoice::F32] {
            let (home, found) = converted(&Request { dtype: choice, ..request(&release(name)) }, 1 << 20);
            let expected = expected(name);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
            for (key, (reference, shape, bytes)) in &expected {
                let to = wanted(name, choice, *reference);
                let place = format!("{name} {choice}: {key}");
                assert_eq!((found[key].0, &found[key].1), (to, shape), "{place}");
                let bytes = cast(*reference, to, bytes);
                assert!(found[key].2 == bytes, "{place}: {:?}", first_difference(to, &found[key].2, &bytes));
            }
            let config: Value =
                serde_json::from_slice(&fs::read(home.path().join("out/config.json")).expect("a config"))
                    .expect("JSON");
            assert!(!config.to_string().contains("quantization_config"), "{name}: {config}");
        }
    }
}

fn first_difference(dtype: Dtype, found: &[u8], expected: &[u8]) -> Option<(usize, f32, f32)> {
    let pairs = floats(dtype, found).into_iter().zip(floats(dtype, expected));
    pairs.enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits()).map(|(at, (a, b))| (at, a, b))
}

fn opened(name: &str) -> Opened {
    let root = release(name);
    let scan = Checkpoint::scan(&root).expect("scans");
    let config: Value = serde_json::from_slice(&fs::read(root.join("config.json")).expect("a config")).expect("JSON");
    let mut source = Opened::plain(scan.checkpoint);
    let found = recognize(&config, &root, &source, DtypeChoice::F32).expect("quantized");
    assert_eq!(found.violations, []);
    source.open(found.weights, found.dropped.iter().map(|(key, _)| key.as_str()));
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_cut_reads_what_the_whole_has(at in 0_usize..RELEASES.len(), from in 0.0_f64..1.0, len in 0.0_f64..1.0) {
        let source = opened(RELEASES[at]);
        for (key, info) in source.tensors() {
            let size = info.dtype.bitsize() / 8;
            let count = info.shape.iter().product::<u64>() as usize;
            let mut whole = vec![0; count * size];
            source.read_at(key, 0, &mut whole).expect("reads");
            let from = (from * count as f64) as usize;
            let len = 1 + (len * (count - from - 1) as f64) as usize;
            let mut part = vec![0xa5; len * size];
            source.read_at(key, (from * size) as u64, &mut part).expect("reads");
            prop_assert!(part == whole[from * size..(from + len) * size], "{key} {from}+{len}");
        }
    }
}

#[test]
fn recipes_transpose_stack_and_pack_what_was_quantized() {
    let home = copy_of("fp8-block");
    let recipe = r#"
schema = 1
name = "toy"
layouts = ["x"]
fits = { model_type = ["toy"] }
[quantize]
can = ["up", "gates"]
rules = [ { match = ["up"] } ]
[table]
rows = [
  { from = "model.layers.0.mlp.up_proj.weight", shape = [64, 96], to = "up.weight" },
  { from = "model.layers.0.mlp.down_proj.weight", shape = [96, 64], op = "transpose", to = "down.weight" },
  { from = "model.layers.1.mlp.experts.gate_up_proj", shape = [3, 64, 32], op = "permute", order = [0, 2, 1], to = "gates.weight" },
  { from = ["lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight",
            "model.layers.61.eh_proj.weight"], op = "drop", reason = "another test's" },
]
"#;
    let rows = recipe.replace(
        r#"  { from = ["lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight",
            "model.layers.61.eh_proj.weight"], op = "drop", reason = "another test's" },
"#,
        &["lm_head", "model.norm", "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "model.layers.61.eh_proj"]
            .map(|key| format!("  {{ from = \"{key}.weight\", op = \"drop\", reason = \"another test's\" }},\n"))
            .concat(),
    );
    let path = home.path().join("toy.toml");
    fs::write(&path, rows).expect("writes");
    let named = Request { recipe: Some(path.display().to_string()), dtype: DtypeChoice::F32, ..request(home.path()) };
    let (kept_home, found) = converted(&named, 1 << 20);
    let reference = expected("fp8-block");
    let (_, _, down) = &reference["model.layers.0.mlp.down_proj.weight"];
    let down = floats(Dtype::F32, down);
    let turned: Vec<u8> =
        (0..64).flat_map(|col| (0..96).map(move |row| row * 64 + col)).flat_map(|at| down[at].to_le_bytes()).collect();
    assert!(found["down.weight"] == (Dtype::F32, vec![64, 96], turned));
    assert_eq!(found["up.weight"].2, reference["model.layers.0.mlp.up_proj.weight"].2);
    let gates = floats(Dtype::F32, &reference["model.layers.1.mlp.experts.gate_up_proj"].2);
    let turned = |expert: usize, col: usize, row: usize| gates[(expert * 64 + row) * 32 + col];
    let made = floats(Dtype::F32, &found["gates.weight"].2);
    assert_eq!(
        (made[0], made[1], made[64], made[2 * 64 * 32 + 5 * 64 + 9]),
        (turned(0, 0, 0), turned(0, 0, 1), turned(0, 1, 0), turned(2, 5, 9))
    );
    // The manifest names what is in the files, not what was made of it on the way.
    let manifest = mlxport_convert::Manifest::read(&kept_home.path().join("out")).expect("a manifest");
    let up = manifest.tensors.iter().find(|tensor| tensor.name == "up.weight").expect("written");
    let keys: Vec<&str> = up.sources.iter().map(|source| source.key.as_str()).collect();
    assert_eq!(keys, ["model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight_scale_inv"]);
    assert_eq!(up.op, "dequantize");
    // And packed again on the way.
    let wish = mlxport_convert::recipe::packing::Wish::new(Mode::Affine, None, Some(32), None).expect("a wish");
    let (_packed, packed) = converted(&Request { quantize: Some(wish), ..named }, 1 << 20);
    assert_eq!(packed["up.weight"].0, Dtype::U32);
}

/// The float32 numbers that MLX's parts of a module stand for.
fn unpacked(found: &BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>, module: &str, to: Quantization) -> Vec<u8> {
    let part = |name: &str| &found[&format!("{module}.{name}")];
    assert_eq!((part("weight").0, part("scales").0, part("biases").0), (Dtype::U32, Dtype::F32, Dtype::F32));
    let mut out = vec![0; part("weight").2.len() * 8 / to.bits() as usize * 4];
    quantize::dequantize(to, Dtype::F32, &part("weight").2, &part("scales").2, &part("biases").2, &mut out);
    out
}

#[test]
fn kept_codes_stand_for_the_very_same_numbers_in_mlx() {
    for (name, bits, group) in [
        ("awq", 4, 32),
        ("awq-128", 4, 128),
        ("gptq-2", 2, 32),
        ("gptq-3", 3, 32),
        ("gptq-4", 4, 32),
        ("gptq-8", 8, 32),
        ("gptq-v2", 4, 64),
        ("gptq-rows", 4, 128),
    ] {
        let keep = Request { dequantize: false, keep_quantized: true, ..request(&release(name)) };
        let (home, found) = converted(&keep, 1 << 20);
        let to = Quantization::new(Mode::Affine, Some(bits), Some(group)).expect("MLX has it");
        let module = "model.layers.0.mlp.up_proj";
        let floats = unpacked(&found, module, to);
        let (dtype, _, reference) = &expected(name)[&format!("{module}.weight")];
        // MLX's sum in float32 is exact, so one rounding makes the reference's float16 of it.
        assert!(cast(Dtype::F32, *dtype, &floats) == *reference, "{name}");
        let config: Value =
            serde_json::from_slice(&fs::read(home.path().join("out/config.json")).expect("a config")).expect("JSON");
        assert_eq!(config["quantization"], json!({ "group_size": group, "bits": bits, "mode": "affine" }), "{name}");
        assert_eq!(config["quantization"], config["quantization_config"]);
        let manifest = mlxport_convert::Manifest::read(&home.path().join("out")).expect("a manifest");
        assert_eq!(manifest.quantization.expect("stated").bits, bits);
        // What was kept can be unpacked again.
        let (_home, again) =
            converted(&Request { dtype: DtypeChoice::F32, ..request(&home.path().join("out")) }, 1 << 20);
        assert!(again[&format!("{module}.weight")].2 == floats, "{name}");
    }
}

#[test]
fn int8_iskept_home_and_what_is_no_even_grid_is_refused() {
    let keep = |name: &str| prepare(&Request { dequantize: false, keep_quantized: true, ..request(&release(name)) });
    let list = keep("gptq-act-order").expect_err("act-order").violations().to_vec();
    assert!(list[0].found.contains("act-order") && list[0].found.contains("--dequantize"), "{list:#?}");
    let list = keep("fp8-block").expect_err("FP8").violations().to_vec();
    assert!(list.iter().all(|one| one.found.contains("F8_E4M3 codes")) && list.len() == 6, "{list:#?}");
    // `c` has 40 columns; `b` has 33.
    let list = keep("ct-packed").expect_err("odd columns").violations().to_vec();
    assert!(
        has(&list, ViolationKind::Unsupported, "model.c.weight")
            && has(&list, ViolationKind::Unsupported, "model.ordered.weight")
    );
    assert!(!has(&list, ViolationKind::Unsupported, "model.a.weight"), "{list:#?}");
}

fn edit(home: &Path, change: impl FnOnce(&mut Value)) {
    let path = home.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("a config")).expect("JSON");
    change(&mut config);
    fs::write(&path, config.to_string()).expect("writes");
}

#[test]
fn what_does_not_fit_is_told_before_anything_is_read() {
    for (name, kind, place, change) in [
        (
            "gptq-4",
            ViolationKind::Config,
            "config.json: quantization_config",
            json!({ "quant_method": "gptq", "bits": 5, "group_size": 32 }),
        ),
        (
            "gptq-4",
            ViolationKind::WrongShape,
            "up_proj.qzeros",
            json!({ "quant_method": "gptq", "bits": 8, "group_size": 32 }),
        ),
        (
            "awq",
            ViolationKind::WrongShape,
            "up_proj.scales",
            json!({ "quant_method": "awq", "bits": 4, "group_size": 64 }),
        ),
        (
            "awq",
            ViolationKind::Unsupported,
            "config.json: quantization_config",
            json!({ "quant_method": "awq", "bits": 4, "version": "gemv" }),
        ),
        (
            "ct-packed",
            ViolationKind::Config,
            "config_groups",
            json!({ "quant_method": "compressed-tensors", "config_groups": {} }),
        ),
        ("gptq-4", ViolationKind::Config, "config.json", json!("nothing")),
    ] {
        let home = copy_of(name);
        edit(home.path(), |config| config["quantization_config"] = change);
        let list = prepare(&request(home.path())).expect_err("wrong").violations().to_vec();
        assert!(has(&list, kind, place), "{name} {place}: {list:#?}");
    }
}

#[test]
fn fp8_without_its_scale_is_refused_but_where_the_release_leaves_it_out() {
    let home = copy_of("fp8-block");
    let path = home.path().join("model-00002-of-00002.safetensors");
    let left: Vec<_> = load(&path)
        .into_iter()
        .filter(|(key, _)| !key.contains("eh_proj"))
        .map(|(key, (dtype, shape, bytes))| (key, dtype, shape.into_iter().map(|n| n as u64).collect(), bytes))
        .collect();
    fs::write(&path, crate::support::safetensors_bytes(&left)).expect("writes");
    let path = home.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).expect("an index")).expect("JSON");
    let map = index["weight_map"].as_object_mut().expect("a map");
    map.retain(|key, _| !key.ends_with("eh_proj.weight_scale_inv"));
    fs::write(&path, index.to_string()).expect("writes");
    let list = prepare(&request(home.path())).expect_err("no scale").violations().to_vec();
    assert!(has(&list, ViolationKind::MissingKey, "model.layers.61.eh_proj.weight"), "{list:#?}");
    edit(home.path(), |config| {
        config["text_config"]["quantization_config"]["modules_to_not_convert"] = json!(["re:.*eh_proj"])
    });
    prepare(&Request { dtype: DtypeChoice::Bf16, ..request(home.path()) }).expect("a weight like others");
    let list = prepare(&request(home.path())).expect_err("FP8 in MLX is bytes").violations().to_vec();
    assert!(has(&list, ViolationKind::WrongDtype, "eh_proj"), "{list:#?}");
}

#[test]
fn a_group_that_there_is_not_ends_the_conversion_with_nothing_written() {
    let home = copy_of("gptq-act-order");
    let path = home.path().join("model.safetensors");
    let changed: Vec<_> = load(&path)
        .into_iter()
        .map(|(key, (dtype, shape, mut bytes))| {
            if key.ends_with("g_idx") {
                bytes[40..44].copy_from_slice(&9_i32.to_le_bytes());
            }
            (key, dtype, shape.into_iter().map(|n| n as u64).collect(), bytes)
        })
        .collect();
    fs::write(&path, crate::support::safetensors_bytes(&changed)).expect("writes");
    let target = home.path().join("out");
    let error = prepare(&request(home.path()))
        .expect("headers are sound")
        .write(&WriteOptions::to(&target))
        .expect_err("no group 9");
    assert!(error.to_string().contains("group 9 of a weight with 4 groups"), "{error}");
    assert!(!target.exists());
}

//! Quantized releases, odd dtypes and MLX directories as sources of `mlxport convert`: what a person sees, and what lies there afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{code, mlxport, stderr};

/// dtype, shape, bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("convert/testdata/prequantized").join(name)
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).expect("readable");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = |view: safetensors::tensor::TensorView<'_>| {
        (view.dtype().to_string(), view.shape().to_vec(), view.data().to_vec())
    };
    file.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

/// Writes a safetensors file that says `writer` wrote it.
fn write(path: &Path, writer: &str, tensors: &[(&str, &str, &[u64], Vec<u8>)]) {
    let mut header = json!({ "__metadata__": { "format": writer } });
    let mut data = Vec::new();
    for (key, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        header[*key] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] });
    }
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(data);
    fs::write(path, file).expect("written");
}

fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|at| ((at % 37) as f32 * 0.03125 - 0.5).to_le_bytes()).collect()
}

/// A toy release: a float matrix, a norm, and more tensors.
fn toy(dir: &Path, config: &Value, more: &[(&str, &str, &[u64], Vec<u8>)]) -> PathBuf {
    let source = dir.join("release");
    fs::create_dir_all(&source).expect("created");
    fs::write(source.join("config.json"), config.to_string()).expect("written");
    let mut tensors = vec![
        ("proj.weight", "F32", &[64_u64, 128][..], floats(64 * 128)),
        ("norm.weight", "F32", &[128][..], floats(128)),
    ];
    tensors.extend_from_slice(more);
    write(&source.join("model.safetensors"), "pt", &tensors);
    source
}

/// A recipe for it, with more rows.
fn recipe(dir: &Path, more: &str) -> PathBuf {
    let path = dir.join("toy.toml");
    let text = format!(
        r#"schema = 1
name = "toy"
layouts = ["x"]
fits = {{ model_type = ["toy"] }}
[quantize]
can = ["proj"]
rules = [ {{ match = "proj" }} ]
[table]
rows = [
  {{ from = "proj.weight", shape = [64, 128], to = "proj.weight" }},
  {{ from = "norm.weight", shape = [128], to = "norm.weight" }},
{more}]
"#
    );
    fs::write(&path, text).expect("written");
    path
}

fn convert(source: &Path, target: &Path, more: &[&str]) -> Output {
    let mut args: Vec<&std::ffi::OsStr> = vec!["convert".as_ref(), source.as_os_str(), target.as_os_str()];
    args.extend(more.iter().map(std::ffi::OsStr::new));
    mlxport(args)
}

fn converted(source: &Path, target: &Path, more: &[&str]) -> (BTreeMap<String, Tensor>, Value, String) {
    let output = convert(source, target, more);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let verified = mlxport(["verify".as_ref(), target.as_os_str()]);
    assert_eq!(code(&verified), 0, "{}", stderr(&verified));
    let config = serde_json::from_slice(&fs::read(target.join("config.json")).expect("a config")).expect("JSON");
    (read(&target.join("model.safetensors")), config, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the command says when it refuses; nothing is left behind.
fn refused(source: &Path, target: &Path, more: &[&str]) -> String {
    let output = convert(source, target, more);
    assert_eq!(code(&output), 2, "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!target.exists());
    stderr(&output)
}

#[test]
fn fp8_blocks_become_weights_times_scales() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let target = home.path().join("out");
    let said = refused(&recorded("fp8-block"), &target, &[]);
    for text in ["FP8 (blocks of 32 x 32)", "--dequantize", "--keep-quantized"] {
        assert!(said.contains(text) && said.lines().count() <= 3, "{said}");
    }
    let more = ["--dequantize", "--dtype", "f32", "--memory", "1MiB"];
    let (found, config, told) = converted(&recorded("fp8-block"), &target, &more);
    let expected = read(&recorded("fp8-block").join("expected.tensors"));
    for (key, tensor) in expected.iter().filter(|(_, (dtype, ..))| dtype == "F32") {
        assert!(found[key] == *tensor, "{key}");
    }
    assert!(found.keys().eq(expected.keys()));
    assert_eq!(config["text_config"], json!({ "torch_dtype": "float32" }));
    assert!(told.contains("scale of a quantized cache") && told.contains("scale of a module's input"), "{told}");
}

#[test]
fn gptq_is_named_dequantized_and_kept() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let target = home.path().join("out");
    let said = refused(&recorded("gptq-4"), &target, &[]);
    assert!(said.contains("GPTQ (4 bits, groups of 32)") && said.lines().count() <= 3, "{said}");
    let expected = read(&recorded("gptq-4").join("expected.tensors"));
    let (found, ..) = converted(&recorded("gptq-4"), &target, &["--dequantize"]);
    assert!(found == expected);
    let (kept, config, _) = converted(&recorded("gptq-4"), &home.path().join("kept"), &["--keep-quantized"]);
    assert_eq!(kept["model.layers.0.mlp.up_proj.weight"].0, "U32");
    assert_eq!(config["quantization"], json!({ "group_size": 32, "bits": 4, "mode": "affine" }));
    let said = refused(&recorded("gptq-act-order"), &home.path().join("no"), &["--keep-quantized"]);
    assert!(said.contains("act-order"), "{said}");
}

#[test]
fn compressed_tensors_without_a_word_on_its_modules_is_refused() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = home.path().join("release");
    fs::create_dir_all(&source).expect("created");
    fs::copy(recorded("ct-packed").join("model.safetensors"), source.join("model.safetensors")).expect("copied");
    let section = json!({ "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {} });
    fs::write(source.join("config.json"), json!({ "quantization_config": section }).to_string()).expect("written");
    let said = refused(&source, &home.path().join("out"), &["--dequantize"]);
    assert!(said.contains("num_bits of model.a's weights"), "{said}");
}

#[test]
fn what_is_not_read_is_refused_by_its_name() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let nf4 = json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4" });
    let config = json!({ "model_type": "toy", "quantization_config": nf4 });
    let more = [("q.weight", "U8", &[16_u64, 1][..], vec![0; 16]), ("q.weight.absmax", "F32", &[1][..], floats(1))];
    let source = toy(home.path(), &config, &more);
    for flag in ["--dequantize", "--keep-quantized"] {
        let said = refused(&source, &home.path().join("out"), &[flag]);
        assert!(said.contains("bitsandbytes nf4") && said.contains("model.dequantize()"), "{said}");
    }
}

#[test]
fn a_section_left_over_is_dropped_with_a_note() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for method in ["gptq", "compressed-tensors", "bitsandbytes"] {
        let section = json!({ "quant_method": method, "bits": 4, "group_size": 32, "config_groups": {} });
        let source = toy(home.path(), &json!({ "model_type": "toy", "quantization_config": section }), &[]);
        let recipe = recipe(home.path(), "");
        let recipe = recipe.to_str().expect("UTF-8");
        let target = home.path().join(method);
        let (_, config, told) = converted(&source, &target, &["--recipe", recipe]);
        assert!(
            config.get("quantization_config").is_none()
                && told.contains("note: config quantization_config was dropped"),
            "{told}"
        );
        let said = refused(&source, &home.path().join("none"), &["--recipe", recipe, "--dequantize"]);
        assert!(said.contains("nothing to dequantize"), "{said}");
    }
}

#[test]
fn dtypes_that_mlx_does_not_load_are_refused_and_never_a_panic() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (dtype, shape, bytes) in [
        ("F4", [2_u64, 8], 8),
        ("F6_E2M3", [2, 8], 12),
        ("F6_E3M2", [2, 8], 12),
        ("F64", [2, 8], 128),
        ("F8_E5M2", [2, 8], 16),
    ] {
        let source = toy(home.path(), &json!({ "model_type": "toy" }), &[("odd", dtype, &shape, vec![0; bytes])]);
        for op in ["copy", "transpose"] {
            let row = format!(
                "  {{ from = \"odd\", shape = [2, 8], dtype = [\"{dtype}\"], op = \"{op}\", to = \"odd\" }},\n"
            );
            let recipe = recipe(home.path(), &row);
            let more = ["--recipe", recipe.to_str().expect("UTF-8")];
            let said = refused(&source, &home.path().join("out"), &more);
            assert!(said.contains("a dtype that MLX loads") && said.contains(dtype), "{said}");
            let output = convert(&source, &home.path().join("out"), &[&more[..], &["--json"]].concat());
            let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
            assert_eq!((&object["ok"], &object["violations"][0]["place"]), (&json!(false), &json!("odd")));
        }
        let row = "  { from = \"odd\", op = \"drop\", reason = \"not needed\" },\n";
        let recipe = recipe(home.path(), row);
        converted(&source, &home.path().join(dtype), &["--recipe", recipe.to_str().expect("UTF-8")]);
    }
    let source =
        toy(home.path(), &json!({ "model_type": "toy" }), &[("odd", "F64", &[1], 0.1_f64.to_le_bytes().to_vec())]);
    let recipe = recipe(home.path(), "  { from = \"odd\", shape = [1], dtype = [\"F64\", \"F32\"], to = \"odd\" },\n");
    let more = ["--recipe", recipe.to_str().expect("UTF-8"), "--dtype", "f32"];
    let (found, ..) = converted(&source, &home.path().join("cast"), &more);
    assert_eq!(found["odd"], ("F32".to_owned(), vec![1], 0.1_f32.to_le_bytes().to_vec()));
}

#[test]
fn a_dtype_that_is_not_known_is_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = toy(home.path(), &json!({ "model_type": "toy" }), &[("odd", "F2_E1M0", &[4], vec![0])]);
    let recipe = recipe(home.path(), "");
    let said = refused(&source, &home.path().join("out"), &["--recipe", recipe.to_str().expect("UTF-8")]);
    assert!(said.contains("F2_E1M0") && said.contains("odd"), "{said}");
}

#[test]
fn the_config_says_what_the_weights_are_and_keeps_its_digits() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = json!({
        "model_type": "toy", "dtype": "float32", "torch_dtype": "float32",
        "text_config": { "dtype": "float32", "length": 0 },
    });
    let source = toy(home.path(), &config, &[]);
    let text = config
        .to_string()
        .replace("\"length\":0", "\"length\":1000000000000000019884624838656,\"n\":18446744073709551615");
    fs::write(source.join("config.json"), text).expect("written");
    let recipe = recipe(home.path(), "");
    let target = home.path().join("out");
    let (_, config, _) = converted(&source, &target, &["--recipe", recipe.to_str().expect("UTF-8"), "--dtype", "bf16"]);
    for place in ["/dtype", "/torch_dtype", "/text_config/dtype"] {
        assert_eq!(config.pointer(place), Some(&json!("bfloat16")), "{place}");
    }
    let text = fs::read_to_string(target.join("config.json")).expect("a config");
    assert!(
        text.contains("\"length\": 1000000000000000019884624838656,") && text.contains("\"n\": 18446744073709551615"),
        "{text}"
    );
}

#[test]
fn what_was_converted_is_a_source_again() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = toy(home.path(), &json!({ "model_type": "toy", "torch_dtype": "float32" }), &[]);
    let path = recipe(home.path(), "");
    let recipe = path.to_str().expect("UTF-8");
    let at = |name: &str| home.path().join(name);
    let (plain, ..) = converted(&source, &at("a"), &["--recipe", recipe]);
    // With the recipe, as an owner would type it, and without one.
    let (packed, config, _) = converted(&at("a"), &at("b"), &["--recipe", recipe, "--quantize", "affine"]);
    assert_eq!(packed["proj.weight"].0, "U32");
    assert_eq!(config["quantization"]["bits"], 4);
    let (again, ..) = converted(&at("a"), &at("b2"), &["--quantize", "affine"]);
    assert!(again == packed);
    let (floats, config, _) = converted(&at("b"), &at("c"), &["--dequantize"]);
    assert_eq!((&floats["proj.weight"].0, config.get("quantization")), (&"F32".to_owned(), None));
    assert!(floats["norm.weight"] == plain["norm.weight"]);
    // Other bits, straight from the packed ones.
    let (eight, config, told) = converted(&at("b"), &at("d"), &["--quantize", "affine", "--bits", "8"]);
    assert_eq!((eight["proj.weight"].1.clone(), &config["quantization"]["bits"]), (vec![64, 32], &json!(8)));
    assert!(told.contains("packed again"), "{told}");
    let (half, config, _) = converted(&at("b"), &at("e"), &["--dtype", "f16"]);
    assert_eq!((&*half["proj.weight"].0, &*half["proj.scales"].0, &*half["norm.weight"].0), ("U32", "F16", "F16"));
    assert_eq!((&config["torch_dtype"], &config["quantization"]["bits"]), (&json!("float16"), &json!(4)));
    let said = refused(&at("a"), &at("f"), &["--dequantize"]);
    assert!(said.contains("nothing to dequantize"), "{said}");
}

#[test]
fn a_directory_of_another_mlx_tool_needs_no_recipe() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = toy(home.path(), &json!({ "model_type": "llama" }), &[]);
    let tensors = [
        ("model.layers.0.mlp.gate.weight", "F32", &[8_u64, 128][..], floats(8 * 128)),
        ("model.layers.0.mlp.up_proj.weight", "F32", &[64, 128][..], floats(64 * 128)),
        ("model.norm.weight", "F32", &[128][..], floats(128)),
        ("vision_tower.blocks.0.fc.weight", "F32", &[64, 128][..], floats(64 * 128)),
    ];
    write(&source.join("model.safetensors"), "mlx", &tensors);
    let (found, config, told) =
        converted(&source, &home.path().join("out"), &["--quantize", "affine", "--group-size", "32"]);
    let dtype = |key: &str| found[key].0.clone();
    assert_eq!(dtype("model.layers.0.mlp.up_proj.weight"), "U32");
    for kept in ["model.layers.0.mlp.gate.weight", "vision_tower.blocks.0.fc.weight", "model.norm.weight"] {
        assert_eq!(dtype(kept), "F32", "{kept}");
    }
    assert_eq!(config["quantization"], json!({ "group_size": 32, "bits": 4, "mode": "affine" }));
    assert!(told.contains("no recipe takes part"), "{told}");
}

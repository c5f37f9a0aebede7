//! Quantized conversions: what is packed and what is kept, what the files and the config say of it, and the way back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use mlxport_convert::quantize::{self, Mode, Quantization};
use mlxport_convert::recipe::packing::Wish;
use mlxport_convert::{ConvertError, Manifest, Request, Violation, ViolationKind, WriteOptions, prepare, verify};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::{
    Stored, has, load_directory, names_in,
    tiny::{stored, write_release},
};

/// Four layers with attention, two experts and a router; a table whose rows fit no group, and one that is not to be packed.
const RECIPE: &str = r#"
schema = 1
name = "toy"
layouts = ["plain"]
fits = { model_type = ["toy"] }
[indices]
layer = { count = "4" }
expert = { count = "2" }
[quantize]
can = ["layers.*.*_proj", "layers.*.experts", "layers.*.router", "lm_head", "odd"]
rules = [
  { match = "layers.*.router", keep = "its margins are small" },
  { match = ["**"] },
]
[table]
rows = [
  { from = "layers.{layer}.experts.{expert}.w", shape = ["4", "128"], op = "stack", over = "expert", to = "layers.{layer}.experts.weight" },
  { from = "layers.{layer}.norm.weight", shape = ["128"], to = "layers.{layer}.norm.weight" },
  { from = "layers.{layer}.q_proj.weight", shape = ["8", "128"], to = "layers.{layer}.q_proj.weight" },
  { from = "layers.{layer}.router.weight", shape = ["2", "128"], to = "layers.{layer}.router.weight" },
  { from = "layers.{layer}.v_proj.weight", shape = ["8", "128"], to = "layers.{layer}.v_proj.weight" },
  { from = "lm_head.weight", shape = ["16", "128"], to = "lm_head.weight" },
  { from = "odd.weight", shape = ["4", "20"], to = "odd.weight" },
  { from = "positions.weight", shape = ["4", "128"], to = "positions.weight" },
]
"#;

fn tensors() -> Vec<Stored> {
    let mut shapes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for layer in 0..4 {
        shapes.insert(format!("layers.{layer}.norm.weight"), vec![128]);
        for (name, rows) in [("q_proj", 8), ("v_proj", 8), ("router", 2)] {
            shapes.insert(format!("layers.{layer}.{name}.weight"), vec![rows, 128]);
        }
        for expert in 0..2 {
            shapes.insert(format!("layers.{layer}.experts.{expert}.w"), vec![4, 128]);
        }
    }
    let rest = [("lm_head.weight", [16, 128]), ("odd.weight", [4, 20]), ("positions.weight", [4, 128])];
    shapes.extend(rest.map(|(name, shape)| (name.to_owned(), shape.to_vec())));
    shapes.into_iter().map(|(key, shape)| stored(key, shape)).collect()
}

/// A directory with the toy release and its recipe.
fn home(tensors: &[Stored]) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    write_release(&home.path().join("release"), &json!({ "model_type": "toy" }), tensors);
    fs::write(home.path().join("toy.toml"), RECIPE).expect("writes");
    home
}

fn request(home: &Path, wish: Wish) -> Request {
    let recipe = home.join("toy.toml").display().to_string();
    Request { source: home.join("release"), recipe: Some(recipe), quantize: Some(wish), ..Request::default() }
}

fn affine(bits: u32, group: u32) -> Quantization {
    Quantization::new(Mode::Affine, Some(bits), Some(group)).expect("MLX has it")
}

fn wish(rules: Option<&Path>) -> Result<Wish, ConvertError> {
    Wish::new(Mode::Affine, None, Some(32), rules.map(|path| path.display().to_string()).as_deref())
}

fn convert(home: &Path, wish: Wish, to: &str) -> Result<Manifest, ConvertError> {
    prepare(&request(home, wish))?.write(&WriteOptions::to(home.join(to)))
}

fn config(directory: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join("config.json")).expect("a config")).expect("JSON")
}

/// What [`quantize::quantize`] makes of the stored bytes of `keys`, one after the other.
fn packed(tensors: &[Stored], keys: &[&str], to: Quantization) -> [Vec<u8>; 3] {
    let bytes: Vec<u8> = keys.iter().flat_map(|key| find(tensors, key).3.clone()).collect();
    let count = bytes.len() / 2;
    let groups = count / to.group_size() as usize;
    let biases = if to.has_biases() { groups * 2 } else { 0 };
    let scales = groups * to.scales_dtype(Dtype::BF16).bitsize() / 8;
    let mut out = [vec![0; count * to.bits() as usize / 8], vec![0; scales], vec![0; biases]];
    let [words, scales, biases] = &mut out;
    quantize::quantize(to, Dtype::BF16, &bytes, words, scales, biases).expect("finite");
    out
}

fn find<'a>(tensors: &'a [Stored], key: &str) -> &'a Stored {
    tensors.iter().find(|(name, ..)| name == key).expect("in the release")
}

#[test]
fn rules_decide_and_files_and_config_say_what_was_packed() {
    let tensors = tensors();
    let home = home(&tensors);
    let manifest = convert(home.path(), wish(None).expect("a wish"), "out").expect("converts");
    let out = home.path().join("out");
    assert!(verify(&out).expect("reads").differences.is_empty());
    let found = load_directory(&out);
    let to = affine(4, 32);
    for (module, keys, rows) in [
        ("lm_head", vec!["lm_head.weight"], vec![16]),
        ("layers.3.experts", vec!["layers.3.experts.0.w", "layers.3.experts.1.w"], vec![2, 4]),
    ] {
        let parts = packed(&tensors, &keys, to);
        let ends = [("weight", Dtype::U32, 16), ("scales", Dtype::BF16, 4), ("biases", Dtype::BF16, 4)];
        for ((end, dtype, columns), bytes) in ends.into_iter().zip(parts) {
            let shape = [rows.clone(), vec![columns]].concat();
            assert_eq!(found[&format!("{module}.{end}")], (dtype, shape, bytes), "{module}.{end}");
        }
    }
    // Kept: by a rule, for its rows (with a note), because no layer holds it packed, and what is no matrix.
    for key in ["layers.0.router.weight", "odd.weight", "positions.weight", "layers.0.norm.weight"] {
        assert_eq!(found[key].2, find(&tensors, key).3, "{key}");
    }
    assert!(manifest.notes.iter().any(|note| note.starts_with("odd is not quantized")), "{:?}", manifest.notes);
    let section = json!({ "group_size": 32, "bits": 4, "mode": "affine" });
    let config = config(&out);
    assert_eq!((&config["quantization"], &config["quantization_config"]), (&section, &section));
}

#[test]
fn a_persons_rules_come_first_and_differing_modules_are_in_the_config() {
    let tensors = tensors();
    let home = home(&tensors);
    let rules = home.path().join("rules.toml");
    let text = r#"
schema = 1
rules = [
  { match = "layers.0.*_proj", bits = 8, group_size = 64 },
  { match = "layers.1.**", keep = "to see what it costs" },
  { match = "lm_head", mode = "mxfp4" },
]"#;
    fs::write(&rules, text).expect("writes");
    convert(home.path(), wish(Some(&rules)).expect("a wish"), "out").expect("converts");
    let out = home.path().join("out");
    let found = load_directory(&out);
    let [words, ..] = packed(&tensors, &["layers.0.q_proj.weight"], affine(8, 64));
    assert_eq!(found["layers.0.q_proj.weight"].2, words);
    assert_eq!(found["layers.1.q_proj.weight"].2, find(&tensors, "layers.1.q_proj.weight").3);
    assert!(!found.contains_key("lm_head.biases") && found["lm_head.scales"].0 == Dtype::U8);
    let config = config(&out);
    assert_eq!(config["quantization"]["layers.0.q_proj"], json!({ "group_size": 64, "bits": 8, "mode": "affine" }));
    assert_eq!(config["quantization"]["lm_head"], json!({ "group_size": 32, "bits": 4, "mode": "mxfp4" }));
    assert!(config["quantization"].get("layers.2.q_proj").is_none());
}

#[test]
fn mixtures_give_more_bits_where_it_matters() {
    let home = home(&tensors());
    let wish = Wish::new(Mode::Affine, None, Some(32), Some("mixed_3_6")).expect("a preset");
    convert(home.path(), wish, "out").expect("converts");
    let config = config(&home.path().join("out"));
    let bits = |module: &str| config["quantization"].get(module).map(|own| own["bits"].clone());
    assert_eq!(config["quantization"]["bits"], 3);
    assert_eq!(bits("lm_head"), Some(json!(6)));
    // Of four layers, the third and (from seven eighths on) the fourth.
    let sensitive: Vec<bool> = (0..4).map(|at| bits(&format!("layers.{at}.v_proj")).is_some()).collect();
    assert_eq!(sensitive, [false, false, true, true]);
    assert_eq!(bits("layers.2.q_proj"), None);
}

#[test]
fn rules_that_cannot_be_followed_are_refused_together() {
    let home = home(&tensors());
    let refused = |text: &str| -> Vec<Violation> {
        let rules = home.path().join("rules.json");
        fs::write(&rules, text).expect("writes");
        let made = wish(Some(&rules)).and_then(|wish| convert(home.path(), wish, "out"));
        assert_eq!(names_in(home.path()).len(), 3, "something is left");
        made.expect_err("refused").violations().to_vec()
    };
    let list = refused(r#"{"schema": 1, "rules": [{"match": "positions"}, {"match": "lm_head", "bits": 7}]}"#);
    assert!(
        has(&list, ViolationKind::Recipe, "positions") && has(&list, ViolationKind::Recipe, "lm_head"),
        "{list:#?}"
    );
    let list = refused(r#"{"schema": 1, "rules": [{"match": "a", "keep": ""}, {"match": "[", "bits": 4}]}"#);
    assert!(has(&list, ViolationKind::Recipe, "rule 1") && has(&list, ViolationKind::Recipe, "rule 2"), "{list:#?}");
    let list = refused(r#"{"schema": 1, "rules": [{"match": "**", "keep": "all of it"}]}"#);
    assert!(has(&list, ViolationKind::Unsupported, "--quantize"), "{list:#?}");
    assert_eq!(refused(r#"{"schema": 2, "rules": []}"#).len(), 1);
    assert_eq!(refused(r#"{"schema": 1, "rule": []}"#).len(), 1);
}

/// The release with one weight of `key` changed.
fn with_value(key: &str, at: usize, value: bf16) -> Vec<Stored> {
    let mut tensors = tensors();
    let (.., bytes) = tensors.iter_mut().find(|(name, ..)| name == key).expect("in the release");
    bytes[2 * at..2 * at + 2].copy_from_slice(&value.to_le_bytes());
    tensors
}

#[test]
fn what_no_grid_can_hold_is_refused_and_leaves_nothing() {
    for value in [bf16::NAN, bf16::INFINITY, bf16::NEG_INFINITY] {
        let home = home(&with_value("layers.2.experts.1.w", 77, value));
        let error = convert(home.path(), wish(None).expect("a wish"), "out").expect_err("not finite");
        let ConvertError::NotFinite { name, element, .. } = &error else { panic!("{error}") };
        assert_eq!((name.as_str(), *element), ("layers.2.experts.weight", 4 * 128 + 77));
        assert_eq!(names_in(home.path()), ["release", "toy.toml"]);
    }
    // Where it is not packed, it is copied as it is.
    let home = home(&with_value("layers.2.router.weight", 3, bf16::NAN));
    convert(home.path(), wish(None).expect("a wish"), "out").expect("kept");
}

#[test]
fn groups_below_an_mx_modes_smallest_scale_are_refused() {
    let mut tensors = tensors();
    let (.., bytes) = tensors.iter_mut().find(|(name, ..)| name == "lm_head.weight").expect("in the release");
    for element in bytes[2 * 64..2 * 96].as_chunks_mut::<2>().0 {
        // 2⁻¹²¹; a 448th of it is below E8M0's end, and no zero in bfloat16.
        *element = bf16::from_bits(0x0300).to_le_bytes();
    }
    let home = home(&tensors);
    let of = |mode| Wish::new(mode, None, None, None).expect("a wish");
    let error = convert(home.path(), of(Mode::Mxfp8), "out").expect_err("too small");
    assert!(matches!(&error, ConvertError::TooSmall { name, element: 64, .. } if name == "lm_head.weight"), "{error}");
    convert(home.path(), of(Mode::Nvfp4), "nvfp4").expect("its scales reach zero");
    convert(home.path(), of(Mode::Affine), "affine").expect("its scales are floats");
}

#[test]
fn every_mode_is_the_same_in_any_memory_and_on_every_run() {
    let home = home(&tensors());
    for (at, mode) in [Mode::Affine, Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].into_iter().enumerate() {
        let wish = Wish::new(mode, None, None, None).expect("a wish");
        let write = |to: &str, memory_byte_len| {
            let options = WriteOptions { memory_byte_len, ..WriteOptions::to(home.path().join(to)) };
            prepare(&request(home.path(), wish.clone())).and_then(|ready| ready.write(&options)).expect("converts");
            names_in(&home.path().join(to))
                .into_iter()
                .map(|name| fs::read(home.path().join(to).join(name)).expect("reads"))
                .collect::<Vec<_>>()
        };
        assert_eq!(write(&format!("a{at}"), 0), write(&format!("b{at}"), 1 << 30), "{mode}");
    }
}

#[test]
fn the_way_back_gives_what_the_words_stand_for() {
    let home = home(&tensors());
    for (at, mode) in [Mode::Affine, Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].into_iter().enumerate() {
        let to = Quantization::new(mode, None, None).expect("a default");
        let (there, back) = (format!("q{at}"), home.path().join(format!("f{at}")));
        convert(home.path(), Wish::new(mode, None, None, None).expect("a wish"), &there).expect("converts");
        let source = home.path().join(&there);
        let request = Request { source: source.clone(), dequantize: true, ..Request::default() };
        prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&back))).expect("converts back");
        let (packed, floats) = (load_directory(&source), load_directory(&back));
        let part = |end: &str| packed.get(&format!("layers.1.experts.{end}")).map_or(&[][..], |(.., bytes)| bytes);
        let mut expected = vec![0; 2 * 4 * 128 * 2];
        quantize::dequantize(to, Dtype::BF16, part("weight"), part("scales"), part("biases"), &mut expected);
        assert_eq!(floats["layers.1.experts.weight"], (Dtype::BF16, vec![2, 4, 128], expected), "{mode}");
        assert_eq!(floats["positions.weight"], packed["positions.weight"]);
        assert!(floats.keys().all(|name| !name.ends_with(".scales") && !name.ends_with(".biases")));
        let config = config(&back);
        assert!(config.get("quantization").is_none() && config.get("quantization_config").is_none());
        assert!(verify(&back).expect("reads").differences.is_empty());
    }
}

#[test]
fn words_that_do_not_fit_the_config_are_not_unpacked() {
    let home = home(&tensors());
    convert(home.path(), wish(None).expect("a wish"), "out").expect("converts");
    let source = home.path().join("out");
    let unpack = || prepare(&Request { source: source.clone(), dequantize: true, ..Request::default() });
    unpack().expect("it fits");
    let mut config = config(&source);
    for name in ["quantization", "quantization_config"] {
        config[name]["bits"] = json!(8);
    }
    fs::write(source.join("config.json"), config.to_string()).expect("writes");
    let list = unpack().expect_err("other bits").violations().to_vec();
    assert!(has(&list, ViolationKind::WrongShape, "lm_head"), "{list:#?}");
    config["quantization"]["bits"] = json!(4);
    fs::write(source.join("config.json"), config.to_string()).expect("writes");
    let list = unpack().expect_err("two answers").violations().to_vec();
    assert!(has(&list, ViolationKind::Config, "config.json"), "{list:#?}");
    fs::write(source.join("config.json"), r#"{"model_type": "toy"}"#).expect("writes");
    assert!(has(unpack().expect_err("none").violations(), ViolationKind::Unsupported, "config.json"));
}

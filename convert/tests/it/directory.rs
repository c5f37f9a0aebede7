//! Whole conversions on disk: determinism, shards, dtypes, companions, replacing, verification.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mlxport_convert::manifest::{MANIFEST_FILE, Manifest};
use mlxport_convert::{ConvertError, DtypeChoice, Request, ViolationKind, WriteOptions, inspect, prepare, verify};
use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    has, load_directory, names_in, safetensors_bytes,
    tiny::{Tiny, write_release},
};

fn request(source: &Path) -> Request {
    Request { source: source.to_owned(), ..Request::default() }
}

fn convert(source: &Path, target: &Path) -> Result<Manifest, ConvertError> {
    prepare(&request(source))?.write(&WriteOptions::to(target))
}

fn release(tiny: &Tiny) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("release");
    tiny.write(&source);
    (home, source)
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).expect("readable"));
    names_in(directory).into_iter().map(read).collect()
}

/// Splits a release into shards, tensors dealt out in turn (so that no shard is in any order), with an index.
fn write_shards(directory: &Path, tiny: &Tiny, count: usize, indexed: bool) {
    fs::create_dir_all(directory).expect("a directory");
    fs::write(directory.join("config.json"), tiny.config().to_string()).expect("config");
    let mut map = serde_json::Map::new();
    for k in 0..count {
        let name = format!("part-{k}.safetensors");
        let own: Vec<_> = tiny.tensors().into_iter().rev().skip(k).step_by(count).collect();
        for (key, ..) in &own {
            map.insert(key.clone(), name.clone().into());
        }
        fs::write(directory.join(name), safetensors_bytes(&own)).expect("a shard");
    }
    if indexed {
        let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
        fs::write(directory.join("model.safetensors.index.json"), index.to_string()).expect("index");
    }
}

#[test]
fn two_conversions_are_identical_and_shards_do_not_matter() {
    let (home, source) = release(&Tiny::default());
    let at = |name: &str| home.path().join(name);
    convert(&source, &at("a")).expect("converts");
    convert(&source, &at("b")).expect("converts again");
    assert_eq!(contents(&at("a")), contents(&at("b")));
    for (name, indexed) in [("sharded", true), ("loose", false)] {
        write_shards(&at(name), &Tiny::default(), 3, indexed);
        let target = at(&format!("{name}-out"));
        convert(&at(name), &target).expect("converts");
        let (mut one, mut other) = (contents(&at("a")), contents(&target));
        // The manifest names the source files, which differ; all else is the same.
        assert!(one.remove(MANIFEST_FILE) != other.remove(MANIFEST_FILE));
        assert_eq!(one, other);
    }
}

#[test]
fn variants_of_the_architecture_convert() {
    for tiny in [
        Tiny { layers: 4, first_dense: 2, ..Tiny::default() },
        Tiny { layers: 5, moe_every: 2, ..Tiny::default() },
        Tiny { shared: 0, ..Tiny::default() },
        Tiny { window: 0, globals: vec![], ..Tiny::default() },
        Tiny { globals: vec![0, 1], ..Tiny::default() },
        Tiny { first_dense: 0, experts: 7, ..Tiny::default() },
        Tiny { first_dense: 9, ..Tiny::default() },
        Tiny { heads: 2, kv_heads: 1, ..Tiny::default() },
    ] {
        let (home, source) = release(&tiny);
        for layout in ["mlx-vlm", "split"] {
            let target = home.path().join(layout);
            let request = Request { layout: Some(layout.into()), ..request(&source) };
            let manifest = prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&target)));
            let manifest = manifest.unwrap_or_else(|error| panic!("{tiny:?}: {error}"));
            assert_eq!(load_directory(&target).len(), manifest.tensors.len());
        }
    }
}

#[test]
fn a_conversion_is_what_its_manifest_says() {
    let (home, source) = release(&Tiny::default());
    fs::write(source.join("tokenizer.json"), "{\"a\": 1}").expect("a companion");
    fs::write(source.join("generation_config.json"), "{}").expect("a companion");
    fs::write(source.join("modeling.py"), "no").expect("not a companion");
    fs::create_dir(source.join("vocab.txt")).expect("a directory is not a companion");
    let target = home.path().join("deep/er/out");
    let manifest = convert(&source, &target).expect("parents are made");
    let expected = [
        "config.json",
        "generation_config.json",
        MANIFEST_FILE,
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names_in(&target), expected);
    assert_eq!(Manifest::read(&target).expect("reads"), manifest);
    let report = verify(&target).expect("verifies");
    assert!(report.differences.is_empty(), "{:?}", report.differences);
    assert_eq!((report.files, report.tensors), (5, manifest.tensors.len()));
    let record = |name: &str| manifest.tensors.iter().find(|tensor| tensor.name == name).expect("it is there");
    let stack = record("language_model.model.layers.1.mlp.switch_mlp.up_proj.weight");
    assert_eq!((stack.op.as_str(), stack.sources.len(), stack.shape.clone()), ("stack", 4, vec![4, 6, 16]));
    let loaded = load_directory(&target);
    for tensor in &manifest.tensors {
        assert_eq!(blake3::hash(&loaded[&tensor.name].2).to_hex().as_str(), tensor.blake3);
    }
    assert!(names_in(home.path()).iter().all(|name| !name.starts_with('.')), "nothing hidden is left");
}

#[test]
fn verify_lists_every_difference() {
    let (home, source) = release(&Tiny::default());
    let target = home.path().join("out");
    convert(&source, &target).expect("converts");
    let path = target.join("model.safetensors");
    let mut bytes = fs::read(&path).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    fs::write(target.join("extra.safetensors"), "x").expect("writes");
    fs::remove_file(target.join("config.json")).expect("removes");
    let differences = verify(&target).expect("there is a manifest").differences;
    let of = |place: &str| differences.iter().filter(|d| d.place.contains(place)).count();
    assert_eq!((of("model.safetensors"), of("extra.safetensors"), of("config.json")), (1, 1, 1), "{differences:?}");
    bytes.truncate(last - 10);
    fs::write(&path, &bytes).expect("writes");
    let differences = verify(&target).expect("there is a manifest").differences;
    assert!(has(&differences, ViolationKind::TruncatedFile, "model.safetensors"), "{differences:?}");
    assert!(matches!(verify(&source), Err(ConvertError::NoManifest { .. })));
}

#[test]
fn float_dtypes_are_converted_and_the_config_says_so() {
    let (home, source) = release(&Tiny::default());
    let load = |dtype, name: &str| {
        let target = home.path().join(name);
        let request = Request { dtype, ..request(&source) };
        prepare(&request).expect("plans").write(&WriteOptions::to(&target)).expect("converts");
        let config = fs::read_to_string(target.join("config.json")).expect("config");
        let config: Value = serde_json::from_str(&config).expect("JSON");
        (load_directory(&target), config["torch_dtype"].clone())
    };
    let (kept, said) = load(DtypeChoice::Keep, "keep");
    assert_eq!(said, "bfloat16");
    let (wide, said) = load(DtypeChoice::F32, "f32");
    assert_eq!(said, "float32");
    let (half, said) = load(DtypeChoice::F16, "f16");
    assert_eq!(said, "float16");
    for (name, (dtype, shape, bytes)) in &kept {
        assert_eq!(*dtype, Dtype::BF16);
        assert_eq!((&wide[name].1, wide[name].0), (shape, Dtype::F32));
        let values = bytes.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32());
        let values: Vec<f32> = values.collect();
        let as_f32: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let as_f16: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        assert_eq!((&wide[name].2, &half[name].2), (&as_f32, &as_f16), "{name}");
    }
}

#[test]
fn a_weight_too_large_for_f16_is_an_error_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (source, target) = (home.path().join("release"), home.path().join("out"));
    let mut tensors = Tiny::default().tensors();
    let norm = tensors.iter_mut().find(|(key, ..)| key == "model.norm.weight").expect("it is there");
    norm.3[..2].copy_from_slice(&bf16::from_f32(1e30).to_le_bytes());
    write_release(&source, &Tiny::default().config(), &tensors);
    let request = Request { dtype: DtypeChoice::F16, ..request(&source) };
    let error = prepare(&request).expect("plans").write(&WriteOptions::to(&target)).expect_err("1e30 is not an f16");
    assert!(error.to_string().contains("model.norm.weight"), "{error}");
    assert_eq!(names_in(home.path()), ["release"]);
}

#[test]
fn small_shards_hold_everything_once() {
    let (home, source) = release(&Tiny::default());
    let (one, many) = (home.path().join("one"), home.path().join("many"));
    convert(&source, &one).expect("converts");
    let options = WriteOptions { max_shard_byte_len: 3000, memory_byte_len: 1, ..WriteOptions::to(&many) };
    let manifest = prepare(&request(&source)).expect("plans").write(&options).expect("converts");
    let shards = names_in(&many).into_iter().filter(|name| name.ends_with(".safetensors")).count();
    assert!(shards > 5 && names_in(&many).contains(&format!("model-00001-of-{shards:05}.safetensors")));
    assert_eq!(load_directory(&one), load_directory(&many));
    let index = fs::read_to_string(many.join("model.safetensors.index.json")).expect("index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    for tensor in &manifest.tensors {
        assert_eq!(index["weight_map"][&tensor.name], tensor.file.as_str());
    }
    assert!(verify(&many).expect("verifies").differences.is_empty());
}

#[test]
fn an_existing_target_is_replaced_only_by_force_and_never_with_its_source() {
    let (home, source) = release(&Tiny::default());
    let target = home.path().join("out");
    fs::create_dir(&target).expect("a directory");
    fs::write(target.join("mine"), "keep").expect("a file");
    let ready = prepare(&request(&source)).expect("plans");
    let refused = ready.write(&WriteOptions::to(&target));
    assert!(matches!(refused, Err(ConvertError::TargetForeign { .. })), "{refused:?}");
    let force = |target: &Path| WriteOptions { force: true, ..WriteOptions::to(target) };
    let refused = ready.write(&force(&target)).expect_err("someone's file lies there");
    assert!(refused.to_string().contains("(mine)"), "{refused}");
    assert_eq!(names_in(&target), ["mine"]);
    // An empty directory is free; what was written there is replaced by force, but not with a file that came there since.
    fs::remove_file(target.join("mine")).expect("removes");
    ready.write(&WriteOptions::to(&target)).expect("an empty directory is free");
    let refused = ready.write(&WriteOptions::to(&target));
    assert!(matches!(refused, Err(ConvertError::TargetExists(_))), "{refused:?}");
    ready.write(&force(&target)).expect("replaces what it wrote");
    fs::create_dir(target.join("notes")).expect("a directory");
    let refused = ready.write(&force(&target)).expect_err("a folder lies there");
    assert!(refused.to_string().contains("(notes/)"), "{refused}");
    fs::write(target.join("notes/thesis.txt"), "keep").expect("a file");
    let refused = ready.write(&force(&target)).expect_err("someone's file lies there");
    assert!(refused.to_string().contains("(notes/thesis.txt)"), "{refused}");
    assert_eq!(fs::read_to_string(target.join("notes/thesis.txt")).expect("there"), "keep");
    for bad in [source.as_path(), home.path()] {
        let refused = ready.write(&force(bad));
        assert!(matches!(refused, Err(ConvertError::BadTarget { .. })), "{refused:?}");
    }
    // A link is written through, never replaced.
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&source, &link).expect("a link");
    let refused = ready.write(&force(&link));
    assert!(matches!(refused, Err(ConvertError::BadTarget { .. })), "{refused:?}");
    let file = home.path().join("file");
    fs::write(&file, "old").expect("a file");
    let refused = ready.write(&force(&file));
    assert!(matches!(refused, Err(ConvertError::TargetForeign { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "old");
    let through = home.path().join("through");
    std::os::unix::fs::symlink("elsewhere", &through).expect("a link");
    ready.write(&WriteOptions::to(&through)).expect("writes behind the link");
    ready.write(&force(&through)).expect("replaces behind the link");
    assert!(fs::symlink_metadata(&through).expect("there").is_symlink());
    assert!(verify(&home.path().join("elsewhere")).expect("verifies").differences.is_empty());
    assert_eq!(names_in(home.path()), ["elsewhere", "file", "link", "out", "release", "through"]);
}

#[test]
fn one_file_converts_with_the_config_beside_it() {
    let (home, source) = release(&Tiny::default());
    convert(&source.join("model.safetensors"), &home.path().join("out")).expect("converts");
    convert(&source, &home.path().join("again")).expect("converts");
    assert_eq!(contents(&home.path().join("out")), contents(&home.path().join("again")));
}

#[test]
fn inspection_says_what_fits_and_why_not() {
    let (home, source) = release(&Tiny::default());
    let found = inspect(&source).expect("inspects");
    assert!(found.recipes[0].fits && found.violations.is_empty());
    let up = found.groups.iter().find(|group| group.pattern.ends_with("experts.{n}.up_proj.weight"));
    assert_eq!(up.map(|group| (group.count, group.shape.clone())), Some((8, vec![6, 16])));
    let target = home.path().join("out");
    convert(&source, &target).expect("converts");
    let found = inspect(&target).expect("inspects");
    assert!(found.converted && !found.recipes[0].fits && found.recipes[0].reason.is_some());
    let again = home.path().join("twice");
    convert(&target, &again).expect("what was converted is a source, too");
    assert_eq!(load_directory(&again), load_directory(&target));
    fs::write(source.join("config.json"), "{\"model_type\": \"llama\"}").expect("writes");
    let found = inspect(&source).expect("inspects");
    let nearest =
        found.recipes.first().map(|verdict| (verdict.recipe.as_str(), verdict.fits, verdict.violations.is_empty()));
    assert_eq!(nearest, Some(("llama", false, false)), "a Llama's config beside other keys");
    let own =
        found.recipes.iter().find(|verdict| verdict.recipe == "deepseek-ocr").expect("every recipe has its verdict");
    assert!(own.reason.as_ref().is_some_and(|reason| reason.contains("llama")));
}

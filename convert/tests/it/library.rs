//! The built-in recipes: each is found by the types it is for, and makes of a release's keys and shapes what the port's own converter makes.
//!
//! `testdata/library/TYPE.json` has a small model's config and shapes, and the shapes that mlx-lm's or mlx-vlm's converter made of it
//! (`cargo xtask recipes --record convert/testdata/library` writes them; it also compares every bit, and what both models compute).

use std::fs;
use std::path::{Path, PathBuf};

use mlxport_convert::DtypeChoice;
use mlxport_convert::checkpoint::{TensorSource, Unreadable};
use mlxport_convert::plan::plan;
use mlxport_convert::recipe::Recipe;
use mlxport_convert::writer::WriteOptions;
use mlxport_convert::{Request, prepare};
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Shapes, Virtual, load_directory, tiny::write_release, weights::Weights};

/// What was recorded of a model.
#[derive(Deserialize)]
struct Recorded {
    port: String,
    config: Value,
    shapes: Shapes,
    layout: Shapes,
}

fn library() -> Vec<Recipe> {
    Recipe::builtin_names().into_iter().map(|name| Recipe::named(name).expect("a built-in recipe parses")).collect()
}

fn recorded() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/library");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The recipes that fit a config, as `convert` looks for one.
fn fitting<'a>(library: &'a [Recipe], config: &Value) -> Vec<&'a Recipe> {
    library.iter().filter(|recipe| recipe.fits(config).is_ok()).collect()
}

#[test]
fn every_built_in_recipe_is_found_by_its_own_types_and_no_other_is() {
    let library = library();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    assert_eq!(library.len(), fs::read_dir(files).expect("lists").count(), "every file is built in");
    for (recipe, name) in library.iter().zip(Recipe::builtin_names()) {
        assert_eq!(recipe.name, name, "a recipe has its file's name");
        assert!(!recipe.model_types.is_empty(), "{name} says what it is for");
        assert!(!recipe.packing.is_empty(), "{name} says what may be packed");
        for (at, kind) in recipe.model_types.iter().enumerate() {
            let named = recipe.architectures.get(at % recipe.architectures.len().max(1));
            let config = json!({"model_type": kind, "architectures": named.into_iter().collect::<Vec<_>>()});
            let names: Vec<&str> = fitting(&library, &config).iter().map(|recipe| &*recipe.name).collect();
            assert_eq!(names, [name], "{config}");
        }
    }
}

#[test]
fn each_makes_what_the_ports_converter_makes() {
    let (library, files) = (library(), recorded());
    assert!(files.len() >= 40, "{} types are recorded", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("reads");
        let model: Recorded = serde_json::from_str(&text).expect("test data parses");
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let found = fitting(&library, &model.config);
        let [recipe] = found[..] else { panic!("{name}: {} recipes fit", found.len()) };
        assert_eq!(recipe.layouts[0], model.port, "{name}");
        let source = Virtual::new(&model.shapes);
        let normalized = recipe.config.normalize(&model.config);
        let (plan, violations) =
            plan(recipe, &recipe.layouts[0], DtypeChoice::Keep, normalized, source.tensors(), &Unreadable::default());
        assert!(violations.is_empty(), "{name}: {violations:#?}");
        let made: Shapes = plan.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
        assert_eq!(made, model.layout, "{name}");
    }
}

/// A tensor's bytes as the synthetic releases have them.
fn bytes(key: &str, shape: &[u64]) -> Vec<u8> {
    let (weights, count) = (Weights::of(key, shape), shape.iter().product::<u64>());
    (0..count).flat_map(|at| weights.bf16(at).to_le_bytes()).collect()
}

#[test]
fn experts_and_latent_attention_are_converted_with_no_recipe_named() {
    let read = |name: &str| -> Recorded {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/library/{name}.json"));
        serde_json::from_str(&fs::read_to_string(file).expect("reads")).expect("test data parses")
    };
    let home = tempfile::tempdir().expect("a directory");
    let converted = |name: &str, model: &Recorded| {
        let (source, target) = (home.path().join(name), home.path().join(format!("{name}-mlx")));
        let tensors: Vec<_> = model
            .shapes
            .iter()
            .map(|(key, shape)| (key.clone(), Dtype::BF16, shape.clone(), bytes(key, shape)))
            .collect();
        write_release(&source, &model.config, &tensors);
        let request = Request { source, ..Request::default() };
        prepare(&request).expect("a built-in recipe fits").write(&WriteOptions::to(&target)).expect("converts");
        let config = fs::read_to_string(target.join("config.json")).expect("reads");
        (load_directory(&target), serde_json::from_str::<Value>(&config).expect("JSON"))
    };

    let model = read("mixtral");
    let (made, config) = converted("mixtral", &model);
    let key = |expert: usize| format!("model.layers.1.block_sparse_moe.experts.{expert}.w3.weight");
    let experts: Vec<u8> = (0..6).flat_map(|expert| bytes(&key(expert), &model.shapes[&key(expert)])).collect();
    assert_eq!(
        made["model.layers.1.block_sparse_moe.switch_mlp.up_proj.weight"].2, experts,
        "experts in the order of their numbers"
    );
    assert_eq!(config["rope_theta"], model.config["rope_parameters"]["rope_theta"], "where mlx-lm looks for it");

    let model = read("deepseek_v3");
    let (made, _) = converted("deepseek_v3", &model);
    let joined = "model.layers.0.self_attn.kv_b_proj.weight";
    let (all, size) =
        (bytes(joined, &model.shapes[joined]), |name: &str| model.config[name].as_u64().expect(name) as usize);
    let (nope, value, rank) = (size("qk_nope_head_dim"), size("v_head_dim"), size("kv_lora_rank"));
    let element = |head: usize, row: usize, at: usize| {
        let first = 2 * ((head * (nope + value) + row) * rank + at);
        [all[first], all[first + 1]]
    };
    let heads = 0..size("num_attention_heads");
    let keys: Vec<u8> = heads
        .clone()
        .flat_map(|head| (0..rank).flat_map(move |at| (0..nope).map(move |row| (head, row, at))))
        .flat_map(|(head, row, at)| element(head, row, at))
        .collect();
    assert_eq!(made["model.layers.0.self_attn.embed_q.weight"].2, keys, "keys lie transposed");
    let values: Vec<u8> = heads
        .flat_map(|head| (nope..nope + value).flat_map(move |row| (0..rank).map(move |at| (head, row, at))))
        .flat_map(|(head, row, at)| element(head, row, at))
        .collect();
    assert_eq!(made["model.layers.0.self_attn.unembed_out.weight"].2, values, "values as they are");
}

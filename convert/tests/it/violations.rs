//! Bad input: every kind of wrong gives one error that lists all of it, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mlxport_convert::{ConvertError, Request, Violation, ViolationKind, WriteOptions, prepare};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::{
    Stored, has, names_in, raw_safetensors, safetensors_bytes,
    tiny::{Tiny, write_release},
};

/// Converts `home/release` and returns what was wrong, after making sure that it was refused and that nothing was left.
fn refused(home: &Path) -> Vec<Violation> {
    let source = home.join("release");
    let before = names_in(home);
    let request = Request { source, ..Request::default() };
    let result = prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(home.join("out"))));
    let error = result.expect_err("it must be refused");
    assert_eq!(names_in(home), before, "something was left behind");
    assert!(matches!(error, ConvertError::Violations(_)), "{error}");
    let text = error.to_string();
    let list = error.violations().to_vec();
    assert!(!list.is_empty());
    let lines: BTreeSet<&str> = text.lines().map(str::trim).collect();
    for violation in &list {
        assert!(lines.contains(violation.to_string().as_str()), "{violation} is not in the message");
    }
    list
}

/// A release with changed tensors and config.
fn with(change: impl FnOnce(&mut Vec<Stored>, &mut Value)) -> Vec<Violation> {
    let home = tempfile::tempdir().expect("a directory");
    let (mut tensors, mut config) = (Tiny::default().tensors(), Tiny::default().config());
    change(&mut tensors, &mut config);
    write_release(&home.path().join("release"), &config, &tensors);
    refused(home.path())
}

/// A release of which `model.safetensors` is exactly these bytes.
fn with_file(bytes: &[u8]) -> Vec<Violation> {
    let home = tempfile::tempdir().expect("a directory");
    Tiny::default().write(&home.path().join("release"));
    fs::write(home.path().join("release/model.safetensors"), bytes).expect("writes");
    refused(home.path())
}

/// A release of two shards with an index that `change` may spoil.
fn with_shards(change: impl FnOnce(&Path, &mut Value)) -> Vec<Violation> {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("release");
    write_release(&root, &Tiny::default().config(), &[]);
    fs::remove_file(root.join("model.safetensors")).expect("removes");
    let tensors = Tiny::default().tensors();
    let mut map = serde_json::Map::new();
    for (k, half) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let name = format!("s{k}.safetensors");
        half.iter().for_each(|(key, ..)| drop(map.insert(key.clone(), json!(name))));
        fs::write(root.join(name), safetensors_bytes(half)).expect("writes");
    }
    let mut index = json!({"weight_map": map});
    change(&root, &mut index);
    fs::write(root.join("model.safetensors.index.json"), index.to_string()).expect("writes");
    refused(home.path())
}

fn of(list: &[Violation], kind: ViolationKind) -> usize {
    list.iter().filter(|violation| violation.kind == kind).count()
}

fn find<'a>(tensors: &'a mut [Stored], key: &str) -> &'a mut Stored {
    tensors.iter_mut().find(|(found, ..)| found == key).expect("the key is there")
}

#[test]
fn all_that_is_wrong_is_listed_at_once() {
    let list = with(|tensors, config| {
        tensors.retain(|(key, ..)| key != "model.norm.weight" && key != "model.layers.2.mlp.experts.3.up_proj.weight");
        tensors.push(("model.extra".into(), Dtype::BF16, vec![1], vec![0; 2]));
        tensors.push(("model.layers.7.input_layernorm.weight".into(), Dtype::BF16, vec![1], vec![0; 2]));
        find(tensors, "lm_head.weight").2 = vec![16, 32];
        let bias = find(tensors, "model.projector.layers.bias");
        (bias.1, bias.2) = (Dtype::I16, vec![16]);
        config["language_config"]["hidden_size"] = json!(17);
        config["hidden_act"] = json!("gelu");
    });
    assert!(has(&list, ViolationKind::MissingKey, "model.norm.weight"));
    assert!(has(&list, ViolationKind::MissingKey, "model.layers.2.mlp.experts.3.up_proj.weight"));
    assert!(has(&list, ViolationKind::ExtraKey, "model.extra"));
    assert!(has(&list, ViolationKind::ExtraKey, "model.layers.7.input_layernorm.weight"));
    assert!(has(&list, ViolationKind::WrongShape, "lm_head.weight"));
    assert!(has(&list, ViolationKind::WrongDtype, "model.projector.layers.bias"));
    assert!(has(&list, ViolationKind::Config, "language_config.hidden_size"));
    assert!(has(&list, ViolationKind::Unsupported, "language_config.hidden_act"));
    assert_eq!(list.len(), 8, "{list:#?}");
}

#[test]
fn a_config_that_disagrees_with_the_weights_is_refused() {
    let changes: [(&str, Value); 12] = [
        ("num_hidden_layers", json!(2)),
        ("num_hidden_layers", json!(4)),
        ("n_routed_experts", json!(5)),
        ("n_routed_experts", Value::Null),
        ("n_shared_experts", json!(0)),
        ("num_key_value_heads", json!(4)),
        ("first_k_dense_replace", json!(2)),
        ("moe_layer_freq", json!(2)),
        ("vocab_size", json!(33)),
        ("vision_config.width.clip-l-14-224.image_size", json!(42)),
        ("vision_config.width.sam_vit_b.global_attn_indexes", json!([0])),
        ("vision_config.width.sam_vit_b.window_size", json!(14)),
    ];
    for (path, value) in changes {
        let list = with(|_, config| mlxport_convert::recipe::config::set(config, path, value.clone()));
        let of_weights = |v: &Violation| {
            matches!(
                v.kind,
                ViolationKind::MissingKey | ViolationKind::ExtraKey | ViolationKind::WrongShape | ViolationKind::Config
            )
        };
        assert!(list.iter().all(of_weights), "{path} = {value}: {list:#?}");
    }
}

#[test]
fn a_config_that_contradicts_itself_or_asks_too_much_is_refused() {
    let cases: [(&str, Value, ViolationKind, &str); 18] = [
        ("num_attention_heads", json!(3), ViolationKind::Config, "hidden % heads"),
        ("num_key_value_heads", json!(3), ViolationKind::Config, "heads % kv_heads"),
        ("num_experts_per_tok", json!(5), ViolationKind::Config, "experts_per_token"),
        ("hidden_size", json!(0), ViolationKind::Config, "an integer from 1"),
        ("hidden_size", json!(-16), ViolationKind::Config, "an integer from 1"),
        ("hidden_size", json!(1e300), ViolationKind::Config, "an integer from 1"),
        ("hidden_size", json!("16"), ViolationKind::Config, "an integer from 1"),
        ("num_hidden_layers", json!(60_000_000), ViolationKind::Config, "index layer"),
        ("rms_norm_eps", json!(-1.0), ViolationKind::Config, "above 0"),
        ("use_mla", json!(true), ViolationKind::Unsupported, "false"),
        ("attention_bias", json!(true), ViolationKind::Unsupported, "false"),
        ("tie_word_embeddings", json!(true), ViolationKind::Unsupported, "false"),
        ("rope_scaling", json!({"type": "yarn"}), ViolationKind::Unsupported, "null"),
        ("language_config.topk_method", json!("noaux_tc"), ViolationKind::Unsupported, "group_limited_greedy"),
        ("scoring_func", json!("tanh"), ViolationKind::Unsupported, "sigmoid"),
        ("projector_config.projector_type", json!("low_high_split_mlp_gelu"), ViolationKind::Unsupported, "linear"),
        ("projector_config.conv_fusion_high_low_features", json!(true), ViolationKind::Unsupported, "false"),
        ("vision_config", json!(3), ViolationKind::MissingKey, "a tensor"),
    ];
    for (path, value, kind, expected) in cases {
        let list = with(|_, config| mlxport_convert::recipe::config::set(config, path, value.clone()));
        let named = list.iter().any(|violation| violation.kind == kind && violation.expected.contains(expected));
        assert!(named, "{path} = {value}: {list:#?}");
    }
}

#[test]
fn a_hostile_config_costs_little() {
    let huge = |layers: u64, experts: u64| {
        with(|_, config| {
            config["num_hidden_layers"] = json!(layers);
            config["n_routed_experts"] = json!(experts);
        })
    };
    let list = huge(100, 40_000);
    assert!(list.iter().any(|violation| violation.expected.contains("keys of one form")));
    let list = huge(40_000, 40_000);
    assert!(list.iter().any(|violation| violation.found.contains("the rest is not listed")));
    assert!(list.len() < 100_000);
    for text in ["", "[]", "nonsense", "{\"model_type\": 3}", &"[".repeat(100_000)] {
        let home = tempfile::tempdir().expect("a directory");
        Tiny::default().write(&home.path().join("release"));
        fs::write(home.path().join("release/config.json"), text).expect("writes");
        refused(home.path());
    }
    let home = tempfile::tempdir().expect("a directory");
    Tiny::default().write(&home.path().join("release"));
    fs::remove_file(home.path().join("release/config.json")).expect("removes");
    assert!(has(&refused(home.path()), ViolationKind::MissingFile, "config.json"));
}

#[test]
fn truncated_files_are_named_without_noise() {
    let whole = safetensors_bytes(&Tiny::default().tensors());
    for (length, expected) in [(0, 1), (7, 1), (100, 1), (whole.len() / 2, 1), (whole.len() - 1, 1)] {
        let list = with_file(&whole[..length]);
        assert_eq!(of(&list, ViolationKind::TruncatedFile), 1, "{length}: {list:#?}");
        assert_eq!(list.len(), expected, "{length}: {list:#?}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(of(&with_file(&longer), ViolationKind::BadHeader), 1);
}

/// Header text (none: the bytes are the whole file) and the bytes behind it.
fn hostile() -> Vec<(Option<&'static str>, Vec<u8>)> {
    vec![
        // A claim within the limit but beyond the file.
        (None, 50_000_000_u64.to_le_bytes().to_vec()),
        (Some("not json"), vec![]),
        (Some("[]"), vec![]),
        (Some(r#"{"a": {"dtype": "BF17", "shape": [1], "data_offsets": [0, 2]}}"#), vec![0; 2]),
        (Some(r#"{"a": {"dtype": "BF16", "shape": [-1], "data_offsets": [0, 2]}}"#), vec![0; 2]),
        // Shapes whose bytes overflow, or are not what the offsets say, or end before they begin.
        (Some(r#"{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}"#), vec![]),
        (Some(r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}"#), vec![0; 4]),
        (Some(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}"#), vec![0; 8]),
        (Some(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}"#), vec![0; 8]),
        // An overlap, a gap, and a key twice.
        (
            Some(
                r#"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}"#,
            ),
            vec![0; 6],
        ),
        (Some(r#"{"a": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}"#), vec![0; 4]),
        (
            Some(
                r#"{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "a": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}"#,
            ),
            vec![0; 4],
        ),
    ]
}

#[test]
fn hostile_headers_are_refused() {
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend([0; 100]);
    assert_eq!(of(&with_file(&huge), ViolationKind::BadHeader), 1);
    for (header, data) in hostile() {
        let bytes = header.map_or(data.clone(), |header| raw_safetensors(header, &data));
        let list = with_file(&bytes);
        let own = |violation: &Violation| {
            matches!(
                violation.kind,
                ViolationKind::BadHeader | ViolationKind::TruncatedFile | ViolationKind::DuplicateKey
            ) && violation.place.contains("model.safetensors")
        };
        assert!(list.iter().any(own), "{header:?}: {list:#?}");
    }
}

#[test]
fn index_and_shards_must_agree() {
    let list = with_shards(|root, _| fs::remove_file(root.join("s1.safetensors")).expect("removes"));
    assert!(has(&list, ViolationKind::MissingFile, "s1.safetensors"));
    assert_eq!(list.len(), 1, "keys of the missing shard are not listed one by one: {list:#?}");

    let list = with_shards(|_, index| {
        let map = index["weight_map"].as_object_mut().expect("a map");
        map.insert("model.ghost".into(), json!("s0.safetensors"));
        map.remove("lm_head.weight");
        map.insert("model.norm.weight".into(), json!("s1.safetensors"));
        map.insert("model.view_seperator".into(), json!("s0.safetensors"));
    });
    assert!(has(&list, ViolationKind::IndexMismatch, "model.ghost"), "{list:#?}");
    assert!(has(&list, ViolationKind::IndexMismatch, "lm_head.weight"));
    let moved = ["model.norm.weight", "model.view_seperator"];
    assert_eq!(moved.iter().filter(|key| has(&list, ViolationKind::IndexMismatch, key)).count(), 2, "{list:#?}");

    let list = with_shards(|root, _| {
        let double = Tiny::default().tensors().into_iter().take(3).collect::<Vec<_>>();
        let rest = Tiny::default().tensors();
        let rest = rest[rest.len().div_ceil(2)..].to_vec();
        fs::write(root.join("s1.safetensors"), safetensors_bytes(&[double, rest].concat())).expect("writes");
    });
    assert_eq!(of(&list, ViolationKind::DuplicateKey), 3, "{list:#?}");

    for text in ["", "{}", "{\"weight_map\": 3}", "{\"weight_map\": {\"a\": 3}}", "{\"weight_map\": {}}"] {
        let list = with_shards(|_, index| *index = serde_json::from_str(text).unwrap_or(Value::Null));
        assert!(!list.is_empty(), "{text}");
    }
}

#[test]
fn file_names_cannot_leave_the_directory() {
    for name in ["../s0.safetensors", "/etc/s0.safetensors", "a/s0.safetensors", "..", "", "a\\b.safetensors", "x.bin"]
    {
        let list = with_shards(|_, index| index["weight_map"]["lm_head.weight"] = json!(name));
        assert!(has(&list, ViolationKind::BadPath, "lm_head.weight"), "{name}: {list:#?}");
    }
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    let home = tempfile::tempdir().expect("a directory");
    let request = |path: &Path| Request { source: path.to_owned(), ..Request::default() };
    let error = prepare(&request(Path::new("deepseek-ai/DeepSeek-OCR"))).expect_err("a hub id");
    assert!(error.to_string().contains("not a file, a directory or a hub id"));
    let root = home.path().join("release");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("config.json"), Tiny::default().config().to_string()).expect("writes");
    fs::write(root.join("pytorch_model.bin"), "x").expect("writes");
    let list = refused(home.path());
    assert!(list.iter().any(|violation| violation.place.contains("pytorch_model.bin")), "{list:#?}");
    assert_eq!(list.len(), 1, "{list:#?}");
    let error = prepare(&request(&root.join("pytorch_model.bin"))).expect_err("a pickle");
    assert!(has(error.violations(), ViolationKind::Unsupported, "pytorch_model.bin"));
    fs::create_dir(root.join("model.safetensors")).expect("a directory");
    assert!(has(&refused(home.path()), ViolationKind::MissingFile, "model.safetensors"));
    let unknown = Request { recipe: Some("nobody".into()), ..request(&root) };
    assert!(matches!(prepare(&unknown), Err(ConvertError::NoSuchRecipe { .. })));
}

#[test]
fn a_source_that_shrinks_under_us_is_an_error_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("release");
    Tiny::default().write(&root);
    let ready = prepare(&Request { source: root.clone(), ..Request::default() }).expect("plans");
    let file = fs::OpenOptions::new().write(true).open(root.join("model.safetensors")).expect("opens");
    file.set_len(9000).expect("truncates");
    let error = ready.write(&WriteOptions::to(home.path().join("out"))).expect_err("bytes are gone");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert_eq!(names_in(home.path()), ["release"]);
}

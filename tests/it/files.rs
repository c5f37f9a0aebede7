//! What people really have, through the binary: files as they are met, directories where something is not as it should be, targets where
//! something lies already. Each is converted, or refused in a line that says what it is and what to do, and nobody's file is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{checkpoint_copy, code, fixture, mlxport, stderr, tensors};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn convert(source: &Path, target: &Path, more: &[&str]) -> Output {
    let more = more.iter().map(std::ffi::OsStr::new);
    mlxport(["convert".as_ref(), source.as_os_str(), target.as_os_str()].into_iter().chain(more))
}

/// A release in a directory of its own, damaged.
fn release(damage: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let source = home.path().join("release");
    checkpoint_copy("tiny-small", &source);
    damage(&source);
    let target = home.path().join("model");
    (home, source, target)
}

/// The release is refused with these words in at most a few lines, and nothing is written.
#[track_caller]
fn refused(damage: impl FnOnce(&Path), words: &[&str]) {
    let (_home, source, target) = release(damage);
    let output = convert(&source, &target, &[]);
    let text = stderr(&output);
    assert_eq!(code(&output), 2, "{text}");
    for word in words {
        assert!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    assert!(text.lines().count() <= 4, "{text}");
    assert!(!target.exists());
}

/// The release converts, with these words in what is said of it.
#[track_caller]
fn converts(damage: impl FnOnce(&Path), words: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (home, source, target) = release(damage);
    let output = convert(&source, &target, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    for word in words {
        assert!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    let verified = mlxport(["verify".as_ref(), target.as_os_str()]);
    assert_eq!(code(&verified), 0, "{}", stderr(&verified));
    (home, target)
}

const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 6672547120\n";

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("written");
}

/// The checkpoint in two shards, with an index of these names where there are any.
fn shards(source: &Path, index: Option<[&str; 2]>) {
    let all = tensors::read(&source.join("model.safetensors"));
    fs::remove_file(source.join("model.safetensors")).expect("removed");
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut map = serde_json::Map::new();
    let mut parts = [tensors::Tensors::default(), tensors::Tensors::default()];
    for (at, (key, tensor)) in all.into_iter().enumerate() {
        if let Some(index) = index {
            map.insert(key.clone(), index[at % 2].into());
        }
        parts[at % 2].insert(key, tensor);
    }
    for (name, part) in names.iter().zip(&parts) {
        tensors::write(&source.join(name), part);
    }
    if index.is_some() {
        let index = serde_json::json!({ "metadata": {}, "weight_map": map });
        write(source.join("model.safetensors.index.json"), &index.to_string());
    }
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

#[test]
fn what_stands_in_the_place_of_a_file_is_told() {
    for (name, what) in [("model.safetensors", "git lfs pull"), ("pytorch_model.bin", "git lfs pull")] {
        refused(
            |source| {
                fs::remove_file(source.join("model.safetensors")).expect("removed");
                write(source.join(name), LFS);
            },
            &[name, "a git-lfs pointer", what],
        );
    }
    refused(|source| write(source.join("config.json"), LFS), &["config.json", "a git-lfs pointer"]);
    refused(|source| write(source.join("tokenizer.json"), LFS), &["tokenizer.json", "a git-lfs pointer"]);
    refused(
        |source| write(source.join("model.safetensors"), "<!DOCTYPE html><html>"),
        &["a web page", "download it again"],
    );
    refused(
        |source| {
            for name in ["model.safetensors", "config.json"] {
                fs::remove_file(source.join(name)).expect("removed");
            }
            write(source.join("adapter_model.safetensors"), "");
            write(source.join("adapter_config.json"), "{}");
        },
        &["a PEFT adapter alone", "merge it"],
    );
}

#[test]
fn files_that_do_not_belong_together_are_told_in_a_line() {
    let copy = |source: &Path, to: &str| {
        fs::copy(source.join("model.safetensors"), source.join(to)).map(drop).expect("copied")
    };
    refused(
        |source| copy(source, "model.fp16.safetensors"),
        &["model.fp16.safetensors", "model.safetensors", "give the file itself"],
    );
    refused(
        |source| {
            copy(source, "consolidated");
            shards(source, None);
            fs::rename(source.join("consolidated"), source.join("consolidated.safetensors")).expect("renamed");
        },
        &["consolidated.safetensors", "2 shards", "give the one file itself"],
    );
    let stale = ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    refused(|source| shards(source, Some(stale)), &[stale[0], stale[1], SHARDS[0], SHARDS[1], "another sharding"]);
    refused(
        |source| {
            shards(source, None);
            fs::remove_file(source.join(SHARDS[1])).expect("removed");
        },
        &["shards 1 to 2", SHARDS[0]],
    );
    converts(|source| shards(source, None), &[]);
    converts(
        |source| {
            copy(source, "stray");
            shards(source, Some(SHARDS));
            fs::rename(source.join("stray"), source.join("model.safetensors")).expect("renamed");
        },
        &["model.safetensors: not read, because model.safetensors.index.json does not name it"],
    );
}

#[test]
fn a_config_is_read_as_python_reads_it() {
    for number in ["Infinity", "-Infinity", "NaN"] {
        let (_home, target) = converts(
            |source| {
                let text = fs::read_to_string(source.join("config.json")).expect("readable");
                let text = format!("\u{feff}{{\"time_step_limit\": [0.0, {number}],{}", &text[1..]);
                write(source.join("config.json"), &text);
            },
            &[],
        );
        let written = fs::read_to_string(target.join("config.json")).expect("written");
        assert!(written.contains(&format!(" {number}\n")), "{written}");
        // The converted model loads: what is wrong is the recording that is not there.
        let parity = crate::support::parity(&target, Path::new("no/such/recording"), &[]);
        assert!(!stderr(&parity).contains("config.json"), "{}", stderr(&parity));
    }
}

#[test]
fn every_file_beside_the_weights_comes_along_or_is_listed() {
    let taken = [
        "tokenizer.json",
        "tokenizer.model",
        "spiece.model",
        "tekken.json",
        "qwen.tiktoken",
        "sentencepiece.bpe.model",
        "source.spm",
        "video_preprocessor_config.json",
        "additional_chat_templates/tool_use.jinja",
        "generation_config.json",
    ];
    let left = ["README.md", "modeling_x.py", "assets/fig.png", "params.json"];
    let (_home, target) = converts(
        |source| taken.iter().chain(&left).for_each(|name| write(source.join(name), name)),
        &["left behind: README.md, assets/, modeling_x.py, params.json"],
    );
    for name in taken {
        assert_eq!(fs::read_to_string(target.join(name)).ok().as_deref(), Some(name));
    }
    for name in left {
        assert!(!target.join(name).exists(), "{name}");
    }
}

#[test]
fn force_replaces_what_mlxport_wrote_and_nothing_else() {
    let (_home, source, target) = release(|_| ());
    fs::create_dir(&target).expect("a directory");
    assert_eq!(code(&convert(&source, &target, &[])), 0, "an empty directory is free");
    assert_eq!(code(&convert(&source, &target, &[])), 2, "what is there stays");
    assert_eq!(code(&convert(&source, &target, &["--force"])), 0, "what was written is replaced");
    let mine = target.with_file_name("mine");
    write(mine.join("thesis/chapter.txt"), "years of work");
    let output = convert(&source, &mine, &["--force"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("thesis/chapter.txt"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(mine.join("thesis/chapter.txt")).expect("there"), "years of work");
}

/// 94,000 keys under a wrong recipe: a page for a person, everything for a program.
#[test]
fn violations_are_grouped_for_people() {
    let (_home, source, target) = release(|source| {
        let mut all = tensors::Tensors::default();
        for layer in 0..61 {
            for expert in 0..256 {
                for name in ["gate", "up", "down"] {
                    let key = format!("model.layers.{layer}.mlp.experts.{expert}.{name}_proj.weight");
                    let one = tensors::Owned { dtype: safetensors::Dtype::F32, shape: vec![1], bytes: vec![0; 4] };
                    all.insert(key, one);
                }
            }
        }
        tensors::write(&source.join("model.safetensors"), &all);
    });
    let lines = |more: &[&str]| {
        let output = convert(&source, &target, more);
        assert_eq!(code(&output), 2);
        (stderr(&output).lines().count(), output)
    };
    assert!(lines(&[]).0 <= 40, "{}", stderr(&lines(&[]).1));
    assert!(lines(&["--dry-run"]).0 <= 40);
    assert!(lines(&["--all"]).0 > 1000);
    let (_, output) = lines(&["--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert!(object["violations"].as_array().is_some_and(|list| list.len() > 1000));
}

#[test]
fn a_lone_file_is_listed() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("weights.safetensors");
    fs::copy(fixture("tiny-small").join("checkpoint/model.safetensors"), &file).expect("copied");
    let output = mlxport(["inspect".as_ref(), file.as_os_str()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("model.layers.{n}.input_layernorm.weight"), "{}", stdout(&output));
}

/// The files of `torch.save` that the crate's own tests convert element by element, as a person gives them.
#[test]
fn files_of_torch_save_convert_from_any_name_and_form() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let met = Path::new(env!("CARGO_MANIFEST_DIR")).join("convert/testdata/pickle/met");
    for (name, word) in [
        ("legacy.bin", "10 tensors"),
        ("whole.pt", "a whole model"),
        ("compiled.bin", "10 tensors"),
        ("weights.tar", "10 tensors"),
    ] {
        let output = mlxport(["inspect".as_ref(), met.join(name).as_os_str()]);
        assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
        assert!(stdout(&output).contains(word), "{name}: {}", stdout(&output));
    }
    let output = convert(&met.join("quantized.bin"), &home.path().join("out"), &[]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("dequantize()"), "{}", stderr(&output));
}

/// A recording with a tensor that has no element (an expert that no token chose), against itself.
#[test]
fn compare_passes_over_empty_tensors() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let tensor = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|at| (at as f32 + 0.5).to_le_bytes()).collect();
        tensors::Owned { dtype: safetensors::Dtype::F32, shape: shape.to_vec(), bytes }
    };
    let point = |name: &str, kind: &str, shape: &[usize]| {
        let floor = serde_json::json!({ "max_abs": 1e-6, "rms": 5e-7, "ref_rms": 1.0 });
        let id = format!("{name}#0.{kind}");
        serde_json::json!({
            "point": name, "call": 0, "kind": kind, "tensor": id, "shape": shape, "dtype": "torch.float32", "noise_floor": floor,
        })
    };
    let all: [(&str, &str, &[usize]); 4] =
        [("a", "in", &[1, 4]), ("a", "out", &[1, 4]), ("b", "out", &[1, 2]), ("e", "out", &[0, 3])];
    let order: Vec<_> = all.iter().map(|(name, kind, shape)| point(name, kind, shape)).collect();
    let manifest = serde_json::json!({
        "schema": 1, "spec": {}, "torch": "2.1", "made_by": "Torch 2.1 by hand", "inputs": ["x"], "order": order,
    });
    write(home.path().join("manifest.json"), &manifest.to_string());
    tensors::write(&home.path().join("inputs.safetensors"), &[("x".to_owned(), tensor(&[1, 4]))].into());
    let recorded = all.iter().map(|(name, kind, shape)| (format!("{name}#0.{kind}"), tensor(shape)));
    tensors::write(&home.path().join("activations.safetensors"), &recorded.collect());
    let output = mlxport(["compare".as_ref(), home.path().as_os_str(), home.path().as_os_str()]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("empty: it has no element"), "{}", stdout(&output));
}

//! Thirty-two inputs of the kinds that people have, each through the binary and named after what it is. Each test says what a person expects.
//!
//! Data is in convert/testdata/cases, and the files of torch.save in convert/testdata/pickle/met; what is only a name or a place is made here.

mod quantized;
mod torch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::{checkpoint_copy, code, mlxport, stderr, tensors};

/// The most lines that a refusal of one thing takes, the count of violations among them.
const FEW_LINES: usize = 3;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("convert/testdata").join(name)
}

/// A place to work in: a release to be put together, and a target.
struct Case {
    home: tempfile::TempDir,
}

impl Case {
    /// An empty release.
    fn empty() -> Self {
        let case = Self { home: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir(case.release()).expect("created");
        case
    }

    /// A whole release of the family that has a built-in recipe.
    fn whole() -> Self {
        let case = Self::empty();
        checkpoint_copy("tiny-small", &case.release());
        case
    }

    /// A release with one file of torch.save in it, under a name.
    fn torch(file: &str, name: &str) -> Self {
        let case = Self::empty();
        fs::copy(data("pickle").join(file), case.at(name)).expect("copied");
        case.write("config.json", r#"{"model_type": "toy", "width": 4, "parts": 2}"#);
        case
    }

    fn release(&self) -> PathBuf {
        self.home.path().join("release")
    }

    fn target(&self) -> PathBuf {
        self.home.path().join("out")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.release().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn converts(&self, more: &[&str]) -> Done {
        converts(&self.release(), &self.target(), more)
    }

    #[track_caller]
    fn refused(&self, more: &[&str], words: &[&str]) {
        refused(&self.release(), &self.target(), more, words);
    }

    /// The made-up model's file converts to the very bytes that its safetensors convert to, with these words said.
    #[track_caller]
    fn is_the_toy(&self, words: &[&str]) {
        let recipe = data("cases/toy.toml").display().to_string();
        let plain = Self::torch("toy.safetensors", "model.safetensors");
        let expected = plain.converts(&["--recipe", &recipe]).weights;
        let done = self.converts(&["--recipe", &recipe]);
        assert!(done.weights == expected, "other bytes than those of the safetensors\n{}", done.said);
        done.says(words);
    }
}

/// A conversion that went well.
struct Done {
    said: String,
    config: String,
    weights: Vec<u8>,
    tensors: tensors::Tensors,
}

impl Done {
    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.said.contains(word), "expected `{word}` in:\n{}", self.said);
        }
    }

    fn config(&self) -> Value {
        serde_json::from_str(&self.config).expect("JSON")
    }
}

fn convert(source: &Path, target: &Path, more: &[&str]) -> Output {
    let mut args: Vec<&std::ffi::OsStr> = vec!["convert".as_ref(), source.as_os_str(), target.as_os_str()];
    args.extend(more.iter().map(std::ffi::OsStr::new));
    mlxport(args)
}

#[track_caller]
fn converts(source: &Path, target: &Path, more: &[&str]) -> Done {
    let output = convert(source, target, more);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let verified = mlxport(["verify".as_ref(), target.as_os_str()]);
    assert_eq!(code(&verified), 0, "{}", stderr(&verified));
    let weights = target.join("model.safetensors");
    Done {
        said: String::from_utf8_lossy(&output.stdout).into_owned(),
        config: fs::read_to_string(target.join("config.json")).expect("a config"),
        weights: fs::read(&weights).expect("weights"),
        tensors: tensors::read(&weights),
    }
}

/// The source is refused in a few lines that have these words, and nothing is written.
#[track_caller]
fn refused(source: &Path, target: &Path, more: &[&str], words: &[&str]) {
    let output = convert(source, target, more);
    let text = stderr(&output);
    assert_eq!(code(&output), 2, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "expected `{word}` in:\n{text}"));
    assert!(text.lines().count() <= FEW_LINES, "{text}");
    assert!(!target.exists());
}

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 6672547120\n";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// Makes two shards of the release's one file, and an index that gives them these names.
fn in_shards(case: &Case, index: Option<[&str; 2]>) {
    let all = tensors::read(&case.at("model.safetensors"));
    fs::remove_file(case.at("model.safetensors")).expect("removed");
    let mut parts = [tensors::Tensors::new(), tensors::Tensors::new()];
    let mut map = BTreeMap::new();
    for (at, (key, tensor)) in all.into_iter().enumerate() {
        map.insert(key.clone(), index.map_or("", |names| names[at % 2]));
        parts[at % 2].insert(key, tensor);
    }
    SHARDS.iter().zip(&parts).for_each(|(name, part)| tensors::write(&case.at(name), part));
    if index.is_some() {
        let text = json!({ "metadata": { "total_size": 0 }, "weight_map": map }).to_string();
        case.write("model.safetensors.index.json", &text);
    }
}

fn with_number_in_config(number: &str) {
    let case = Case::whole();
    let text = fs::read_to_string(case.at("config.json")).expect("readable");
    case.write("config.json", &format!("{{\"time_step_limit\": [0.0, {number}],{}", &text[1..]));
    let config = case.converts(&[]).config;
    assert!(config.contains(&format!(" {number}\n")), "{config}");
}

#[test]
fn config_infinity() {
    with_number_in_config("Infinity");
}

#[test]
fn config_nan() {
    with_number_in_config("NaN");
}

#[test]
fn consolidated_no_index() {
    let case = Case::whole();
    fs::copy(case.at("model.safetensors"), case.home.path().join("kept")).expect("copied");
    in_shards(&case, None);
    fs::copy(case.home.path().join("kept"), case.at("consolidated.safetensors")).expect("copied");
    case.refused(&[], &["consolidated.safetensors", "2 shards", "give the one file itself"]);
}

#[test]
fn dtype_field() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes/qwen2-moe.toml").display().to_string();
    let target = Case::empty();
    let done =
        converts(&data("cases/dtype-field/release"), &target.target(), &["--recipe", &recipe, "--dtype", "bf16"]);
    let config = done.config();
    let stated: Vec<&Value> = ["dtype", "torch_dtype"].into_iter().filter_map(|name| config.get(name)).collect();
    assert!(!stated.is_empty() && stated.iter().all(|name| *name == "bfloat16"), "{config}");
    assert!(done.tensors.values().all(|tensor| tensor.dtype == Dtype::BF16));
}

#[test]
fn dtype_zoo() {
    let case = Case::empty();
    let (source, recipe) = (data("cases/dtype-zoo/release"), |name: &str| data("cases/dtype-zoo").join(name));
    let (one, all) = (recipe("one-f64.toml").display().to_string(), recipe("all.toml").display().to_string());
    refused(&source, &case.target(), &["--recipe", &one], &["F64", "--dtype"]);
    // One of its numbers is 1e300.
    let output = convert(&source, &case.target(), &["--recipe", &one, "--dtype", "f32"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("too large for F32"), "{}", stderr(&output));
    let every = convert(&source, &case.home.path().join("all"), &["--recipe", &all]);
    assert_eq!(code(&every), 2, "MLX loads neither F64 nor F4: {}", stderr(&every));
}

#[test]
fn empty_compare() {
    let recording = data("cases/empty-compare/ref");
    let output = mlxport(["compare".as_ref(), recording.as_os_str(), recording.as_os_str()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    assert!(text.contains("empty: it has no element"), "{text}");
}

#[test]
fn f4_crash() {
    for recipe in ["r.toml", "t.toml"] {
        let case = Case::empty();
        let recipe = data("cases/f4-crash").join(recipe).display().to_string();
        let source = data("cases/f4-crash/release");
        refused(&source, &case.target(), &["--recipe", &recipe], &["F4"]);
        let output = convert(&source, &case.target(), &["--recipe", &recipe, "--json"]);
        let object: Value = serde_json::from_slice(&output.stdout).expect("one object on stdout");
        assert_eq!((code(&output), &object["ok"]), (2, &json!(false)));
    }
}

#[test]
fn force_deletes() {
    let case = Case::whole();
    fs::create_dir(case.target()).expect("created");
    let done = case.converts(&[]);
    assert_eq!(code(&convert(&case.release(), &case.target(), &["--force"])), 0, "its own is replaced");
    // Beside what it wrote, as well as alone.
    for target in [case.target(), case.home.path().join("mine")] {
        fs::create_dir_all(target.join(".git")).expect("created");
        fs::write(target.join("thesis.txt"), "years of work").expect("written");
        let output = convert(&case.release(), &target, &["--force"]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains("thesis.txt"), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(target.join("thesis.txt")).expect("there"), "years of work");
    }
    assert!(fs::read(case.target().join("model.safetensors")).expect("there") == done.weights);
}

#[test]
fn fp16_variant() {
    let case = Case::whole();
    fs::copy(case.at("model.safetensors"), case.at("model.fp16.safetensors")).expect("copied");
    case.refused(&[], &["model.fp16.safetensors", "give the file itself"]);
}

#[test]
fn lfs_pointer() {
    let case = Case::whole();
    case.write("model.safetensors", POINTER);
    case.refused(&[], &["model.safetensors", "a git-lfs pointer", "git lfs pull"]);
}

#[test]
fn lfs_pointer_bin() {
    let case = Case::whole();
    case.rename("model.safetensors", "pytorch_model.bin");
    case.write("pytorch_model.bin", POINTER);
    case.refused(&[], &["pytorch_model.bin", "a git-lfs pointer", "git lfs pull"]);
}

#[test]
fn peft_adapter() {
    let case = Case::empty();
    case.write("adapter_config.json", r#"{"peft_type": "LORA"}"#);
    let lora = tensors::Owned { dtype: Dtype::F32, shape: vec![8, 32], bytes: vec![0; 1024] };
    let key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".to_owned();
    tensors::write(&case.at("adapter_model.safetensors"), &[(key, lora)].into());
    case.refused(&[], &["a PEFT adapter alone", "merge it into its base model first"]);
}

#[test]
fn stale_index() {
    let case = Case::whole();
    let named = ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    in_shards(&case, Some(named));
    case.refused(&[], &[named[0], named[1], SHARDS[0], SHARDS[1], "another sharding"]);
}

#[test]
fn stray_file() {
    let case = Case::whole();
    let before = case.converts(&[]).tensors.len();
    fs::copy(case.at("model.safetensors"), case.home.path().join("kept")).expect("copied");
    in_shards(&case, Some(SHARDS));
    fs::copy(case.home.path().join("kept"), case.at("model.safetensors")).expect("copied");
    let done = converts(&case.release(), &case.home.path().join("again"), &[]);
    done.says(&["model.safetensors: not read, because model.safetensors.index.json does not name it"]);
    assert_eq!(done.tensors.len(), before);
}

#[test]
fn tokenizer_files() {
    let case = Case::whole();
    let taken = [
        "added_tokens.json",
        "additional_chat_templates/tool_use.jinja",
        "bpe.codes",
        "chat_template.jinja",
        "chat_template.json",
        "generation_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "processor_config.json",
        "sentencepiece.bpe.model",
        "source.spm",
        "special_tokens.txt",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tiktoken.model",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
        "vocab.json",
        "vocab.txt",
    ];
    let left = ["LICENSE", "README.md", "modeling_deepseekocr.py", "params.json", "assets/fig.png"];
    taken.iter().chain(&left).for_each(|name| case.write(name, name));
    case.converts(&[]).says(&["left behind: LICENSE, README.md, assets/, modeling_deepseekocr.py, params.json"]);
    for name in taken {
        assert_eq!(fs::read_to_string(case.target().join(name)).ok().as_deref(), Some(name));
    }
    assert!(left.iter().all(|name| !case.target().join(name).exists()));
}

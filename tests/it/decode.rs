//! `mlxport decode`: PyTorch's tokens and logits, with cache and without, in one prefill and in chunks; a difference is exit code 1.

use std::path::Path;

use crate::support::{checkpoint_copy, code, converted, fixture, mlxport, stderr};

fn decode(model: &Path, recording: &Path, more: &[&str]) -> (i32, serde_json::Value) {
    let (model, recording) = (model.to_string_lossy(), recording.to_string_lossy());
    let output = mlxport([&["decode", "--model", &model, "--fixture", &recording, "--json"], more].concat());
    let object = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (code(&output), object)
}

#[test]
fn tokens_and_logits_are_pytorchs_however_they_are_computed() {
    let dir = converted("tiny-small", "split");
    let model = dir.path().join("model");
    for (more, run) in [
        (&[][..], "plain"),
        (&["--no-repeat-ngram", "4"], "no_repeat"),
        (&["--no-cache", "--steps", "12"], "plain"),
        (&["--chunk", "5"], "plain"),
        (&["--chunk", "1", "--no-repeat-ngram", "4"], "no_repeat"),
    ] {
        let (code, object) = decode(&model, &fixture("tiny-small"), more);
        let reference = &object["reference"];
        assert_eq!((code, reference["run"].as_str()), (0, Some(run)), "{more:?}: {object:#}");
        let tokens = object["tokens"].as_array().expect("tokens").len();
        assert_eq!(reference["equal_prefix"].as_u64(), Some(tokens as u64), "{more:?}");
        let of = |key: &str| reference[key].as_f64().expect("a number");
        assert!(of("logits_rel_rms") <= of("logits_tolerance") && of("logits_tolerance") < 1e-5, "{reference:#}");
    }
}

/// `windowed` was recorded with the release's own vLLM processor (`process/ngram_norepeat.py`): 2 tokens, in a window of 10, one exempt.
#[test]
fn the_windowed_rule_is_that_of_the_releases_serving_code() {
    let dir = converted("tiny-small", "mlx-vlm");
    let model = dir.path().join("model");
    let run = |more: &[&str]| decode(&model, &fixture("tiny-small"), more);
    let rule = ["--no-repeat-ngram", "2", "--window", "10", "--exempt", "269"];
    let (code, object) = run(&rule);
    let reference = &object["reference"];
    assert_eq!((code, reference["run"].as_str()), (0, Some("windowed")), "{object:#}");
    assert_eq!((reference["equal_prefix"].as_u64(), &object["tokens"]), (Some(48), &reference["tokens"]));
    for other in [&["--no-repeat-ngram", "2", "--exempt", "269"][..], &rule[..4], &rule[..2], &[]] {
        let (code, object) = run(&[other, &["--steps", "48"]].concat());
        // The plain rule was recorded, too: other tokens than its own are none of it. Nothing was recorded by the others.
        assert_eq!(code, if other.is_empty() { 0 } else { 2 }, "{other:?}");
        assert_ne!(object["tokens"], reference["tokens"], "{other:?}: each part of the rule makes a difference");
        assert_eq!(object["reference"].is_null(), !other.is_empty(), "{other:?}");
    }
}

#[test]
fn other_rules_are_decoded_but_not_compared() {
    let dir = converted("tiny-small", "mlx-vlm");
    let model = dir.path().join("model");
    let drawn = |seed: &str| {
        let more = ["--steps", "8", "--temperature", "1.5", "--top-k", "50", "--top-p", "0.95", "--seed", seed];
        let (code, object) = decode(&model, &fixture("tiny-small"), &more);
        assert_eq!(code, 2, "nothing was compared");
        assert!(object["reference"].is_null(), "{object:#}");
        object["tokens"].clone()
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    let windowed = ["--steps", "8", "--no-repeat-ngram", "3", "--window", "6", "--exempt", "262,263"];
    let (code, object) = decode(&model, &fixture("tiny-small"), &windowed);
    assert_eq!(
        (code, object["tokens"].as_array().map(Vec::len)),
        (2, Some(8)),
        "tokens, and nothing to compare them with"
    );
    assert_eq!(decode(&model, &fixture("tiny-small"), &["--steps", "0"]).0, 2, "no token, no verdict");
    let (code, object) = decode(&model, &fixture("tiny-small"), &["--no-repeat-ngram", "7"]);
    assert_eq!(code, 2, "nothing to compare with, and no number of steps");
    assert!(object["error"].as_str().is_some_and(|error| error.contains("--steps")), "{object:#}");
}

#[test]
fn other_tokens_other_logits_and_broken_recordings_are_told() {
    let dir = converted("tiny-small", "mlx-vlm");
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).expect("made");
    for file in std::fs::read_dir(fixture("tiny-small")).expect("listed").map(|entry| entry.expect("entry").path()) {
        if file.is_file() {
            std::fs::copy(&file, copy.join(file.file_name().expect("named"))).expect("copied");
        }
    }
    checkpoint_copy("tiny-small", &copy.join("checkpoint"));
    let model = dir.path().join("model");
    let sound = std::fs::read_to_string(copy.join("decode.json")).expect("read");
    let mut json: serde_json::Value = serde_json::from_str(&sound).expect("JSON");
    json["plain"]["tokens"][9] = 1.into();
    std::fs::write(copy.join("decode.json"), json.to_string()).expect("written");
    let (code, object) = decode(&model, &copy, &[]);
    assert_eq!((code, object["reference"]["equal_prefix"].as_u64()), (1, Some(9)), "{object:#}");
    for broken in
        ["", "[]", "{\"plain\": {\"tokens\": 3}}", "{\"plain\": {\"no_repeat_ngram_size\": 0, \"tokens\": [1e30]}}"]
    {
        std::fs::write(copy.join("decode.json"), broken).expect("written");
        let (code, object) = decode(&model, &copy, &[]);
        assert_eq!(code, 2, "{broken}: {object:#}");
        assert!(object["error"].as_str().is_some_and(|error| error.contains("decode.json")), "{object:#}");
    }
    std::fs::write(copy.join("decode.json"), sound).expect("written");
    let path = copy.join("decode.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let last = bytes.len() - 2;
    bytes[last] ^= 0x40;
    std::fs::write(&path, &bytes).expect("written");
    assert_eq!(decode(&model, &copy, &[]).0, 1, "one logit is another");
    std::fs::write(&path, &bytes[..last]).expect("written");
    assert_eq!(decode(&model, &copy, &[]).0, 2, "cut short");
}

//! Files of torch.save as people's training leaves them: each converts to the bytes that the same tensors in safetensors convert to.

use std::fs;

use super::{Case, converts, data};
use crate::support::{code, mlxport, stderr};

#[test]
fn ts_ckpt() {
    let case = Case::torch("met/last.ckpt", "last.ckpt");
    case.is_the_toy(&["all keys begin with net."]);
    let recipe = data("cases/toy.toml").display().to_string();
    let lone = converts(&case.at("last.ckpt"), &case.home.path().join("lone"), &["--recipe", &recipe]);
    assert!(lone.weights == fs::read(case.target().join("model.safetensors")).expect("there"));
}

#[test]
fn ts_ddp() {
    Case::torch("met/ddp.bin", "pytorch_model.bin").is_the_toy(&["all keys begin with module."]);
}

#[test]
fn ts_extra_ints() {
    Case::torch("met/ints.bin", "pytorch_model.bin").is_the_toy(&["height (the integer 192)", "use_stereo (True)"]);
}

#[test]
fn ts_extra_str_none() {
    Case::torch("met/ints.bin", "pytorch_model.bin").is_the_toy(&["name (the text \"mono\")", "nothing (None)"]);
}

#[test]
fn ts_legacy() {
    let case = Case::torch("met/legacy.bin", "pytorch_model.bin");
    case.is_the_toy(&[]);
    let output = mlxport(["inspect".as_ref(), case.at("pytorch_model.bin").as_os_str()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(text.contains("10 tensors"), "{text}");
}

#[test]
fn ts_loss_tensor() {
    Case::torch("met/loss.pth", "checkpoint.pth").is_the_toy(&["model_state_dict", "--state-dict"]);
}

#[test]
fn ts_misc_plain() {
    Case::torch("met/rng.pth", "checkpoint.pth").is_the_toy(&["state_dict", "--state-dict"]);
}

#[test]
fn ts_orig_mod() {
    Case::torch("met/compiled.bin", "pytorch_model.bin").is_the_toy(&["all keys begin with module._orig_mod."]);
}

#[test]
fn ts_posixpath() {
    Case::torch("met/paths.pth", "checkpoint.pth").is_the_toy(&[]);
}

#[test]
fn ts_proto4() {
    Case::torch("met/protocol4.bin", "pytorch_model.bin").is_the_toy(&[]);
}

#[test]
fn ts_quantized() {
    let case = Case::torch("met/quantized.bin", "pytorch_model.bin");
    let recipe = data("cases/toy.toml").display().to_string();
    case.refused(&["--recipe", &recipe], &["a quantized tensor", "dequantize()"]);
}

#[test]
fn ts_whole_module() {
    Case::torch("met/whole.pt", "model.pt").is_the_toy(&["a whole model was saved"]);
}

//! A small random model with the release's vocabulary: what it writes is noise, but its tokenizer is the release's.

use std::path::{Path, PathBuf};

use super::{checkpoint_copy, convert, edit_config, tensors};

/// Tokens of the release's vocabulary.
pub const VOCABULARY: usize = 129_280;

/// A file of the recorded preprocessing: pages, the tokenizer.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ocr/testdata").join(name)
}

/// `tiny-small` with as many tokens as the release: its own rows again and again.
pub fn model(dir: &Path) -> PathBuf {
    model_with(dir, |head| head.repeat_rows(VOCABULARY))
}

/// The same, whose head is made as long as the vocabulary by `grow`.
pub fn model_with(dir: &Path, grow: impl FnOnce(&mut tensors::Owned)) -> PathBuf {
    let checkpoint = dir.join("checkpoint");
    checkpoint_copy("tiny-small", &checkpoint);
    for pointer in ["/vocab_size", "/language_config/vocab_size"] {
        edit_config(&checkpoint.join("config.json"), pointer, VOCABULARY.into());
    }
    let path = checkpoint.join("model.safetensors");
    let mut all = tensors::read(&path);
    all.get_mut("model.embed_tokens.weight").expect("there").repeat_rows(VOCABULARY);
    grow(all.get_mut("lm_head.weight").expect("there"));
    tensors::write(&path, &all);
    let target = dir.join("model");
    convert(&checkpoint, &target, "mlx-vlm");
    target
}

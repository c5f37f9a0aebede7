//! `mlxport preprocess`: the file it writes is what a model is fed; what cannot be used is told, and leaves nothing behind.

use std::path::{Path, PathBuf};

use mlxport_ocr::{Cut, Mode, resample::Arithmetic, views_of};
use safetensors::{Dtype, SafeTensors};

use crate::support::{code, mlxport, schemas, stderr};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ocr/testdata").join(name)
}

fn preprocess(images: &[PathBuf], out: &Path, more: &[&str]) -> std::process::Output {
    let paths: Vec<String> = images.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut args: Vec<&str> = vec!["preprocess"];
    args.extend(paths.iter().map(String::as_str));
    let (tokenizer, out) = (data("tokenizer.json"), out.to_string_lossy().into_owned());
    let tokenizer = tokenizer.to_string_lossy().into_owned();
    args.extend(["--tokenizer", &tokenizer, "--out", &out]);
    args.extend(more);
    mlxport(args)
}

#[test]
fn the_file_holds_what_the_model_is_fed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("inputs.safetensors");
    let images = [data("pages/wide.png"), data("pages/small.png")];
    let more = ["--mode", "gundam", "--prompt", "<image>\n<image>\nFree OCR.", "--json"];
    let output = preprocess(&images, &out, &more);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    schemas::conforms("preprocess", &object);
    let bytes = std::fs::read(&out).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a sound file");
    let tensor = |name: &str| file.tensor(name).map(|t| (t.dtype(), t.shape().to_vec())).expect("there");
    let tiles = object["tiles"].as_u64().expect("tiles") as usize;
    assert!((2..=9).contains(&tiles), "wide.png is cut, small.png is not: {object:#}");
    assert_eq!(tensor("images_ori"), (Dtype::F32, vec![2, 3, 1024, 1024]));
    assert_eq!(tensor("images_crop"), (Dtype::F32, vec![tiles, 3, 640, 640]));
    assert_eq!(tensor("images_spatial_crop"), (Dtype::I64, vec![2, 2]));
    let tokens = object["tokens"].as_u64().expect("tokens") as usize;
    assert_eq!(tensor("input_ids"), (Dtype::I64, vec![1, tokens]));
    assert_eq!(tensor("images_seq_mask"), (Dtype::BOOL, vec![1, tokens]));
    let marked = file.tensor("images_seq_mask").expect("there").data().iter().filter(|&&m| m == 1).count();
    let counted: u64 = object["image_tokens"].as_array().expect("counts").iter().filter_map(|n| n.as_u64()).sum();
    assert_eq!(marked as u64, counted);
}

#[test]
fn what_cannot_be_used_ends_with_2_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("inputs.safetensors");
    let broken = dir.path().join("broken.png");
    let sound = std::fs::read(data("pages/small.png")).expect("read");
    let error = |bytes: &[u8], more: &[&str]| {
        std::fs::write(&broken, bytes).expect("written");
        let output = preprocess(std::slice::from_ref(&broken), &out, more);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(!out.exists(), "nothing is written");
        stderr(&output)
    };
    assert!(error(&sound[..sound.len() / 2], &[]).contains("broken.png"), "cut short");
    assert!(error(b"", &[]).contains("broken.png"), "empty");
    assert!(error(b"<svg/>", &[]).contains("broken.png"), "no image");
    // A header that claims 60,000 × 60,000 pixels: width and height stand at bytes 16 and 20.
    let mut bomb = sound.clone();
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    assert!(error(&bomb, &[]).contains("broken.png"), "a bomb");
    let folder = preprocess(&[dir.path().to_owned()], &out, &[]);
    assert_eq!(code(&folder), 2, "a directory is no image: {}", stderr(&folder));
    let placeless = ["--prompt", "no place for an image", "--json"];
    assert!(error(&sound, &placeless).contains("<image>"), "no placeholder");
    let output = preprocess(std::slice::from_ref(&broken), &out, &placeless);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    schemas::conforms("preprocess", &object);
    assert_eq!(object["ok"], false);
}

/// `testdata/processors.json` holds what transformers' own image processors make of the pages (`fixtures/capture/record_views.py`).
#[test]
fn views_of_other_families_are_those_of_transformers_processors() {
    let recorded = std::fs::read(data("processors.json")).expect("a recording");
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).expect("JSON");
    let second = Cut { tile: 768, least: 2, most: 6, has_newlines: false, as_transformers: true, ..Cut::default() };
    let unlimited = Cut { most: 32, as_transformers: true, arithmetic: Arithmetic::Torch, ..Cut::default() };
    for (family, cut) in [("deepseek_ocr2", second), ("unlimited_ocr", unlimited)] {
        for (name, wanted) in recorded[family].as_object().expect("pages") {
            let page = mlxport_ocr::open(&data("pages").join(name)).expect("a page");
            let views = views_of(&page, Mode::Gundam, cut).expect("views");
            let sha256 = |pages: &[&mlxport_ocr::Page]| {
                let bytes = pages.iter().flat_map(|page| views.values(page)).flat_map(f32::to_le_bytes);
                mlxport_fixtures::sha256_hex(&bytes.collect::<Vec<u8>>())
            };
            let found = (views.whole.width() as u64, views.tiles.len() as u64);
            assert_eq!((wanted["side"].as_u64(), wanted["tiles"].as_u64()), (Some(found.0), Some(found.1)), "{name}");
            assert_eq!(
                wanted["whole_sha256"].as_str(),
                Some(&*sha256(&[&views.whole])),
                "{family}: {name}: whole view"
            );
            if found.1 > 0 {
                let tiles: Vec<&mlxport_ocr::Page> = views.tiles.iter().collect();
                assert_eq!(wanted["tiles_sha256"].as_str(), Some(&*sha256(&tiles)), "{family}: {name}: tiles");
            }
        }
    }
}

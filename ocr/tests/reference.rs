//! Pages and modes of a recording of the release's preprocessing: `testdata/`, or the folder that `MLXPORT_PREPROCESS` names
//! (`preprocess.json`, `preprocess.safetensors`, `pages/`), with the `tokenizer.json` that lies there or that
//! `MLXPORT_TOKENIZER` names. The tokenizer in `testdata/` is the release's, less what the prompts there cannot meet.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use mlxport_ocr::{IMAGE_TOKEN_ID, Inputs, Mode, Prompter, open, prepare};
use safetensors::SafeTensors;
use serde_json::Value;

/// How far a JPEG's values may be off: decoders round differently, by this many of 255 steps.
const JPEG_STEPS: f32 = 4.0;

fn mode(name: &str) -> Mode {
    let all = [Mode::Tiny, Mode::Small, Mode::Base, Mode::Large, Mode::Gundam];
    all.into_iter().find(|mode| mode.name() == name).expect("a known mode")
}

/// The largest difference of recorded samples from values, in steps of a byte, and how many differ.
fn difference(file: &SafeTensors<'_>, view: &Value, values: &[f32]) -> (f32, usize, usize) {
    let stride = usize::try_from(view["stride"].as_u64().expect("a stride")).expect("fits");
    let tensor = file.tensor(view["tensor"].as_str().expect("a name")).expect("a tensor");
    let wanted = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (mut most, mut differing, mut count) = (0.0_f32, 0, 0);
    for (at, wanted) in wanted.enumerate() {
        let off = (values[at * stride] - wanted).abs();
        most = most.max(off * 127.5);
        differing += usize::from(values[at * stride].to_bits() != wanted.to_bits());
        count += 1;
    }
    assert!(count > 0, "no samples");
    (most, differing, count)
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("an id")).collect()
}

fn check_ids(case: &Value, inputs: &Inputs, name: &str) {
    assert_eq!(serde_json::json!(inputs.images_spatial_crop), serde_json::json!([case["crop"]]), "{name}");
    assert_eq!(serde_json::json!(inputs.token_counts), serde_json::json!([case["image_tokens"]]), "{name}");
    assert_eq!(Some(inputs.input_ids.len() as u64), case["token_count"].as_u64(), "{name}");
    assert!(inputs.input_ids.starts_with(&ids(&case["head"])), "{name}");
    assert!(inputs.input_ids.ends_with(&ids(&case["tail"])), "{name}");
    for (id, image) in inputs.input_ids.iter().zip(&inputs.images_seq_mask) {
        assert_eq!(*id == IMAGE_TOKEN_ID, *image, "{name}");
    }
}

#[test]
fn every_page_and_mode_is_the_releases() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder =
        variable("MLXPORT_PREPROCESS").unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    let tokenizer = variable("MLXPORT_TOKENIZER").unwrap_or_else(|| folder.join("tokenizer.json"));
    let prompter = Prompter::open(&tokenizer).expect("a tokenizer");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a recording");
    let cases: Vec<Value> = serde_json::from_slice(&read("preprocess.json")).expect("cases");
    let bytes = read("preprocess.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("samples");
    assert!(!cases.is_empty());
    let mut pages: BTreeMap<String, (f32, usize, usize)> = BTreeMap::new();
    for case in &cases {
        let (page, mode_name) = (case["page"].as_str().expect("a page"), case["mode"].as_str().expect("a mode"));
        let name = format!("{page}/{mode_name}");
        let opened = open(&folder.join("pages").join(page)).expect("a page");
        let inputs = prepare(&prompter, case["prompt"].as_str().expect("a prompt"), &[opened], mode(mode_name));
        let inputs = inputs.expect("inputs");
        check_ids(case, &inputs, &name);
        let tiles = case["tiles"].as_array().expect("tiles");
        assert_eq!(tiles.len(), inputs.tile_count, "{name}");
        let total = pages.entry(page.to_owned()).or_default();
        let whole = std::iter::once((&case["global_view"], &inputs.images_ori[..]));
        for (view, values) in whole.chain(tiles.iter().zip(inputs.images_crop.chunks_exact(3 * 640 * 640))) {
            let (most, differing, count) = difference(&file, view, values);
            *total = (total.0.max(most), total.1 + differing, total.2 + count);
        }
    }
    for (page, (most, differing, count)) in &pages {
        let _ = writeln!(std::io::stderr(), "{page}: {differing} of {count} samples differ, at most {most:.3} steps");
    }
    for (page, (most, ..)) in &pages {
        let jpeg = Path::new(page).extension().is_some_and(|extension| extension == "jpg");
        assert!(*most <= if jpeg { JPEG_STEPS } else { 0.0 }, "{page}: off by {most} steps");
    }
}

/// Byte tokens in any order make broken characters, halves, and whole ones across tokens.
#[test]
fn text_as_it_comes_is_the_text() {
    let prompter =
        Prompter::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tokenizer.json")).expect("a tokenizer");
    let crab: Vec<u32> =
        prompter.encode("🦀é漢\u{FFFD}", &[]).expect("ids").0[1..].iter().map(|id| *id as u32).collect();
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..400 {
        let ids: Vec<u32> =
            (0..draw(40)).map(|_| if draw(4) == 0 { draw(300) as u32 } else { crab[draw(crab.len())] }).collect();
        let whole = prompter.decode(&ids).expect("a text");
        let mut streamed = prompter.stream();
        let mut pieces: Vec<String> = ids.iter().map(|id| streamed.push(*id).expect("a piece")).collect();
        pieces.push(streamed.finish().expect("the rest"));
        assert_eq!(pieces.concat(), whole, "{ids:?}");
    }
    let mut streamed = prompter.stream();
    let pieces: Vec<String> = crab.iter().map(|id| streamed.push(*id).expect("a piece")).collect();
    assert!(pieces.contains(&"🦀".to_owned()), "a whole character as soon as it is there: {pieces:?}");
}

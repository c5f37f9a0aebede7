//! Unlimited-OCR's decoder sees the prompt and the last tokens generated: texts many windows long, read in chunks, made side by side; and a
//! window that is off by one is caught.

use std::path::{Path, PathBuf};

use mlxport_convert::{Request as Conversion, WriteOptions, prepare};
use mlxport_model::{
    LoadOptions, Model, Pass, Prompt, Tuned,
    decoding::{Engine, Options, generate},
    loading::ConfigEdit,
    runtime::{self, DeviceKind},
};
use mlxport_parity::{Request, fault::Fault, run};
use mlxport_verdict::{Mode, Run, Verdict};

const FIXTURE: &str = "unlimited-base";
/// The recording's window.
const WINDOW: usize = 4;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data").join(FIXTURE)
}

fn converted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let conversion = Conversion { source: fixture().join("checkpoint"), ..Default::default() };
    prepare(&conversion).expect("a plan").write(&WriteOptions::to(dir.path().join("model"))).expect("written");
    dir
}

fn model() -> Box<dyn Model> {
    runtime::use_device(DeviceKind::Cpu).expect("a CPU");
    mlxport_model::load(&converted().path().join("model"), LoadOptions::default()).expect("loads")
}

fn text(ids: &[i32]) -> Prompt {
    Prompt { input_ids: ids.to_vec(), images_seq_mask: vec![false; ids.len()], image: None }
}

/// The verdict on the tuned mode, which decodes what was recorded.
fn verdict(planted: Option<Fault>) -> Run {
    let dir = converted();
    let model = dir.path().join("model");
    let request = Request { modes: vec![Mode::Tuned], planted, ..Request::new(model, fixture()) };
    run(&request).expect("a verdict")
}

#[test]
fn a_window_off_by_one_is_caught_where_it_is_decoded() {
    let sound = verdict(None);
    assert_eq!(sound.summary.verdict, Verdict::Pass);
    let decoded = sound.taps.iter().find(|tap| tap.point == "decode.plain").expect("decoding is judged");
    assert!(decoded.shape[0] > 5 * WINDOW, "far past the window: {:?}", decoded.shape);
    for window in [WINDOW - 1, WINDOW + 1, 1000] {
        let pointer = "/language_config/sliding_window".to_owned();
        let fault = Fault::Config(vec![ConfigEdit { pointer, value: window.into() }]);
        let summary = verdict(Some(fault)).summary;
        assert_eq!(summary.verdict, Verdict::Fail, "a window of {window}");
        let point = summary.first_tuned_failure.expect("named").point;
        assert!(point.starts_with("decode."), "a window of {window}: {point}");
    }
}

#[test]
fn texts_many_windows_long_are_the_same_however_they_are_made() {
    let model = model();
    let texts = [(text(&[3, 41, 59, 26, 5]), 31), (text(&[7, 8]), 44), (text(&[35, 89, 79, 32, 38, 46, 26]), 5)];
    let options = |max_tokens, chunk| Options { max_tokens, chunk, ..Options::default() };
    let alone = |chunk| -> Vec<Vec<i32>> {
        let made = texts
            .iter()
            .map(|(prompt, count)| generate(&*model, prompt, &options(*count, chunk), &Tuned, |_| true).expect("made"));
        made.collect()
    };
    let want = alone(None);
    assert_eq!(alone(Some(2)), want, "prompts read two tokens at a time");
    for joins_at in [[0, 0, 0], [0, 9, 2], [5, 0, 20], [3, 25, 0]] {
        let mut engine = Engine::new(&*model);
        let mut made = vec![Vec::new(); texts.len()];
        for step in 0..90 {
            for (id, (prompt, count)) in texts.iter().enumerate().filter(|(id, _)| joins_at[*id] == step) {
                engine.join(id, prompt, options(*count, None)).expect("joins");
            }
            for token in engine.step().expect("a step") {
                made[token.id].push(token.token);
            }
        }
        assert_eq!(made, want, "joining at {joins_at:?}");
    }
}

#[test]
fn a_cache_stays_as_large_as_prompt_and_window() {
    let model = model();
    let (mut cache, pass) = (model.new_cache(), Pass::by(&Tuned));
    model.prefill(&text(&[3, 41, 59, 26, 5]), &[], &mut cache, None, &pass).expect("read");
    for step in 0..40 {
        model.decode(&[step], &mut cache, &pass).expect("a step");
        let held = cache.arrays().map(|array| array.dim(2)).max();
        assert!(step < 1 || held == Some(5 + WINDOW as i32), "{held:?} places after {step} steps");
        assert_eq!(cache.next_positions(1), [6 + step], "positions keep counting");
    }
}

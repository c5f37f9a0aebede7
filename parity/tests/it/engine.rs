//! Several texts made together are the texts made one by one: whenever each joins, with rules and draws of their own, matrices joined or not.

use std::path::Path;

use mlxport_convert::{Request, WriteOptions, prepare, recipe::packing::Wish};
use mlxport_model::{
    LoadOptions, Model, Prompt, Tuned,
    decoding::{Engine, NoRepeatNgram, Options, Sampling, generate},
    runtime::{self, DeviceKind},
};

fn model(joins: bool, quantize: bool) -> Box<dyn Model> {
    runtime::use_device(DeviceKind::Cpu).expect("a CPU");
    // Rows of tiny-grid are shorter than any group; of tiny-base some are long enough, so floats and codes stand side by side.
    let name = if quantize { "tiny-base" } else { "tiny-grid" };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data").join(name).join("checkpoint");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("model");
    let quantize = quantize.then(|| {
        let mode = mlxport_convert::quantize::Mode::Affine;
        Wish::new(mode, Some(4), Some(32), None).expect("affine")
    });
    let request = Request { source, layout: Some("split".to_owned()), quantize, ..Request::default() };
    prepare(&request).expect("a plan").write(&WriteOptions::to(&target)).expect("written");
    mlxport_model::load(&target, LoadOptions { joins: Some(joins), ..LoadOptions::default() }).expect("loads")
}

/// Prompts of different lengths, each with its own way to end and to choose.
fn texts() -> Vec<(Prompt, Options)> {
    let prompt = |ids: &[i32]| Prompt {
        input_ids: ids.iter().map(|id| id % 96).collect(),
        images_seq_mask: vec![false; ids.len()],
        image: None,
    };
    let options = |max_tokens| Options { max_tokens, ..Options::default() };
    vec![
        (prompt(&[3, 141, 59, 26, 5]), options(9)),
        (prompt(&[7]), Options { no_repeat: Some(NoRepeatNgram::plain(1)), ..options(14) }),
        (prompt(&[35, 89, 79, 32, 38, 46, 26, 43, 38, 32]), options(1)),
        (
            prompt(&[11, 12, 13]),
            Options { sampling: Sampling { temperature: 1.3, seed: 5, ..Sampling::default() }, ..options(11) },
        ),
        (prompt(&[2, 71, 82, 81, 82, 84, 59]), Options { chunk: Some(3), ..options(6) }),
    ]
}

/// All texts, text `at` joining before step `2 · at`.
fn together(model: &dyn Model, texts: &[(Prompt, Options)]) -> Vec<Vec<i32>> {
    let mut engine = Engine::new(model);
    let mut made = vec![Vec::new(); texts.len()];
    let mut ended = vec![false; texts.len()];
    for step in 0.. {
        if let (true, Some((prompt, options))) = (step % 2 == 0, texts.get(step / 2)) {
            engine.join(step / 2, prompt, options.clone()).expect("joins");
        }
        if engine.texts() == 0 && step / 2 >= texts.len() {
            break;
        }
        for token in engine.step().expect("a step") {
            assert!(!ended[token.id], "a text goes on after its end");
            made[token.id].push(token.token);
            ended[token.id] = token.is_last;
        }
    }
    assert!(ended.iter().all(|&ended| ended));
    made
}

/// The same, each prompt read in pieces of `chunk` tokens, one piece between two steps.
fn in_pieces(model: &dyn Model, texts: &[(Prompt, Options)], chunk: i32) -> Vec<Vec<i32>> {
    let mut engine = Engine::new(model);
    let mut made = vec![Vec::new(); texts.len()];
    for (id, (prompt, options)) in texts.iter().enumerate() {
        engine.begin(id, prompt.clone(), Vec::new(), Options { chunk: Some(chunk), ..options.clone() });
    }
    let (mut read, mut pieces, mut meanwhile) = (Vec::new(), 0, 0);
    while read.len() < texts.len() || engine.texts() > 0 {
        pieces += usize::from(read.len() < texts.len());
        read.extend(engine.advance().expect("a piece"));
        for token in engine.step().expect("a step") {
            meanwhile += usize::from(read.len() < texts.len());
            made[token.id].push(token.token);
        }
    }
    assert_eq!(read, (0..texts.len()).collect::<Vec<_>>(), "in the order of their beginning");
    let wanted: usize = texts.iter().map(|(prompt, _)| prompt.input_ids.len().div_ceil(chunk as usize)).sum();
    assert_eq!(pieces, wanted);
    assert!(meanwhile > 0, "texts under way go on while prompts are read");
    made
}

fn one_by_one(model: &dyn Model, texts: &[(Prompt, Options)]) -> Vec<Vec<i32>> {
    texts.iter().map(|(prompt, options)| generate(model, prompt, options, &Tuned, |_| true).expect("made")).collect()
}

#[test]
fn texts_made_together_are_the_texts_made_alone() {
    let mut texts = texts();
    let plain = model(false, false);
    let want = one_by_one(&*plain, &texts);
    assert_eq!(together(&*plain, &texts), want);
    for chunk in [1, 3, 64] {
        assert_eq!(in_pieces(&*plain, &texts, chunk), want, "{chunk} tokens at a time");
    }
    let joined = model(true, false);
    assert_eq!((together(&*joined, &texts), one_by_one(&*joined, &texts)), (want.clone(), want.clone()));
    // A stop token ends its text only.
    texts[0].1.stop = vec![want[0][4]];
    let stopped = together(&*plain, &texts);
    let first = want[0].iter().position(|token| *token == want[0][4]).expect("it is there");
    assert_eq!((&stopped[0][..], &stopped[1..]), (&want[0][..=first], &want[1..]));
}

#[test]
fn a_quantized_model_decodes_the_same_in_every_way() {
    let texts = texts();
    let want = one_by_one(&*model(false, true), &texts);
    assert_eq!(together(&*model(false, true), &texts), want);
    assert_eq!(together(&*model(true, true), &texts), want);
}

#[test]
fn a_text_can_be_ended_before_its_time() {
    let model = model(false, false);
    let texts = texts();
    let want = one_by_one(&*model, &texts);
    let mut engine = Engine::new(&*model);
    for (id, (prompt, options)) in texts.iter().enumerate().take(2) {
        engine.join(id, prompt, options.clone()).expect("joins");
    }
    engine.step().expect("a step");
    assert!(engine.leave(0).expect("leaves") && !engine.leave(0).expect("is gone"));
    let rest: Vec<i32> = (1..14).map(|_| engine.step().expect("a step")[0].token).collect();
    assert_eq!((rest.as_slice(), engine.texts()), (&want[1][1..], 0));
    assert!(engine.step().expect("nothing to do").is_empty());
    // One whose prompt is being read, and one whose prompt does not fit.
    let in_twos = |text: usize| (texts[text].0.clone(), Options { chunk: Some(2), ..texts[text].1.clone() });
    let (prompt, options) = in_twos(0);
    engine.begin(7, prompt, Vec::new(), options);
    assert_eq!(engine.advance().expect("a piece"), None);
    assert!(engine.leave(7).expect("leaves") && !engine.leave(7).expect("is gone"));
    assert_eq!(engine.advance().expect("nothing to read"), None);
    let (mut prompt, options) = in_twos(1);
    prompt.input_ids.push(i32::MAX);
    engine.begin(8, prompt, Vec::new(), options);
    assert!(engine.advance().is_err() && engine.advance().expect("dropped").is_none() && engine.texts() == 0);
}

//! Decoding with the cache computes what one pass over everything computes, however the tokens are cut.

use std::path::Path;

use mlx_rs::Array;
use mlxport_convert::{DtypeChoice, Request, WriteOptions, prepare};
use mlxport_model::{
    Image, LoadOptions, Model, Pass, Prompt, TileGrid, Tuned,
    contract::{Kind, Listener},
    decoding::{Engine, Options},
    runtime::{self, DeviceKind},
};
use mlxport_verdict::{Reference, compare};

/// A small fixture's checkpoint, converted.
fn model(name: &str, layout: &str) -> Box<dyn Model> {
    loaded((name, layout), DtypeChoice::default(), LoadOptions::default())
}

/// The same, its weights in another dtype, loaded as `options` say.
fn loaded((name, layout): (&str, &str), dtype: DtypeChoice, options: LoadOptions) -> Box<dyn Model> {
    runtime::use_device(DeviceKind::Cpu).expect("a CPU");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data").join(name).join("checkpoint");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("model");
    let request = Request { source, layout: Some(layout.to_owned()), dtype, ..Request::default() };
    prepare(&request).expect("a plan").write(&WriteOptions::to(&target)).expect("written");
    mlxport_model::load(&target, options).expect("loads")
}

/// The last `rows` positions' logits.
fn last(logits: &Array, rows: usize) -> Vec<f32> {
    let vocabulary = logits.dim(2) as usize;
    let logits = logits.contiguous().expect("contiguous");
    let all = logits.try_as_slice::<f32>().expect("float32");
    all[all.len() - rows * vocabulary..].to_vec()
}

/// How far two lists are apart, relative to the second.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    compare(&[b.len()], Reference::F32(b), a).expect("as many values").rel_rms
}

/// A picture of 128×128 in one view: 4 features, 2 newlines, 1 separator.
fn image() -> Image {
    let pixels: Vec<f32> = (0..128 * 128 * 3).map(|i| ((i * 7919) % 255) as f32 / 127.5 - 1.0).collect();
    Image { global: Array::from_slice(&pixels, &[1, 128, 128, 3]), tiles: None, grid: TileGrid { across: 1, down: 1 } }
}

#[test]
fn any_cut_gives_the_same_logits() {
    let model = model("tiny-small", "mlx-vlm");
    let text = [3, 141, 59, 26, 5, 35, 89, 79];
    let prompt: Vec<i32> = [0].into_iter().chain([500; 7]).chain([11, 12]).collect();
    let mask = |tokens: usize| (0..tokens).map(|i| (1..8).contains(&i)).collect::<Vec<bool>>();
    let whole: Vec<i32> = prompt.iter().chain(&text).copied().collect();
    let given =
        |ids: &[i32]| Prompt { input_ids: ids.to_vec(), images_seq_mask: mask(ids.len()), image: Some(image()) };
    let want = last(&model.forward(&given(&whole), None, &Pass::by(&Tuned)).expect("one pass"), text.len());
    for chunk in [1, 3, 8] {
        let mut cache = model.new_cache();
        model.forward(&given(&prompt), Some(&mut cache), &Pass::by(&Tuned)).expect("prefill");
        let mut got = Vec::new();
        for ids in text.chunks(chunk) {
            got.extend(last(&model.decode(ids, &mut cache, &Pass::by(&Tuned)).expect("decoded"), ids.len()));
        }
        assert_eq!(cache.tokens() as usize, whole.len());
        assert!(distance(&got, &want) <= 4e-6, "chunks of {chunk}: {:e}", distance(&got, &want));
    }
}

#[test]
fn pictures_of_one_prompt_fill_its_places_in_order() {
    let model = model("tiny-small", "mlx-vlm");
    let other = || Image { global: image().global.multiply(Array::from_f32(-0.5)).expect("scaled"), ..image() };
    let (first, second) = ([[0].as_slice(), &[500; 7], &[11]].concat(), [[500; 7].as_slice(), &[12, 13]].concat());
    let mask = |ids: &[i32]| ids.iter().map(|id| *id == 500).collect::<Vec<bool>>();
    let given =
        |ids: &[i32], image: Image| Prompt { images_seq_mask: mask(ids), input_ids: ids.to_vec(), image: Some(image) };
    // One picture after the other behind one cache: each step of that is held against PyTorch elsewhere.
    let mut cache = model.new_cache();
    model.prefill(&given(&first, image()), &[], &mut cache, None, &Pass::by(&Tuned)).expect("the first");
    let want = last(
        &model.prefill(&given(&second, other()), &[], &mut cache, None, &Pass::by(&Tuned)).expect("the second"),
        1,
    );
    let both = [first, second].concat();
    let together = |pictures: [Image; 2]| {
        let [one, more] = pictures;
        let mut cache = model.new_cache();
        last(&model.prefill(&given(&both, one), &[more], &mut cache, None, &Pass::by(&Tuned)).expect("both"), 1)
    };
    let got = together([image(), other()]);
    assert!(distance(&got, &want) <= 4e-6, "{:e}", distance(&got, &want));
    assert!(distance(&together([other(), image()]), &want) > 1e-3, "the order counts");
    // The same through the engine: in one go, and picture by picture, then some tokens at a time.
    let options = |chunk| Options { max_tokens: 5, chunk, ..Options::default() };
    let mut made = Vec::new();
    for chunk in [None, Some(1), Some(4), Some(5)] {
        let mut engine = Engine::new(&*model);
        if chunk.is_none() {
            engine.join_with(0, &given(&both, image()), &[other()], options(chunk)).expect("joins");
        } else {
            engine.begin(0, given(&both, image()), vec![other()], options(chunk));
            while engine.advance().expect("a piece").is_none() {}
        }
        let step = |_| engine.step().expect("a step")[0].token;
        made.push((0..5).map(step).collect::<Vec<_>>());
    }
    assert!(made[1..].iter().all(|tokens| *tokens == made[0]), "{made:?}");
    let mut cache = model.new_cache();
    let refused = model.prefill(&given(&both, image()), &[image(), other()], &mut cache, None, &Pass::by(&Tuned));
    assert!(refused.expect_err("three for two").to_string().contains("21 slots"));
}

#[test]
fn what_is_kept_widened_computes_what_is_widened_each_time() {
    let ids = vec![3, 141, 59, 26, 5, 35, 89, 79];
    let prompt = Prompt { images_seq_mask: vec![false; ids.len()], input_ids: ids, image: None };
    let logits = |options| {
        let model = loaded(("tiny-small", "split"), DtypeChoice::Bf16, options);
        // Twice: the first pass widens.
        let pass = |_| last(&model.forward(&prompt, None, &Pass::by(&Tuned)).expect("a pass"), 8);
        [0, 1].map(pass)
    };
    let [want, again] = logits(LoadOptions::default());
    assert_eq!(want, again);
    assert_eq!(logits(LoadOptions::float32()), [want.clone(), want]);
}

/// Takes part in a pass and wants nothing of it.
struct Deaf;

impl Listener for Deaf {
    fn tap(&mut self, path: &str, _: Kind, _: Array) -> mlxport_model::error::Result<()> {
        panic!("{path} was not asked for")
    }

    fn wants(&self, _: &str) -> bool {
        false
    }
}

#[test]
fn views_side_by_side_are_views_one_after_the_other() {
    for layout in ["mlx-vlm", "split"] {
        let model = model("tiny-gundam", layout);
        let view = |count: i32, edge: i32| {
            let pixels: Vec<f32> =
                (0..count * edge * edge * 3).map(|i| ((i * 7919) % 255) as f32 / 127.5 - 1.0).collect();
            Array::from_slice(&pixels, &[count, edge, edge, 3])
        };
        let grid = TileGrid { across: 2, down: 1 };
        let image = || Image { global: view(1, 256), tiles: Some(view(2, 128)), grid };
        let rows = model.image_rows(&image(), &Pass::by(&Tuned)).expect("rows").dim(0) as usize;
        let prompt = Prompt {
            input_ids: [vec![0], vec![500; rows], vec![11, 12]].concat(),
            images_seq_mask: [vec![false], vec![true; rows], vec![false; 2]].concat(),
            image: Some(image()),
        };
        // Listened to, every view goes alone, as in PyTorch.
        let apart = model.forward(&prompt, None, &Pass::with_listener(&mut Deaf, &Tuned)).expect("apart");
        let together = model.forward(&prompt, None, &Pass::by(&Tuned)).expect("together");
        let (got, want) = (last(&together, rows), last(&apart, rows));
        assert!(distance(&got, &want) <= 4e-6, "{layout}: {:e}", distance(&got, &want));
        let other = Prompt {
            image: Some(Image { tiles: Some(view(2, 128).negative().expect("negated")), ..image() }),
            ..prompt
        };
        let other = model.forward(&other, None, &Pass::by(&Tuned)).expect("other tiles");
        assert!(distance(&last(&other, rows), &want) > 1e-3, "tiles count");
    }
}

#[test]
fn a_token_outside_the_vocabulary_and_a_mask_that_does_not_fit_are_refused() {
    let model = model("tiny-small", "split");
    let prompt =
        |ids: Vec<i32>, image: Option<Image>| Prompt { images_seq_mask: vec![false; ids.len()], input_ids: ids, image };
    let text = |prompt: Prompt| model.forward(&prompt, None, &Pass::by(&Tuned)).expect_err("refused").to_string();
    assert!(text(prompt(vec![1, 512], None)).contains("512"));
    assert!(text(prompt(vec![], None)).contains("at least one token"));
    assert!(text(prompt(vec![1, 2], Some(image()))).contains("7 slots"));
}

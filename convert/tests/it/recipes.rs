//! Recipes of one's own: every operation through the whole pipeline, and everything wrong with a bad recipe in one error.

use std::fs;

use mlxport_convert::recipe::Recipe;
use mlxport_convert::{ConvertError, Request, Violation, ViolationKind, WriteOptions, prepare, verify};
use safetensors::Dtype;
use serde_json::json;

use crate::support::{Stored, has, load_directory, tiny::write_release};

/// A recipe for a made-up model that uses every operation.
const EVERY_OPERATION: &str = r#"
schema = 1
name = "toy"
layouts = ["plain"]
fits = { model_type = ["toy"] }
dims = [{ name = "area", is = "kernel * kernel" }]
require = [{ check = "width % 2 == 0", why = "halves" }]

[config]
fields = [
  { path = "width", kind = "size", dim = "width" },
  { path = "kernel", kind = "size", dim = "kernel", default = 2 },
  { path = "parts", kind = "size", dim = "parts" },
]

[indices]
part = { count = "parts" }
odd = { count = "parts", where = "i % 2 == 1" }

[table]
rows = [
  { from = "a", shape = ["width"], to = "out.a" },
  { from = "conv", shape = ["width", "3", "kernel", "kernel"], op = "conv_oihw_to_ohwi", to = "out.conv" },
  { from = "t", shape = ["width", "3"], op = "transpose", to = "out.t" },
  { from = "unfold", shape = ["width", "3*area"], op = "permute_unfold", kernel = ["kernel", "kernel"], to = "out.unfold" },
  { from = "qkv", shape = ["3*width", "2"], op = "split_qkv", to = ["out.q", "out.k", "out.v"] },
  { from = "e.{part}.w", shape = ["2"], op = "stack", over = "part", to = "out.e" },
  { from = ["left", "right"], shape = [["width", "1"], ["width", "2"]], op = "concat", axis = 1, to = "out.wide" },
  { from = "odd.{odd}", shape = ["1"], to = "out.odd.{odd}" },
  { from = "gone", shape = ["1"], dtype = ["I64"], op = "drop", reason = "a counter" },
]
"#;

fn f32s(key: &str, shape: &[u64], first: f32) -> Stored {
    let count: u64 = shape.iter().product();
    let bytes = (0..count).flat_map(|i| (first + i as f32).to_le_bytes()).collect();
    (key.to_owned(), Dtype::F32, shape.to_vec(), bytes)
}

fn toy_tensors() -> Vec<Stored> {
    vec![
        f32s("a", &[4], 0.0),
        f32s("conv", &[4, 3, 2, 2], 0.0),
        f32s("t", &[4, 3], 0.0),
        f32s("unfold", &[4, 12], 0.0),
        f32s("qkv", &[12, 2], 0.0),
        f32s("e.0.w", &[2], 10.0),
        f32s("e.1.w", &[2], 20.0),
        f32s("left", &[4, 1], 0.0),
        f32s("right", &[4, 2], 100.0),
        f32s("odd.1", &[1], 7.0),
        ("gone".to_owned(), Dtype::I64, vec![1], vec![0; 8]),
    ]
}

#[test]
fn every_operation_does_what_it_says() {
    let home = tempfile::tempdir().expect("a directory");
    let recipe = home.path().join("toy.toml");
    fs::write(&recipe, EVERY_OPERATION).expect("writes");
    let source = home.path().join("release");
    write_release(&source, &json!({"model_type": "toy", "width": 4, "parts": 2}), &toy_tensors());
    let request = Request { source, recipe: Some(recipe.display().to_string()), ..Request::default() };
    let target = home.path().join("out");
    prepare(&request).expect("plans").write(&WriteOptions::to(&target)).expect("converts");
    assert!(verify(&target).expect("verifies").differences.is_empty());
    let loaded = load_directory(&target);
    let values = |name: &str| -> (Vec<usize>, Vec<f32>) {
        let (_, shape, bytes) = &loaded[name];
        (shape.clone(), bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    assert_eq!(values("out.a"), (vec![4], vec![0.0, 1.0, 2.0, 3.0]));
    let (shape, conv) = values("out.conv");
    assert_eq!((shape, &conv[..7]), (vec![4, 2, 2, 3], &[0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0][..]));
    let (shape, t) = values("out.t");
    assert_eq!((shape, &t[..5]), (vec![3, 4], &[0.0, 3.0, 6.0, 9.0, 1.0][..]));
    let (shape, unfold) = values("out.unfold");
    assert_eq!((shape, &unfold[..6]), (vec![4, 12], &[0.0, 4.0, 8.0, 1.0, 5.0, 9.0][..]));
    assert_eq!((values("out.k").0, values("out.k").1[0], values("out.v").1[7]), (vec![4, 2], 8.0, 23.0));
    assert_eq!(values("out.e"), (vec![2, 2], vec![10.0, 11.0, 20.0, 21.0]));
    let wide = vec![0.0, 100.0, 101.0, 1.0, 102.0, 103.0, 2.0, 104.0, 105.0, 3.0, 106.0, 107.0];
    assert_eq!(values("out.wide"), (vec![4, 3], wide));
    assert_eq!(loaded.len(), 10);
}

fn problems(text: &str) -> Vec<Violation> {
    match Recipe::parse(text, "test") {
        Err(ConvertError::Violations(list)) => list.0,
        other => panic!("expected violations, found {other:?}"),
    }
}

#[test]
fn the_built_in_recipe_and_the_toy_parse() {
    for name in Recipe::builtin_names() {
        Recipe::named(name).expect("it parses");
    }
    Recipe::parse(EVERY_OPERATION, "toy").expect("it parses");
}

#[test]
fn a_bad_recipe_is_refused_with_everything_wrong() {
    let cases = [
        ("schema = 1", "schema = 2"),
        ("layouts = [\"plain\"]", "layouts = []"),
        ("schema = 1", "schema = 1\nunknown = 3"),
        ("\"kernel * kernel\"", "\"kernel * colonel\""),
        ("\"kernel * kernel\"", "\"kernel * \""),
        ("kind = \"size\", dim = \"parts\"", "kind = \"text\", dim = \"parts\""),
        ("dim = \"parts\"", "dim = \"width\""),
        ("from = \"a\"", "from = \"a.{nobody}\""),
        ("from = \"a\"", "from = \"a.{\""),
        ("to = \"out.odd.{odd}\"", "to = \"out.odd\""),
        ("over = \"part\", ", ""),
        ("over = \"part\"", "over = \"odd\""),
        ("axis = 1", "axis = 2"),
        ("reason = \"a counter\"", "kernel = [\"1\", \"1\"]"),
        ("dtype = [\"I64\"]", "dtype = [\"int\"]"),
        ("op = \"transpose\"", "op = \"rotate\""),
        ("shape = [\"width\", \"3\"], op = \"transpose\"", "shape = [\"width\"], op = \"transpose\""),
        ("\"out.q\", \"out.k\", \"out.v\"", "\"out.q\", \"out.k\""),
        ("{ from = \"a\", shape = [\"width\"], to = \"out.a\" }", "{ from = \"a\", shape = [\"width\"] }"),
    ];
    for (from, to) in cases {
        assert!(EVERY_OPERATION.contains(from), "{from}");
        let list = problems(&EVERY_OPERATION.replacen(from, to, 1));
        assert!(list.iter().all(|violation| violation.kind == ViolationKind::Recipe), "{to}: {list:#?}");
    }
    let both = EVERY_OPERATION.replacen("kernel * kernel", "?", 1).replacen("axis = 1", "axis = 9", 1);
    assert!(problems(&both).len() >= 2);
}

#[test]
fn rows_that_claim_one_key_or_make_one_target_are_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let text = EVERY_OPERATION.replace(
        "rows = [",
        "rows = [\n{ from = \"a\", shape = [\"width\"], to = \"out.twice\" },\n{ from = \"b\", shape = [\"width\"], to = \"out.t\" },",
    );
    let recipe = home.path().join("toy.toml");
    fs::write(&recipe, text).expect("writes");
    let source = home.path().join("release");
    let tensors = [f32s("a", &[4], 0.0), f32s("b", &[4], 0.0), f32s("t", &[4, 3], 0.0)];
    write_release(&source, &json!({"width": 4, "parts": 1}), &tensors);
    let request = Request { source, recipe: Some(recipe.display().to_string()), ..Request::default() };
    let error = prepare(&request).expect_err("it must be refused");
    let list = error.violations();
    assert!(has(list, ViolationKind::Recipe, "a") && has(list, ViolationKind::Recipe, "out.t"), "{error}");
    // With one part no number is odd, and the row may not be empty.
    assert!(list.iter().any(|violation| violation.expected.contains("index odd")), "{error}");
}

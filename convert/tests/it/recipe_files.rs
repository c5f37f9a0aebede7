//! Recipe files: TOML and JSON are one language, errors have a place, and what a config may say of rows and fields.

use std::fs;

use mlxport_convert::recipe::Recipe;
use mlxport_convert::{ConvertError, Violation, inspect_with};
use serde_json::{Value, json};

use crate::support::{
    numbered::{Numbered, rows},
    tiny::{stored, write_release},
};

const BUILT_IN: &str = include_str!("../../recipes/deepseek-ocr.toml");
const QWEN: &str = include_str!("../../../examples/recipes/qwen2-moe.toml");

/// The same recipe, spelled as JSON.
fn as_json(toml: &str) -> String {
    toml::from_str::<Value>(toml).expect("TOML").to_string()
}

fn problems(text: &str, origin: &str) -> Vec<String> {
    match Recipe::parse(text, origin) {
        Err(ConvertError::Violations(list)) => list.0.iter().map(ToString::to_string).collect(),
        other => panic!("expected violations, found {other:?}"),
    }
}

#[test]
fn toml_and_json_are_one_language() {
    for text in [BUILT_IN, QWEN] {
        let toml = Recipe::parse(text, "r.toml").expect("parses");
        for origin in ["r.json", "r"] {
            let mut json = Recipe::parse(&as_json(text), origin).expect("parses");
            assert_ne!(json.hash, toml.hash, "the hash is that of the file");
            json.hash.clone_from(&toml.hash);
            assert_eq!(json, toml);
        }
        let other = Recipe::parse(&text.replacen("is = \"", "is = \"1 + ", 1), "r.toml").expect("parses");
        assert_ne!(Recipe { hash: toml.hash.clone(), ..other }, toml, "the comparison sees expressions");
    }
}

#[test]
fn syntax_errors_have_line_and_column() {
    for (text, origin, expected) in [
        ("schema = 1\nname = ", "r.toml", "recipe: r.toml: line 2, column 8: expected a recipe in TOML, found "),
        (
            "{\n  \"schema\": 1,\n  \"name\" 2\n}",
            "r",
            "recipe: r: line 3, column 10: expected a recipe in JSON, found expected `:`",
        ),
        ("schema = 1", "r.json", "recipe: r.json: line 1, column 1: expected a recipe in JSON, found expected value"),
        (
            "schema = \"one\"\n",
            "r.toml",
            "recipe: r.toml: line 1, column 10: expected a recipe in TOML, found invalid type: string",
        ),
        (
            "{\"schema\": 1, \"nome\": \"x\"}",
            "r.json",
            "recipe: r.json: line 1, column 20: expected a recipe in JSON, found unknown field `nome`",
        ),
        (
            "{\"schema\": 1, \"schema\": 1}",
            "r.json",
            "recipe: r.json: line 1, column 22: expected a recipe in JSON, found duplicate field `schema`",
        ),
        (
            "{\"indices\": {\"a\": {\"count\": 1}, \"a\": {\"count\": 2}}}",
            "r.json",
            "recipe: r.json: line 1, column 50: expected a recipe in JSON, found a is there twice",
        ),
    ] {
        let list = problems(text, origin);
        assert!(list.len() == 1 && list[0].starts_with(expected), "{list:#?}\n{expected}");
    }
    let deep = format!("{{\"schema\": {}", "[".repeat(100_000));
    assert!(problems(&deep, "r.json")[0].contains("line 1"));
}

#[test]
fn wrong_rows_are_named_by_number_in_both_spellings() {
    let bad = QWEN.replacen("shape = [\"vocab\", \"hidden\"]", "shape = [\"vocab\", \"hiden\"]", 1).replacen(
        "over = \"expert\", ",
        "",
        1,
    );
    let found = [
        "row 1: expected an expression over declared names, found \"hiden\": no dim is called hiden",
        "row 14: expected over for stack, found nothing",
    ];
    for (text, origin) in [(bad.clone(), "r.toml"), (as_json(&bad), "r.json")] {
        assert_eq!(problems(&text, origin), found.map(|line| format!("recipe: {origin}: {line}")));
    }
}

#[test]
fn only_what_is_left_out_may_be_missing_or_unseen() {
    for (row, expected) in [
        (r#"{ from = "a", to = "a" }"#, "row 1: expected a shape (only drop goes without), found none"),
        (
            r#"{ from = "a", shape = [1], optional = true, to = "a" }"#,
            "row 1: expected no optional (only what is dropped may be missing; see when), found it",
        ),
        (
            r#"{ from = "a.*", shape = [1], to = "a" }"#,
            "row 1: expected '*' only in drop rows without a shape, found a.*",
        ),
        (r#"{ from = "a", shape = [1], to = "a.*" }"#, "row 1: expected a target that is a whole key, found a.*"),
        (
            r#"{ from = "a", dtype = ["I64"], op = "drop", reason = "r" }"#,
            "row 1: expected no dtype where no shape is checked, found it",
        ),
    ] {
        assert_eq!(problems(&rows(row), "r.toml"), [format!("recipe: r.toml: {expected}")]);
    }
}

fn plan(shapes: &[(&str, &[u64])], recipe: &str, config: &Value) -> Result<Vec<String>, Vec<String>> {
    let text = |list: Vec<Violation>| list.iter().map(ToString::to_string).collect();
    Numbered::new(shapes).plan(recipe, config).map(|all| all.into_iter().map(|o| o.name).collect()).map_err(text)
}

#[test]
fn rows_follow_the_config_and_drops_take_what_is_there() {
    let text = rows(
        r#"{ from = "embed", shape = ["n"], to = "embed" },
           { from = "head", shape = ["n"], when = "!tied", to = "head" },
           { from = "head", shape = ["n"], when = "tied", optional = true, op = "drop", reason = "tied" },
           { from = "l.{layer}.inv_freq", optional = true, op = "drop", reason = "a buffer" },
           { from = "visual.*", op = "drop", reason = "the language model alone" },"#,
    );
    let text = format!(
        "{text}\n[indices]\nlayer = {{ count = 2 }}\n[config]\nwrite = \"as_is\"\nfields = [\n\
         {{ path = \"n\", kind = \"size\", dim = \"n\" }},\n\
         {{ path = \"tied\", kind = \"flag\", dim = \"tied\", default = false }},\n]\n"
    );
    let (tied, free) = (json!({"n": 3, "tied": true}), json!({"n": 3}));
    let embed = ("embed", &[3_u64][..]);
    let (head, visual, buffer) = (("head", &[3_u64][..]), ("visual.a", &[7_u64][..]), ("l.1.inv_freq", &[2_u64][..]));
    assert_eq!(plan(&[embed, head, visual, buffer], &text, &free), Ok(vec!["embed".into(), "head".into()]));
    assert_eq!(plan(&[embed, head, visual], &text, &tied), Ok(vec!["embed".into()]));
    assert_eq!(plan(&[embed, visual], &text, &tied), Ok(vec!["embed".into()]));
    let list = plan(&[embed, ("l.2.inv_freq", &[2])], &text, &free).expect_err("refused");
    assert_eq!(
        list,
        [
            "missing key: head: expected a tensor of shape [3], found nothing (row 2: head)",
            "missing key: visual.*: expected a tensor to leave out, found nothing (row 5: visual.*)",
            "extra key: l.2.inv_freq: expected a row of the recipe to claim it, found none (it has the form of row 4: \
             l.{layer}.inv_freq, but the config has no such number there)",
        ]
    );
}

#[test]
fn a_config_is_completed_kept_or_cut_down() {
    let source =
        json!({"model_type": "t", "depth": 2, "kinds": ["full", "linear"], "nested": [[1, 2], [3]], "x": {"y": null}});
    let fields = r#"{ path = "layers", also = ["depth"], kind = "size", dim = "layers" },
        { path = "heads", kind = "size", default = 4 },
        { path = "kinds", kind = "texts", only = ["linear", "full"], dim = "kinds" }"#
        .replace('\n', " ");
    let written = |write: &str| {
        let text = rows(r#"{ from = "a", shape = [1], to = "a" }"#);
        let recipe = format!("{text}[config]\nwrite = \"{write}\"\nfields = [{}]\n", fields);
        let recipe = Recipe::parse(&recipe, "r.toml").expect("parses");
        let normalized = recipe.config.normalize(&source);
        assert!(normalized.violations.is_empty(), "{:?}", normalized.violations);
        assert_eq!(normalized.dims.lists["kinds"], Some(vec![1, 0]));
        normalized.json
    };
    assert_eq!(written("as_is"), source);
    assert_eq!(written("listed"), json!({"layers": 2, "heads": 4, "kinds": ["full", "linear"]}));
    let mut complete = source.clone();
    complete["layers"] = json!(2);
    complete["heads"] = json!(4);
    assert_eq!(written("complete"), complete);
    for field in
        [r#"path = "a", kind = "size", value = 1, override = true"#, r#"path = "a", kind = "any", mirror = true"#]
    {
        let text = rows(r#"{ from = "a", shape = [1], to = "a" }"#);
        let text = format!("{text}[config]\nwrite = \"as_is\"\ndrop = [\"b\"]\nfields = [{{ {field} }}]\n");
        assert_eq!(problems(&text, "r").len(), 2);
    }
}

#[test]
fn layers_of_two_kinds_are_told_apart_by_a_list_of_names() {
    let text = rows(
        r#"{ from = "l.{full}.qkv", shape = [1], to = "l.{full}.qkv" },
           { from = "l.{linear}.conv", shape = [1], to = "l.{linear}.conv" },"#,
    );
    let text = format!(
        "{text}\n[indices]\nfull = {{ count = \"layers\", where = \"kinds[i] == 0\" }}\n\
         linear = {{ count = \"layers\", where = \"kinds[i] == 1\" }}\n[config]\nfields = [\n\
         {{ path = \"layers\", kind = \"size\", dim = \"layers\" }},\n\
         {{ path = \"layer_types\", kind = \"texts\", only = [\"full\", \"linear\"], dim = \"kinds\" }},\n]\n"
    );
    let tensors: [(&str, &[u64]); 3] = [("l.0.conv", &[1]), ("l.1.qkv", &[1]), ("l.2.conv", &[1])];
    let mut config = json!({"layers": 3, "layer_types": ["linear", "full", "linear"]});
    assert_eq!(plan(&tensors, &text, &config).expect("plans").len(), 3);
    config["layer_types"] = json!(["linear", "full"]);
    let list = plan(&tensors, &text, &config).expect_err("one kind is missing");
    assert!(list[0].contains("kinds[2] of a list of 2"), "{list:#?}");
    config["layer_types"] = json!(["linear", "full", "sliding"]);
    let list = plan(&tensors, &text, &config).expect_err("an unknown kind");
    assert!(list[0].starts_with("unsupported: layer_types: expected \"full\" or \"linear\""), "{list:#?}");
}

#[test]
fn inspect_ranks_recipes_and_says_why() {
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("writes");
        path.display().to_string()
    };
    let row = |shape: &str| format!("{{ from = \"l.{{layer}}.w\", shape = {shape}, to = \"l.{{layer}}.w\" }}");
    let recipe = |name: &str, rows_text: &str| {
        let text = rows(rows_text).replace("name = \"t\"", &format!("name = \"{name}\""));
        text + "[indices]\nlayer = { count = 3 }\n"
    };
    let good = file("good.toml", &recipe("good", &row("[2]")));
    let near =
        file("near.toml", &recipe("near", &format!("{},\n{{ from = \"z\", shape = [1], to = \"z\" }}", row("[2]"))));
    let far = file("far.json", &as_json(&recipe("far", &row("[5]"))));
    let other = file("other.toml", &recipe("other", &row("[2]")).replace("[\"t\"]", "[\"u\"]"));
    let broken = file("broken.toml", "schema = ");
    let release = home.path().join("release");
    let tensors: Vec<_> = (0..3).map(|at| stored(format!("l.{at}.w"), vec![2])).collect();
    write_release(&release, &json!({"model_type": "t"}), &tensors);
    let found = inspect_with(&release, None, &[broken, other, far, near, good]).expect("inspects");
    let (others, own): (Vec<_>, Vec<_>) = found.recipes.iter().partition(|verdict| verdict.is_for_another());
    assert_eq!(others.len(), Recipe::builtin_names().len(), "no built-in recipe is for model type t");
    let texts: String = own.iter().map(|verdict| verdict.text(1)).collect();
    let here = format!("{}/", home.path().display());
    assert_eq!(
        texts.replace(&here, "").lines().collect::<Vec<_>>(),
        [
            "recipe good.toml: fits",
            "recipe near.toml: does not fit: 1 violation (1 missing key)",
            "  missing key: z: expected a tensor of shape [1], found nothing (row 2: z)",
            "recipe far.json: does not fit: 3 violations (3 wrong shape)",
            "  wrong shape: l.0.w: expected [5], found [2] (row 1: l.{layer}.w) [and 2 more of l.{n}.w]",
            "recipe other.toml: does not fit: config.json says model_type t, other is for u",
            "recipe broken.toml: does not fit: the recipe itself is wrong: 1 violation (1 recipe)",
            "  recipe: broken.toml: line 1, column 10: expected a recipe in TOML, found string values must be quoted, expected literal string",
        ]
    );
    assert_eq!(own.iter().map(|verdict| verdict.fits).collect::<Vec<_>>(), [true, false, false, false, false]);
    assert!(inspect_with(&release, None, &["nobody".into()]).is_err());
}

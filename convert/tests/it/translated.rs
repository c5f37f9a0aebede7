//! What a recipe may say beyond moving tensors and fields: a number added, config fields in other words.

use half::bf16;
use mlxport_convert::recipe::Recipe;
use mlxport_convert::transforms::{Assembly, Scratch, View};
use mlxport_convert::{ConvertError, Violation};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::memory::Memory;
use crate::support::numbered::{Numbered, rows};

/// How the library's recipes read what transformers 5 writes of rotary positions.
const ROPE: &str = r#"
[config]
drop = ["rope_parameters"]
fields = [
  { path = "rope_theta", also = ["rope_parameters.rope_theta"], kind = "positive", default = 10000.0 },
  { path = "rope_scaling", also = ["rope_parameters"], kind = "object_or_null", without = ["rope_theta"], adds = { type = "rope_type" }, null_where = { rope_type = "default" } },
  { path = "pattern", also = ["layer_types"], kind = "counts", dim = "pattern", words = { sliding_attention = 1, full_attention = 0 } },
]
"#;

fn normalized(config: &Value) -> Result<Value, Vec<String>> {
    let text = rows(r#"{ from = "a", shape = [1], to = "a" }"#) + ROPE;
    let read = Recipe::parse(&text, "r.toml").expect("parses").config.normalize(config);
    if read.violations.is_empty() {
        Ok(read.json)
    } else {
        Err(read.violations.iter().map(ToString::to_string).collect())
    }
}

#[test]
fn rope_parameters_become_what_ports_read_and_stay_so() {
    let types = json!(["full_attention", "sliding_attention"]);
    let new =
        json!({ "rope_parameters": { "rope_theta": 5e5, "rope_type": "yarn", "factor": 4.0 }, "layer_types": types });
    let written = json!({
        "layer_types": types, "rope_theta": 5e5, "rope_scaling": { "rope_type": "yarn", "factor": 4.0, "type": "yarn" },
        "pattern": [0, 1],
    });
    assert_eq!(normalized(&new), Ok(written.clone()));
    assert_eq!(normalized(&written), Ok(written), "a written config reads as itself");
    let plain = json!({ "rope_parameters": { "rope_theta": 7.0, "rope_type": "default" }, "layer_types": types });
    let read = normalized(&plain).expect("fits");
    assert_eq!((&read["rope_theta"], &read["rope_scaling"]), (&json!(7.0), &Value::Null));
    let older = json!({ "rope_theta": 9.0, "rope_scaling": { "type": "linear", "factor": 2.0 }, "layer_types": types });
    assert_eq!(normalized(&older).expect("fits")["rope_scaling"], json!({ "type": "linear", "factor": 2.0 }));
}

#[test]
fn places_that_disagree_in_other_words_are_told() {
    let config = json!({
        "rope_theta": 1.0, "rope_scaling": { "factor": 2.0, "rope_type": "yarn" },
        "rope_parameters": { "rope_theta": 1.0, "factor": 4.0, "rope_type": "yarn" }, "layer_types": ["other"],
    });
    let told = normalized(&config).expect_err("refused");
    assert!(told[0].contains("rope_scaling: expected {") && told[0].contains("as rope_parameters says"), "{told:?}");
    assert!(told[1].contains("pattern: expected a list of integers from 0, found [\"other\"]"), "{told:?}");
}

fn problems(field: &str) -> Vec<String> {
    let text = rows(r#"{ from = "a", shape = [1], to = "a" }"#) + &format!("[config]\nfields = [{{ {field} }}]\n");
    match Recipe::parse(&text, "r") {
        Err(ConvertError::Violations(list)) => list.0.iter().map(ToString::to_string).collect(),
        other => panic!("expected violations, found {other:?}"),
    }
}

#[test]
fn only_objects_have_members_and_translations_are_not_mirrored() {
    for (field, said) in [
        (
            r#"path = "a", kind = "text", without = ["b"]"#,
            "without, adds and null_where only for the kind object_or_null",
        ),
        (r#"path = "a", kind = "object_or_null", words = { b = 1 }"#, "no words for an object"),
        (r#"path = "a", kind = "texts", words = { b = 1 }, mirror = true"#, "no mirror for a field that is translated"),
        (r#"path = "a", kind = "object_or_null", dim = "a""#, "no dim for a field that is no integer"),
    ] {
        let told = problems(field);
        assert!(told.len() == 1 && told[0].contains(said), "{told:?}");
    }
}

#[test]
fn a_number_is_added_in_the_stored_dtype_before_the_cast() {
    // In bfloat16 1 + 2^-9 is 1: a port that adds before it casts to float32 has lost the rest, too.
    let values: Vec<bf16> = [0.001_953_125, -1.0, 0.5, 256.0].map(bf16::from_f32).to_vec();
    let mut memory = Memory::new(&[vec![4]]);
    memory.data.insert("0".into(), values.iter().flat_map(|value| value.to_le_bytes()).collect());
    let assembly = Assembly::of(View::whole("0", Dtype::BF16, &[4])).plus(1);
    let mut out = vec![0; 16];
    assembly.read(&memory, Dtype::F32, 0, &mut out, &mut Scratch::default()).expect("reads");
    let found: Vec<f32> = out.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    assert_eq!(found, [1.0, 0.0, 1.5, 256.0]);
    let mut stored = vec![0; 8];
    assembly.read(&memory, Dtype::BF16, 0, &mut stored, &mut Scratch::default()).expect("reads");
    let wanted: Vec<u8> = found.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
    assert_eq!(stored, wanted);
}

#[test]
fn the_operation_add_takes_a_number_and_no_other_does() {
    let source = Numbered::new(&[("a", &[3])]);
    let text = rows(r#"{ from = "a", shape = [3], op = "add", number = 1, to = "b" }"#);
    let made = source.plan(&text, &json!({})).expect("a plan");
    assert_eq!((made[0].op.as_str(), source.read(&made[0], 2, 8)), ("add", vec![1, 2, 3]));
    for (row, said) in [
        (r#"{ from = "a", shape = [3], op = "add", to = "b" }"#, "row 1: expected number for add, found nothing"),
        (
            r#"{ from = "a", shape = [3], op = "add", number = 0, to = "b" }"#,
            "row 1: expected number for add, found nothing",
        ),
        (r#"{ from = "a", shape = [3], number = 1, to = "b" }"#, "row 1: expected no number for copy, found it"),
        (
            r#"{ from = "a", shape = [3], dtype = ["I64"], op = "add", number = 1, to = "b" }"#,
            "row 1: expected float dtypes for add, found I64",
        ),
    ] {
        let told: Vec<String> =
            source.plan(&rows(row), &json!({})).expect_err("refused").iter().map(Violation::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(said), "{told:?}");
    }
}

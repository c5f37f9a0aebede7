//! The published schemas (`schemas/`) against what this crate writes. That they refuse something is tested, too.

use jsonschema::{Registry, Validator};
use mlxport_verdict::diff::diff;
use serde_json::{Value, json};

use crate::samples;

/// Every schema that others refer to, by the name it is referred to.
pub(crate) const REFERRED: [(&str, &str); 2] = [
    ("record.schema.json", include_str!("../../schemas/record.schema.json")),
    ("ledger.schema.json", include_str!("../../schemas/ledger.schema.json")),
];

pub(crate) fn validator(text: &str) -> Validator {
    let parse = |text: &str| -> Value { serde_json::from_str(text).expect("a schema is JSON") };
    let registry = REFERRED.iter().fold(Registry::new(), |registry, (name, text)| {
        registry.add(format!("json-schema:///{name}"), parse(text)).expect("a schema")
    });
    let registry = registry.prepare().expect("schemas that refer to each other");
    let mut schema = parse(text);
    let id = format!("json-schema:///{}", schema["$id"].as_str().expect("an id"));
    schema["$id"] = id.into();
    jsonschema::options().with_registry(&registry).build(&schema).expect("a sound schema")
}

pub(crate) fn errors(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn records_are_as_published() {
    let validator = validator(REFERRED[0].1);
    let mut all = vec![samples::passing(), samples::failing(), samples::nothing(), samples::compared()];
    all[0].taps[0].metrics.as_mut().expect("measured").rel_rms = f64::NAN;
    for run in &all {
        let record: Value = serde_json::from_str(&crate::json(run)).expect("JSON");
        assert_eq!(errors(&validator, &record), Vec::<String>::new());
    }
    let mut record: Value = serde_json::from_str(&crate::json(&all[1])).expect("JSON");
    record["taps"][0]["ratio"] = "much".into();
    record["surprise"] = json!(1);
    record["taps"][1]["failure"] = json!({ "why": "bad luck" });
    assert_eq!(errors(&validator, &record).len(), 3, "{:?}", errors(&validator, &record));
}

#[test]
fn comparisons_and_ledgers_are_as_published() {
    let validate = |text: &str, value: &str| {
        let value: Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(errors(&validator(text), &value), Vec::<String>::new());
        let mut wrong = value;
        wrong["schema"] = "other".into();
        assert!(!errors(&validator(text), &wrong).is_empty(), "another schema is refused");
    };
    let diff = diff(&samples::passing(), &samples::failing());
    validate(include_str!("../../schemas/diff.schema.json"), &crate::diff_json(&diff));
    let entries: Vec<crate::Entry> = [samples::passing(), samples::failing(), samples::nothing()]
        .iter()
        .map(|run| crate::Entry::of(run, "abc", "2026-01-02T03:04:05Z"))
        .collect();
    for entry in &entries {
        validate(REFERRED[1].1, &entry.line());
    }
    validate(include_str!("../../schemas/ledger-summary.schema.json"), &crate::ledger_object(&entries));
}

//! The rules themselves, each from a document to what is wrong with it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{expressions, inputs, parse, texts, unknown};

/// Contexts that an expression may begin with.
const CONTEXTS: [&str; 9] =
    ["inputs.", "steps.", "github.", "runner.", "matrix.", "env.", "secrets.", "needs.", "hashFiles("];
const STEP_KEYS: [&str; 10] =
    ["name", "id", "if", "uses", "with", "run", "shell", "env", "working-directory", "continue-on-error"];

/// The composite action.
pub(super) fn action(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(top) = document.as_object() {
        found.extend(unknown(
            "action",
            top,
            &["name", "description", "author", "branding", "inputs", "outputs", "runs"],
        ));
    }
    for key in ["name", "description"] {
        if document[key].as_str().is_none_or(str::is_empty) {
            found.push(format!("action: `{key}` is missing"));
        }
    }
    if document["runs"]["using"] != "composite" {
        found.push("action: `runs.using` is not composite".to_owned());
    }
    let steps = document["runs"]["steps"].as_array().map_or(&[][..], Vec::as_slice);
    if steps.is_empty() {
        found.push("action: it has no steps".to_owned());
    }
    found.extend(steps.iter().enumerate().flat_map(|(at, step)| self::step(&place(at, step), step, true)));
    let declared: BTreeSet<String> = inputs(document).into_iter().map(|(name, _)| name).collect();
    for (name, input) in document["inputs"].as_object().into_iter().flatten() {
        if input["description"].as_str().is_none_or(str::is_empty) {
            found.push(format!("input {name}: it has no description"));
        }
        if (input["required"] == true) == input["default"].is_string() {
            found.push(format!("input {name}: it must be required or have a default, not both"));
        }
        let used = format!("inputs.{name}");
        if !texts(document).iter().any(|text| mentions(text, &used)) {
            found.push(format!("input {name}: no one uses it"));
        }
    }
    found.extend(references(document, steps, Some(&declared)));
    found
}

/// A GitHub workflow; `is_own` where `uses: ./` is this repository.
pub(super) fn workflow(root: &Path, document: &Value, is_own: bool) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(top) = document.as_object() {
        let known = ["name", "on", "permissions", "concurrency", "env", "defaults", "jobs"];
        found.extend(unknown("workflow", top, &known));
    }
    for key in ["name", "on", "permissions"] {
        if document[key].is_null() {
            found.push(format!("workflow: `{key}` is missing"));
        }
    }
    let Some(jobs) = document["jobs"].as_object().filter(|jobs| !jobs.is_empty()) else {
        found.push("workflow: it has no jobs".to_owned());
        return found;
    };
    let known = [
        "name",
        "needs",
        "if",
        "strategy",
        "runs-on",
        "container",
        "timeout-minutes",
        "steps",
        "env",
        "permissions",
        "outputs",
    ];
    for (name, job) in jobs {
        found.extend(job.as_object().map(|job| unknown(&format!("job {name}"), job, &known)).unwrap_or_default());
        for key in ["runs-on", "timeout-minutes"] {
            if job[key].is_null() {
                found.push(format!("job {name}: `{key}` is missing"));
            }
        }
        let steps = job["steps"].as_array().map_or(&[][..], Vec::as_slice);
        if steps.is_empty() {
            found.push(format!("job {name}: it has no steps"));
        }
        for (at, step) in steps.iter().enumerate() {
            let place = format!("job {name}, {}", place(at, step));
            found.extend(self::step(&place, step, is_own));
            found.extend(call_of_this_action(root, &place, step, is_own));
        }
        found.extend(references(job, steps, None).into_iter().map(|text| format!("job {name}: {text}")));
    }
    found
}

/// A GitLab pipeline: every job has a known stage and commands.
pub(super) fn gitlab(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let stages: Vec<&str> = document["stages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let jobs = document.as_object().into_iter().flatten().filter(|(name, _)| {
        !["stages", "variables", "default", "workflow", "include"].contains(&name.as_str()) && !name.starts_with('.')
    });
    let known = [
        "stage",
        "image",
        "tags",
        "cache",
        "before_script",
        "script",
        "after_script",
        "artifacts",
        "rules",
        "variables",
        "needs",
        "timeout",
    ];
    let mut count = 0;
    for (name, job) in jobs {
        count += 1;
        found.extend(job.as_object().map(|job| unknown(&format!("job {name}"), job, &known)).unwrap_or_default());
        if !job["stage"].as_str().is_some_and(|stage| stages.contains(&stage)) {
            found.push(format!("job {name}: its stage is none of {stages:?}"));
        }
        for key in ["before_script", "script"] {
            let is_text = |line: &Value| line.is_string();
            if job[key].as_array().is_none_or(|lines| lines.is_empty() || !lines.iter().all(is_text)) {
                found.push(format!("job {name}: `{key}` is no list of commands"));
            }
        }
        // A report that nobody keeps after a failure is no report.
        if job["artifacts"]["when"] != "always" {
            found.push(format!("job {name}: artifacts are not kept after a failure"));
        }
    }
    if count == 0 {
        found.push("pipeline: it has no jobs".to_owned());
    }
    found
}

fn place(at: usize, step: &Value) -> String {
    let name = ["name", "id", "uses", "run"].iter().find_map(|key| step[*key].as_str());
    let name = name.map_or("", |name| name.lines().next().unwrap_or_default());
    format!("step {} ({name})", at + 1)
}

fn step(place: &str, step: &Value, needs_shell: bool) -> Vec<String> {
    let Some(entries) = step.as_object() else { return vec![format!("{place}: is no mapping")] };
    let mut found = unknown(place, entries, &STEP_KEYS);
    match (step["run"].as_str(), step["uses"].as_str()) {
        (Some(run), None) => {
            if needs_shell && step["shell"] != "bash" {
                found.push(format!("{place}: `run` without `shell: bash`"));
            }
            for expression in expressions(run) {
                found.push(format!("{place}: `{expression}` stands in the script; it must come through `env`"));
            }
        }
        (None, Some(uses)) => found.extend(pinned(place, uses)),
        _ => found.push(format!("{place}: it needs `run` or `uses`, not both")),
    }
    found
}

/// An action must be named by the commit it is: tags move. This one, and one of which the example says it is to be filled in, aside.
fn pinned(place: &str, uses: &str) -> Option<String> {
    if uses.starts_with("./") || uses.starts_with("OWNER/mlxport@") {
        return None;
    }
    let is_commit = |id: &str| id.len() == 40 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let pinned = uses.split_once('@').is_some_and(|(_, id)| is_commit(id));
    (!pinned).then(|| format!("{place}: `{uses}` is not pinned to a commit"))
}

/// Where a workflow uses this action: declared inputs only, the required ones all, and paths of this repository that are there.
fn call_of_this_action(root: &Path, place: &str, step: &Value, is_own: bool) -> Vec<String> {
    let uses = step["uses"].as_str().unwrap_or_default();
    if uses != "./" && !uses.starts_with("OWNER/mlxport@") {
        return Vec::new();
    }
    let text = std::fs::read_to_string(root.join("action.yml")).unwrap_or_default();
    let declared = match parse(&text) {
        Ok(action) => inputs(&action),
        Err(error) => return vec![format!("{place}: action.yml: {error}")],
    };
    let given = step["with"].as_object().cloned().unwrap_or_default();
    let mut found: Vec<String> = given
        .keys()
        .filter(|key| !declared.iter().any(|(name, _)| name == *key))
        .map(|key| format!("{place}: action.yml declares no input `{key}`"))
        .collect();
    for (name, _) in declared.iter().filter(|(name, required)| *required && !given.contains_key(name)) {
        found.push(format!("{place}: the input `{name}` is missing"));
    }
    for key in ["release", "fixture", "tolerances"].into_iter().filter(|_| is_own) {
        let path = given.get(key).and_then(Value::as_str).unwrap_or_default();
        if !path.is_empty() && !path.contains("${{") && !root.join(path).exists() {
            found.push(format!("{place}: {key}: {path} is not there"));
        }
    }
    found
}

/// Expressions begin with a known context; `inputs.…` are declared, `steps.…` are steps with that id.
fn references(document: &Value, steps: &[Value], declared: Option<&BTreeSet<String>>) -> Vec<String> {
    let ids: BTreeSet<&str> = steps.iter().filter_map(|step| step["id"].as_str()).collect();
    let conditions = steps.iter().filter_map(|step| step["if"].as_str());
    let all = texts(document).into_iter().flat_map(expressions);
    let mut found = Vec::new();
    for expression in all.chain(conditions) {
        for word in expression.split([' ', '(', ')', ',', '!', '|', '&', '=']).filter(|word| word.contains('.')) {
            if word.starts_with('\'') || word.ends_with('\'') {
                continue;
            }
            if !CONTEXTS.iter().any(|context| word.starts_with(context)) {
                found.push(format!("`{word}` has no known context"));
            }
            let rest = |context: &str| word.strip_prefix(context).map(|rest| rest.split('.').next().unwrap_or(rest));
            let is_declared = |name: &str| declared.is_none_or(|declared| declared.contains(name));
            if rest("inputs.").is_some_and(|name| !is_declared(name)) {
                found.push(format!("`{word}`: there is no such input"));
            }
            if let Some(id) = rest("steps.").filter(|id| !ids.contains(id)) {
                found.push(format!("`{word}`: no step has the id `{id}`"));
            }
        }
    }
    found
}

/// Whether `name` stands in `text` as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, _)| !text[at + name.len()..].starts_with(is_part))
}

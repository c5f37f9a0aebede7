//! Runs `action.yml` as a runner would: its `run` steps in bash, with their `env`, `if` and outputs. The steps that set up are
//! left out; what they would have built is the binary under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What the action left.
pub struct Ran {
    /// The last step's exit code, or that of the first that failed.
    pub code: i32,
    /// The step summary.
    pub summary: String,
    /// Outputs of the step `check`.
    pub outputs: BTreeMap<String, String>,
    /// What all steps wrote to stderr.
    pub stderr: String,
    /// Artifacts that would have been uploaded: name and path.
    pub uploaded: Vec<(String, String)>,
}

/// Runs the action in `workspace` with these inputs.
pub fn run(workspace: &Path, given: &[(&str, &str)]) -> Ran {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml");
    let text = std::fs::read_to_string(path).expect("action.yml");
    let action: Value = serde_saphyr::from_str(&text).expect("YAML");
    let mut runner = Runner::new(workspace, &action, given);
    for step in action["runs"]["steps"].as_array().expect("steps") {
        runner.step(step);
    }
    let summary = std::fs::read_to_string(&runner.summary).unwrap_or_default();
    let outputs = runner.outputs.remove("check").unwrap_or_default();
    Ran { code: runner.code, summary, outputs, stderr: runner.stderr, uploaded: runner.uploaded }
}

struct Runner {
    workspace: PathBuf,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, BTreeMap<String, String>>,
    summary: PathBuf,
    code: i32,
    stderr: String,
    uploaded: Vec<(String, String)>,
}

impl Runner {
    fn new(workspace: &Path, action: &Value, given: &[(&str, &str)]) -> Self {
        let declared = action["inputs"].as_object().expect("inputs");
        let mut inputs: BTreeMap<String, String> = declared
            .iter()
            .filter_map(|(name, input)| Some((name.clone(), input["default"].as_str()?.to_owned())))
            .collect();
        for (name, value) in given {
            assert!(declared.contains_key(*name), "no such input: {name}");
            inputs.insert((*name).to_owned(), (*value).to_owned());
        }
        let binary = assert_cmd::cargo::cargo_bin("mlxport").to_string_lossy().into_owned();
        let setup = BTreeMap::from([("binary".to_owned(), binary), ("outcome".to_owned(), "success".to_owned())]);
        Self {
            workspace: workspace.to_owned(),
            inputs,
            outputs: BTreeMap::from([("setup".to_owned(), setup)]),
            summary: workspace.join("summary.md"),
            code: 0,
            stderr: String::new(),
            uploaded: Vec::new(),
        }
    }

    fn step(&mut self, step: &Value) {
        let condition = step["if"].as_str().unwrap_or("success()");
        if step["id"] == "setup" || !self.holds(condition) {
            return;
        }
        if let Some(uses) = step["uses"].as_str() {
            if uses.starts_with("actions/upload-artifact@") {
                let value = |key: &str| self.filled(step["with"][key].as_str().expect("given"));
                self.uploaded.push((value("name"), value("path")));
            }
            return;
        }
        let out = self.workspace.join("github-output");
        std::fs::write(&out, "").expect("written");
        let mut bash = Command::new("bash");
        // As GitHub does for `shell: bash`.
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().expect("a script")]);
        bash.current_dir(&self.workspace).env("GITHUB_OUTPUT", &out).env("GITHUB_STEP_SUMMARY", &self.summary);
        bash.env("GITHUB_SHA", "0123456789abcdef");
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            bash.env(name, self.filled(value.as_str().expect("a text")));
        }
        let output = bash.output().expect("bash starts");
        self.stderr.push_str(&String::from_utf8_lossy(&output.stderr));
        if self.code == 0 {
            self.code = output.status.code().expect("ended by itself");
        }
        if let Some(id) = step["id"].as_str() {
            let lines = std::fs::read_to_string(&out).expect("outputs");
            let pairs = lines.lines().filter_map(|line| line.split_once('='));
            self.outputs.insert(id.to_owned(), pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        }
    }

    /// A text with its expressions filled in.
    fn filled(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (expression, rest) = part.split_once("}}").expect("an expression's end");
            filled.push_str(&self.value(expression.trim()));
            filled.push_str(rest);
        }
        filled
    }

    fn value(&self, expression: &str) -> String {
        if let Some(name) = expression.strip_prefix("inputs.") {
            return self.inputs[name].clone();
        }
        let parts: Vec<&str> = expression.split('.').collect();
        let of = |id: &str, key: &str| self.outputs.get(id).and_then(|all| all.get(key)).cloned().unwrap_or_default();
        match parts[..] {
            ["steps", id, "outputs", key] => of(id, key),
            ["steps", id, "outcome"] => of(id, "outcome"),
            _ => panic!("an expression that no test knows: {expression}"),
        }
    }

    /// Conditions are terms joined by `&&`; without `always()` no step runs after one that failed.
    fn holds(&self, condition: &str) -> bool {
        let terms: Vec<&str> = condition.split("&&").map(str::trim).collect();
        let term = |term: &str| match term {
            "always()" => true,
            "success()" => self.code == 0,
            _ => {
                let (left, operator, right) = term
                    .split_once(" != ")
                    .map(|(l, r)| (l, false, r))
                    .or_else(|| term.split_once(" == ").map(|(l, r)| (l, true, r)))
                    .unwrap_or_else(|| panic!("a condition that no test knows: {term}"));
                (self.value(left) == right.trim_matches('\'')) == operator
            }
        };
        (terms.contains(&"always()") || self.code == 0) && terms.into_iter().all(term)
    }
}

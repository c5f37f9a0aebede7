//! What an audit says: one verdict per tensor, findings, and the verdict of the whole.

use std::collections::BTreeMap;

use serde::Serialize;

/// The schema of the JSON object.
pub const SCHEMA: &str = "mlxport.audit/1";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the model computes what the release computes, or as near as the method allows.
    Note,
    /// Worse than it should be, or a claim that is not true; the model still works as the release does.
    Minor,
    /// The files are not the release's.
    Fault,
}

/// One mistake, wherever it was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What kind, in kebab case: `swapped`, `shifted`, `stale`, `config`, …
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub detail: String,
    /// How many tensors or config fields it is about.
    pub count: usize,
    /// The MLX side's keys (of a config finding, the fields; of a missing tensor, the release's key).
    pub keys: Vec<String>,
    /// The release's keys they should come from, or come from.
    pub sources: Vec<String>,
    /// What makes two findings one mistake; not written.
    #[serde(skip)]
    pub group: String,
}

impl Finding {
    /// A finding about no tensor yet.
    pub fn new(kind: &str, severity: Severity, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: kind.to_owned(),
            severity,
            group: detail.clone(),
            detail,
            count: 1,
            keys: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// The same about these keys.
    #[must_use]
    pub fn at(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// The same with the release's keys.
    #[must_use]
    pub fn from(mut self, sources: impl IntoIterator<Item = String>) -> Self {
        self.sources.extend(sources);
        self
    }

    /// The same, one with all that have this group.
    #[must_use]
    pub fn grouped(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }
}

/// What one MLX tensor (or packed module) is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorVerdict {
    /// Its name: the key, or the module of a packed weight.
    pub name: String,
    /// `exact`, `cast`, `moved`, `stacked`, `split`, `joined`, `tied`, `quantized`, `computed`, or the kind of its finding.
    pub verdict: String,
    /// The release's keys.
    pub sources: Vec<String>,
}

/// A release's tensor that no MLX tensor is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DroppedTensor {
    /// Its key.
    pub key: String,
    /// Why that is no fault, or that it is one.
    pub reason: String,
}

/// An audit's whole result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `pass` or `fail`.
    pub verdict: &'static str,
    /// The MLX directory as it was named.
    pub mlx: String,
    /// The release as it was named.
    pub release: String,
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
    /// How many tensors have which verdict, `total` among them.
    pub tensors: BTreeMap<String, usize>,
    /// Every MLX tensor.
    pub matches: Vec<TensorVerdict>,
    /// Every tensor of the release that was left out.
    pub dropped: Vec<DroppedTensor>,
    /// What the quantization is, for people: `affine, 4 bits, groups of 64`.
    pub quantization: Vec<String>,
    /// Bytes of weights on both sides together.
    pub byte_len: u64,
    /// What could not be judged, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// The worst finding there is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Findings of one kind and group become one, worst first.
pub fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |other: &&mut Finding| {
            other.kind == finding.kind && other.group == finding.group && other.severity == finding.severity
        };
        match all.iter_mut().find(same) {
            Some(first) => {
                first.count += finding.count;
                first.keys.extend(finding.keys);
                first.sources.extend(finding.sources);
            }
            None => all.push(finding),
        }
    }
    for finding in &mut all {
        finding.keys.sort();
        finding.keys.dedup();
        finding.sources.sort();
        finding.sources.dedup();
    }
    all.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.count.cmp(&a.count)).then(a.kind.cmp(&b.kind)));
    all
}

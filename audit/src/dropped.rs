//! The release's tensors that no MLX tensor is made of: which may be left out, and which are missing.

use std::collections::BTreeSet;

use globset::GlobSet;
use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, Scratch};
use safetensors::Dtype;
use serde_json::Value;

use crate::expect::Release;
use crate::judge::Judged;
use crate::names;
use crate::report::{DroppedTensor, Finding, Severity};
use crate::target::Target;
use crate::verify::{Pair, windows};

/// Words of the parts of a model that a text-only port leaves out whole.
const TOWERS: &[&str] = &[
    "vision",
    "visual",
    "audio",
    "multi_modal",
    "mm_projector",
    "image_newline",
    "connector",
    "embed_vision",
    "speech",
];

/// What is known when the left-out tensors are judged.
#[derive(Debug)]
pub struct Left<'a> {
    /// The release.
    pub release: &'a Release<'a>,
    /// The MLX side's config.
    pub mlx_config: &'a Value,
    /// The MLX side's tensors.
    pub targets: &'a [Target],
    /// What they are.
    pub judged: &'a [Judged],
    /// What a person allows to be missing.
    pub may_drop: &'a GlobSet,
}

impl Left<'_> {
    /// Every tensor that was left out with the reason, and findings about those that may not be.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn judge(
        &self,
        pair: &Pair<'_>,
        known: &[Finding],
    ) -> Result<(Vec<DroppedTensor>, Vec<Finding>), ConvertError> {
        let tensors = self.release.checkpoint.tensors();
        let mut claimed: BTreeSet<&str> =
            self.judged.iter().flat_map(|judged| &judged.sources).map(String::as_str).collect();
        let broken: Vec<&Finding> = known
            .iter()
            .filter(|finding| finding.kind.starts_with("quantization-shape") || finding.kind == "missing")
            .collect();
        for key in broken.iter().flat_map(|finding| &finding.keys) {
            let weight = format!("{}.weight", names::module(key));
            claimed.extend(self.release.lookup.find(&weight));
        }
        let towers_kept = claimed.iter().any(|key| is_tower(key));
        let (mut dropped, mut findings) = (Vec::new(), Vec::new());
        for key in tensors.keys().filter(|key| !claimed.contains(key.as_str())) {
            let (reason, finding) = self.one(pair, key, towers_kept)?;
            dropped.push(DroppedTensor { key: key.clone(), reason });
            findings.extend(finding.map(|finding| finding.at([key.clone()]).from([key.clone()])));
        }
        findings.extend(self.missing_head(&claimed));
        Ok((dropped, findings))
    }

    fn one(&self, pair: &Pair<'_>, key: &str, towers_kept: bool) -> Result<(String, Option<Finding>), ConvertError> {
        let fine = |reason: &str| Ok((reason.to_owned(), None));
        if self.may_drop.is_match(key) {
            return fine("allowed by --may-drop");
        }
        if let Some(reason) = self.release.plan.and_then(|plan| plan.dropped.get(key)) {
            return fine(reason);
        }
        if names::is_buffer(key) {
            return fine("a buffer that is computed, not a weight");
        }
        if names::is_multi_token(key) || self.beyond_layers(key) {
            return fine("layers for predicting several tokens, which ports leave out");
        }
        if ["weight_scale_inv", "_scales", "_blocks", "weight_scale", "input_scale"]
            .iter()
            .any(|end| key.ends_with(end))
        {
            return fine("part of the release's own packing");
        }
        if names::is_head(key) && self.ties() {
            if self.head_is_embedding(pair, key)? {
                return fine("tied: the same values as the embedding");
            }
            let detail = "the head is left out as if it were the embedding, and in the release the two differ";
            return Ok(("missing".to_owned(), Some(Finding::new("head-lost", Severity::Fault, detail))));
        }
        if is_tower(key) && !towers_kept {
            let detail =
                "a whole part of the model is left out (vision, audio, projector): the conversion is text only";
            return Ok((
                "a part that a text-only port leaves out".to_owned(),
                Some(Finding::new("part-left-out", Severity::Minor, detail)),
            ));
        }
        let detail = "a tensor of the release is missing";
        let finding = Finding::new("missing", Severity::Fault, detail).grouped(short(key));
        Ok(("missing".to_owned(), Some(finding)))
    }

    /// Whether the config says that head and embedding are one.
    fn ties(&self) -> bool {
        let at = |config: &Value| {
            let inside = config.pointer("/text_config/tie_word_embeddings");
            config.get("tie_word_embeddings").or(inside).and_then(Value::as_bool)
        };
        at(self.mlx_config).or_else(|| at(self.release.config)).unwrap_or(true)
    }

    fn beyond_layers(&self, key: &str) -> bool {
        let layers = self
            .release
            .config
            .get("num_hidden_layers")
            .or_else(|| self.release.config.pointer("/text_config/num_hidden_layers"));
        let Some(layers) = layers.and_then(Value::as_u64) else { return false };
        let parts: Vec<&str> = key.split('.').collect();
        let number = parts
            .windows(2)
            .find(|two| two[0] == "layers" && names::is_number(two[1]))
            .and_then(|two| two[1].parse::<u64>().ok());
        let next = self.release.config.get("num_nextn_predict_layers").and_then(Value::as_u64).unwrap_or(0);
        number.is_some_and(|number| number >= layers && number < layers + next.max(1)) && !is_tower(key)
    }

    fn head_is_embedding(&self, pair: &Pair<'_>, head: &str) -> Result<bool, ConvertError> {
        let embedding = self.release.checkpoint.tensors().keys().find(|key| names::is_embedding(key));
        let (Some(head), Some(embedding)) =
            (self.release.whole(head), embedding.and_then(|key| self.release.whole(key)))
        else {
            return Ok(false);
        };
        if head.len() != embedding.len() {
            return Ok(false);
        }
        let (head, embedding, mut scratch) = (Assembly::of(head), Assembly::of(embedding), Scratch::default());
        for (at, count) in windows(head.len(), pair.window) {
            let (mut one, mut other) = (vec![0; count as usize * 4], vec![0; count as usize * 4]);
            head.read(pair.release, Dtype::F32, at, &mut one, &mut scratch)?;
            embedding.read(pair.release, Dtype::F32, at, &mut other, &mut scratch)?;
            if one != other {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The config says that the head is a tensor of its own, and neither side ties, and none is there.
    fn missing_head(&self, claimed: &BTreeSet<&str>) -> Option<Finding> {
        let said = self.mlx_config.get("tie_word_embeddings").and_then(Value::as_bool);
        let has = self.targets.iter().any(|target| names::is_head(&target.name));
        let released = self.release.checkpoint.tensors().keys().any(|key| names::is_head(key));
        let embedding = claimed.iter().any(|key| names::is_embedding(key));
        (said == Some(false) && !has && !released && embedding).then(|| {
            let detail = "config.json says that the head is not tied to the embedding, and there is no head";
            Finding::new("missing", Severity::Fault, detail).at(["lm_head.weight".to_owned()])
        })
    }
}

pub(crate) fn is_tower(key: &str) -> bool {
    TOWERS.iter().any(|word| key.contains(word))
}

/// What a missing tensor has in common with others.
fn short(key: &str) -> String {
    let pattern = names::pattern(key);
    let parts: Vec<&str> = pattern.split('.').filter(|part| *part != "*").collect();
    parts[parts.len().saturating_sub(3)..].join(".")
}

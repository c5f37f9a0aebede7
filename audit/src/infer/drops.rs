//! Rows for what the MLX side does not have: tied heads, buffers, layers and parts of the model that a port leaves out.

use std::collections::{BTreeMap, BTreeSet};

use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, Scratch};

use super::example::{Example, is_head};
use super::table::{Table, only_prefix, quote};
use super::way::whole;
use crate::dropped::is_tower;
use crate::names;
use crate::verify::windows;

impl Table<'_> {
    /// Adds the rows for everything that is left out.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn drop_rows(&mut self, examples: &[Example]) -> Result<(), ConvertError> {
        let left: BTreeSet<&String> = examples.iter().flat_map(|example| &example.left).collect();
        let kept: BTreeSet<&String> =
            examples.iter().flat_map(|example| &example.instances).flat_map(|instance| &instance.sources).collect();
        let mut by_form: BTreeMap<String, Vec<&String>> = BTreeMap::new();
        for key in left {
            if is_head(key)
                && let Some(twin) = twin(examples, key)?
            {
                self.tied(key, &twin);
                continue;
            }
            by_form.entry(form(key, &kept)).or_default().push(key);
        }
        for (form, keys) in by_form {
            let reason = reason(keys[0]);
            let (from, more) = self.named(&form, &keys);
            let unsure = reason == UNKNOWN;
            let mut notes: Vec<String> = more.into_iter().collect();
            if unsure {
                notes.push(
                    "the MLX example has nothing of these values; whether they may be left out, a person has to say"
                        .to_owned(),
                );
            }
            self.rows.push((
                notes,
                format!("from = {}, optional = true, op = \"drop\", reason = {}", quote(&from), quote(reason)),
            ));
        }
        Ok(())
    }

    fn tied(&mut self, key: &str, twin: &str) {
        let Some(shape) = self.shape_of(key) else { return };
        let reason = "tied: the same values as the embedding";
        self.rows.push((
            Vec::new(),
            format!(
                "from = {}, shape = {shape}, optional = true, op = \"drop\", same_as = {}, reason = {}",
                quote(key),
                quote(twin),
                quote(reason)
            ),
        ));
    }

    /// The key of a row: with an index where its numbers are one of the table's.
    fn named(&self, form: &str, keys: &[&String]) -> (String, Option<String>) {
        if names::pattern(keys[0]) != form {
            let numbered = form.split('.').any(names::is_number);
            return (form.to_owned(), numbered.then(|| "the number is this example's".to_owned()));
        }
        let index = only_prefix(keys[0]).and_then(|prefix| self.whole_index(&prefix));
        match index {
            Some(index) => {
                let parts: Vec<String> = keys[0]
                    .split('.')
                    .map(|part| if names::is_number(part) { format!("{{{}}}", index.name) } else { part.to_owned() })
                    .collect();
                (parts.join("."), None)
            }
            None => (keys[0].clone(), (keys.len() > 1).then(|| format!("and {} more alike", keys.len() - 1))),
        }
    }
}

const UNKNOWN: &str = "the port does not have it";

/// Why a tensor may be left out, as its name says.
fn reason(key: &str) -> &'static str {
    if names::is_buffer(key) {
        "a buffer that the port computes"
    } else if names::is_multi_token(key) {
        "layers that predict several tokens at once, which the port leaves out"
    } else if is_tower(key) {
        "a part of the model that the port does not have"
    } else {
        UNKNOWN
    }
}

/// What a tensor is left out by: the beginning of its key where nothing under that is kept, else its key with stars for numbers that run.
fn form(key: &str, kept: &BTreeSet<&String>) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    for end in 1..parts.len() {
        let prefix = format!("{}.", parts[..end].join("."));
        let mine = kept.iter().any(|other| other.starts_with(&prefix));
        if !mine && parts.len() - end >= 2 {
            return format!("{prefix}*");
        }
    }
    names::pattern(key)
}

/// The embedding that has the head's values, element by element, in every example that has both.
fn twin(examples: &[Example], head: &str) -> Result<Option<String>, ConvertError> {
    let mut found: Option<String> = None;
    for example in examples {
        let tensors = example.release.tensors();
        let Some(info) = tensors.get(head) else { continue };
        let mut own = None;
        for (key, other) in tensors.iter().filter(|(key, _)| names::is_embedding(key)) {
            if other.shape == info.shape && other.dtype == info.dtype && same(example, head, key)? {
                own = Some(key.clone());
            }
        }
        match (&own, &found) {
            (None, _) => return Ok(None),
            (Some(own), Some(known)) if own != known => return Ok(None),
            _ => found = own,
        }
    }
    Ok(found)
}

fn same(example: &Example, one: &str, other: &str) -> Result<bool, ConvertError> {
    let (one, other): (Assembly, Assembly) = (whole(&example.release, one), whole(&example.release, other));
    let dtype = one.views[0].dtype;
    let mut scratch = Scratch::default();
    for (at, count) in windows(one.len(), 1 << 16) {
        let len = count as usize * dtype.bitsize() / 8;
        let (mut a, mut b) = (vec![0; len], vec![0; len]);
        one.read(&example.release, dtype, at, &mut a, &mut scratch)?;
        other.read(&example.release, dtype, at, &mut b, &mut scratch)?;
        if a != b {
            return Ok(false);
        }
    }
    Ok(true)
}

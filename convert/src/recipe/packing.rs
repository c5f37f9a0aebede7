//! Which modules `--quantize` packs: the `[quantize]` table of a recipe, a person's own rules, and the usual mixed presets.
//!
//! Rules are read in order and the first that matches a module decides; a person's rules stand before the recipe's. Modules are named as in
//! the converted model, without `.weight`; `*` is one part of a name, `**` any number of them.

use std::collections::BTreeSet;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::error::{ConvertError, Violation, ViolationKind, Violations};
use crate::files::read_bounded;
use crate::quantize::{Mode, Quantization};

use super::table::{RawPacking, RawRule};

/// The longest rules file, in bytes.
const MAX_BYTE_LEN: u64 = 1 << 20;
/// The schema of a rules file that this build reads.
const SCHEMA: u32 = 1;
/// The layout that mlx-lm reads, whose converter leaves the embeddings at the lower bits.
const MLX_LM: &str = "mlx-lm";
/// Usual mixtures: (name, bits of most modules, bits of those that matter most), as MLX's converters know them.
const MIXED: &[(&str, u32, u32)] = &[
    ("mixed_2_6", 2, 6),
    ("mixed_3_4", 3, 4),
    ("mixed_3_5", 3, 5),
    ("mixed_3_6", 3, 6),
    ("mixed_3_8", 3, 8),
    ("mixed_4_6", 4, 6),
    ("mixed_4_8", 4, 8),
];

/// A rules file of a person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    schema: u32,
    rules: Vec<RawRule>,
}

/// The recipe's own part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Packing {
    can: Modules,
    rules: Vec<Rule>,
    /// Modules by name, in the place of `can` and `rules`: all of them are packed.
    listed: BTreeSet<String>,
}

/// A checked rule.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    modules: Modules,
    effect: Effect,
}

/// A set of modules.
#[derive(Debug, Clone, Default)]
struct Modules {
    /// Its patterns as written, for messages.
    text: String,
    set: GlobSet,
}

impl PartialEq for Modules {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Effect {
    Keep(String),
    Pack { mode: Option<Mode>, bits: Option<u32>, group_size: Option<u32> },
}

/// What a person asked for: `--quantize`, `--bits`, `--group-size`, `--quantize-rules`.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What a module is packed with unless a rule says otherwise.
    pub base: Quantization,
    own: Own,
}

#[derive(Debug, Clone)]
enum Own {
    None,
    Rules(Vec<Rule>),
    /// `base` for most, this many bits for the ones that matter most.
    Mixed(u32),
}

/// What becomes of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is, and why.
    Keep(String),
    /// It is packed so.
    Pack(Quantization),
}

impl Packing {
    /// Checks a recipe's table; complaints go to `complain` with their place.
    pub(super) fn check(raw: &RawPacking, mut complain: impl FnMut(&str, &str, String)) -> Self {
        let can = globs(raw.can.iter().map(String::as_str)).unwrap_or_else(|problem| {
            complain("quantize.can", "module patterns", problem);
            Modules::default()
        });
        let (rules, problems) = check_rules(&raw.rules);
        for (number, problem) in problems {
            complain(&format!("quantize rule {number}"), "a rule", problem);
        }
        Self { can, rules, listed: BTreeSet::new() }
    }

    /// Packs these modules and no other, where no recipe says which.
    pub fn of_modules(listed: BTreeSet<String>) -> Self {
        Self { listed, ..Self::default() }
    }

    /// What becomes of `module` in a layout, the `layer`-th of `layers` (where its name has a layer number).
    ///
    /// # Errors
    /// Why what a rule asks for cannot be.
    pub fn decide(
        &self,
        module: &str,
        layout: &str,
        layer: Option<(u64, u64)>,
        wish: &Wish,
    ) -> Result<Decision, String> {
        let mixed = |to| wish.mixed(module, layout, layer, to).map(Decision::Pack);
        let path = module.replace('.', "/");
        let able = self.can.set.is_match(&path) || self.listed.contains(module);
        if let Own::Rules(rules) = &wish.own
            && let Some(rule) = rules.iter().find(|rule| rule.modules.set.is_match(&path))
        {
            let decision = rule.apply(wish)?;
            return match decision {
                Decision::Pack(_) if !able => {
                    Err(format!("rule {} packs it, but no layer of MLX holds it packed", rule.modules.text))
                }
                decision => Ok(decision),
            };
        }
        let own = self.rules.iter().find(|rule| rule.modules.set.is_match(&path));
        match own.map(|rule| rule.apply(wish)).transpose()? {
            Some(Decision::Pack(to)) if able => mixed(to),
            Some(Decision::Keep(reason)) => Ok(Decision::Keep(reason)),
            None if self.listed.contains(module) => mixed(wish.base),
            _ => Ok(Decision::Keep("not listed in the recipe's [quantize]".to_owned())),
        }
    }

    /// Whether the recipe says anything about quantization.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.listed.is_empty()
    }
}

impl Wish {
    /// What was asked for; `rules` is a preset's name or a file in TOML or JSON.
    ///
    /// # Errors
    /// [`ConvertError::Violations`] with everything wrong in the settings or the file; [`ConvertError::Io`] when it cannot be read.
    pub fn new(
        mode: Mode,
        bits: Option<u32>,
        group_size: Option<u32>,
        rules: Option<&str>,
    ) -> Result<Self, ConvertError> {
        let mixed = MIXED.iter().find(|(name, ..)| Some(*name) == rules);
        let wrong = |place: &str, problem: String| {
            let violation = Violation::new(ViolationKind::Unsupported, place, "a quantization MLX has", problem);
            ConvertError::Violations(Violations(vec![violation]))
        };
        let Some((name, low, high)) = mixed else {
            let base = Quantization::new(mode, bits, group_size).map_err(|problem| wrong("--quantize", problem))?;
            let own = rules.map_or(Ok(Own::None), |file| read_rules(file).map(Own::Rules))?;
            return Ok(Self { base, own });
        };
        if mode != Mode::Affine || bits.is_some() {
            let found = format!("{mode} with {}", bits.map_or("no --bits".into(), |bits| format!("--bits {bits}")));
            return Err(wrong("--quantize-rules", format!("{name} is affine and says the bits itself, found {found}")));
        }
        let base = Quantization::new(mode, Some(*low), group_size).map_err(|problem| wrong("--quantize", problem))?;
        Ok(Self { base, own: Own::Mixed(*high) })
    }

    /// The presets' names.
    pub fn presets() -> Vec<&'static str> {
        MIXED.iter().map(|(name, ..)| *name).collect()
    }

    /// Under a mixed preset the value projections and down projections of the first and last eighth of the layers and of every third
    /// one between, and the output head get the higher bits (the choice of mlx-lm's and mlx-vlm's mixed predicates, after llama.cpp's
    /// Q4_K_M); the embeddings, too, but not in mlx-lm's layout.
    fn mixed(
        &self,
        module: &str,
        layout: &str,
        layer: Option<(u64, u64)>,
        to: Quantization,
    ) -> Result<Quantization, String> {
        let Own::Mixed(high) = self.own else {
            return Ok(to);
        };
        let (at, layers) = layer.unwrap_or((0, 0));
        let eighth = layers / 8;
        let sensitive = at < eighth || at >= 7 * layers / 8 || (at - eighth) % 3 == 2;
        let has = |names: &[&str]| names.iter().any(|name| module.contains(name));
        let widest = has(&["lm_head"]) || layout != MLX_LM && has(&["embed_tokens"]);
        if widest || sensitive && has(&["v_proj", "v_a_proj", "v_b_proj", "down_proj"]) {
            return Quantization::new(to.mode(), Some(high), Some(to.group_size()));
        }
        Ok(to)
    }
}

impl Rule {
    fn apply(&self, wish: &Wish) -> Result<Decision, String> {
        match &self.effect {
            Effect::Keep(reason) => Ok(Decision::Keep(reason.clone())),
            Effect::Pack { mode: None, bits: None, group_size: None } => Ok(Decision::Pack(wish.base)),
            Effect::Pack { mode, bits, group_size } => {
                // Another mode starts from its own defaults, the same mode from what was asked for.
                let same = mode.is_none_or(|mode| mode == wish.base.mode());
                let or_base = |own: &Option<u32>, base: u32| own.or(same.then_some(base));
                let (bits, group_size) = (or_base(bits, wish.base.bits()), or_base(group_size, wish.base.group_size()));
                Quantization::new(mode.unwrap_or(wish.base.mode()), bits, group_size)
                    .map(Decision::Pack)
                    .map_err(|problem| format!("rule {}: {problem}", self.modules.text))
            }
        }
    }
}

/// The rules of a person's file, or all that is wrong with it.
fn read_rules(name: &str) -> Result<Vec<Rule>, ConvertError> {
    let path = Path::new(name);
    let wrong =
        |place: String, expected: &str, found: String| Violation::new(ViolationKind::Recipe, place, expected, found);
    let fail = |violations| Err(ConvertError::Violations(Violations(violations)));
    if !path.exists() {
        let expected = format!("a rules file or one of {}", Wish::presets().join(", "));
        return fail(vec![wrong(name.to_owned(), &expected, "neither".into())]);
    }
    let bytes = read_bounded(path, MAX_BYTE_LEN).map_err(ConvertError::io("read rules", path))?;
    let text = String::from_utf8_lossy(&bytes);
    let is_json = text.trim_start().starts_with('{');
    let parsed: Result<RawFile, String> = if is_json {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    let raw = match parsed {
        Ok(raw) => raw,
        Err(problem) => return fail(vec![wrong(name.to_owned(), "quantization rules in TOML or JSON", problem)]),
    };
    if raw.schema != SCHEMA {
        return fail(vec![wrong(format!("{name}: schema"), &SCHEMA.to_string(), raw.schema.to_string())]);
    }
    let (rules, problems) = check_rules(&raw.rules);
    if problems.is_empty() {
        return Ok(rules);
    }
    let list = problems.into_iter();
    fail(list.map(|(number, problem)| wrong(format!("{name}: rule {number}"), "a rule", problem)).collect())
}

/// Checked rules, and what is wrong with the others by number (from 1).
fn check_rules(raw: &[RawRule]) -> (Vec<Rule>, Vec<(usize, String)>) {
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (at, raw) in raw.iter().enumerate() {
        match check_rule(raw) {
            Ok(rule) => rules.push(rule),
            Err(problem) => problems.push((at + 1, problem)),
        }
    }
    (rules, problems)
}

fn check_rule(raw: &RawRule) -> Result<Rule, String> {
    let patterns = raw.matches.list();
    let modules = globs(patterns.into_iter())?;
    let text = &modules.text;
    let mode = raw.mode.as_deref().map(str::parse::<Mode>).transpose()?;
    let packs = mode.is_some() || raw.bits.is_some() || raw.group_size.is_some();
    let effect = match &raw.keep {
        Some(_) if packs => return Err(format!("{text}: both keep and how to pack")),
        Some(reason) if reason.trim().is_empty() => return Err(format!("{text}: keep without a reason")),
        Some(reason) => Effect::Keep(reason.clone()),
        None => Effect::Pack { mode, bits: raw.bits, group_size: raw.group_size },
    };
    Ok(Rule { modules, effect })
}

/// Module patterns as one set; parts of a name stand where a path has folders.
fn globs<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<Modules, String> {
    let (mut set, mut texts) = (GlobSetBuilder::new(), Vec::new());
    for pattern in patterns {
        let glob = GlobBuilder::new(&pattern.replace('.', "/")).literal_separator(true).build();
        set.add(glob.map_err(|error| format!("{pattern:?}: {error}"))?);
        texts.push(pattern);
    }
    Ok(Modules { text: texts.join(", "), set: set.build().map_err(|error| error.to_string())? })
}

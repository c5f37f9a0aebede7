//! Targets whose names say nothing that holds: their values are looked up in the release.
//!
//! ```text
//! wholes    fingerprints that do not depend on the order of elements find the source, then every order of axes is tried
//! traced    rows looked up by their hashes give strides, stacks and joins          (`trace`)
//! siblings  a bias lies as the weight beside it does
//! constants all one number: the likeliest name among the tensors that nothing is made of yet
//! ```
//!
//! Nothing is taken before it is verified element by element.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, Axis, Scratch, View};
use safetensors::Dtype;

use super::layout::Layout;
use super::trace::Trace;
use super::way::{Way, holds, is_constant, score, whole};
use crate::axes::permutations;
use crate::target::{Format, Target};
use crate::verify::{Pair, convertible, windows};

/// Elements of a tensor in any order, as one number: a sum of mixed bits.
type Fingerprint = (u64, u128);

/// The search.
pub struct Content<'a> {
    pub(super) pair: &'a Pair<'a>,
    pub(super) targets: &'a [Target],
    ways: &'a mut [Option<Way>],
}

impl<'a> Content<'a> {
    /// A search for those targets that have no way yet.
    pub fn new(pair: &'a Pair<'a>, targets: &'a [Target], ways: &'a mut [Option<Way>]) -> Self {
        Self { pair, targets, ways }
    }

    /// Fills in the ways that are found.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn search(mut self) -> Result<(), ConvertError> {
        if self.lost().is_empty() {
            return Ok(());
        }
        self.siblings()?;
        self.wholes()?;
        self.siblings()?;
        // First among what nothing is made of yet: that is where most come from, and it is the smaller part.
        for all in [false, true] {
            let keys = if all { self.pair.release.tensors().keys().cloned().collect() } else { self.free() };
            let lost = self.lost();
            if !lost.is_empty() {
                let found = Trace::new(self.pair, self.targets, &lost, &keys)?.ways()?;
                self.take(found);
            }
            self.siblings()?;
        }
        self.constants()
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.targets.len()).filter(|&at| self.ways[at].is_none()).collect()
    }

    /// The release's keys that nothing is made of yet.
    fn free(&self) -> Vec<String> {
        let used: BTreeSet<&String> = self.ways.iter().flatten().flat_map(Way::keys).collect();
        self.pair.release.tensors().keys().filter(|key| !used.contains(key)).cloned().collect()
    }

    fn take(&mut self, found: Vec<(usize, Way)>) {
        for (at, way) in found {
            self.ways[at] = Some(way);
        }
    }

    /// Whole tensors under other names, their axes in any order.
    fn wholes(&mut self) -> Result<(), ConvertError> {
        let mut prints: HashMap<(String, Fingerprint), Vec<String>> = HashMap::new();
        let lost = self.lost();
        let plain = |at: &usize| match self.targets[*at].format {
            Format::Plain(dtype) => Some((self.targets[*at].len(), dtype)),
            Format::Packed { .. } => None,
        };
        let kinds: BTreeSet<(u64, String)> = lost.iter().filter_map(plain).map(|(n, d)| (n, d.to_string())).collect();
        let dtypes: BTreeMap<String, Dtype> = lost.iter().filter_map(plain).map(|(_, d)| (d.to_string(), d)).collect();
        for key in self.free() {
            let info = &self.pair.release.tensors()[&key];
            let count: u64 = info.shape.iter().product();
            for (_, name) in kinds.iter().filter(|(wanted, _)| *wanted == count) {
                let dtype = dtypes[name];
                let assembly = whole(self.pair.release, &key);
                if let Some(print) = self.print(self.pair.release, &assembly, dtype)? {
                    prints.entry((name.clone(), print)).or_default().push(key.clone());
                }
            }
        }
        let mut found = Vec::new();
        for at in lost {
            let target = &self.targets[at];
            let Format::Plain(dtype) = target.format else { continue };
            if is_constant(self.pair, target)? {
                continue;
            }
            let own = Assembly::of(View::whole(&target.name, dtype, &target.shape));
            let Some(print) = self.print(self.pair.mlx, &own, dtype)? else { continue };
            let mut keys: Vec<String> = prints.get(&(dtype.to_string(), print)).cloned().unwrap_or_default();
            keys.sort_by_key(|key| std::cmp::Reverse(score(&target.name, key)));
            for key in keys {
                if let Some(way) = self.turned(target, &key)? {
                    found.push((at, way));
                    break;
                }
            }
        }
        self.take(found);
        Ok(())
    }

    /// The order of axes in which a tensor is the target.
    fn turned(&self, target: &Target, key: &str) -> Result<Option<Way>, ConvertError> {
        let view = whole(self.pair.release, key).views.remove(0);
        let mut orders = Vec::new();
        let mut order: Vec<usize> = (0..view.axes.len()).collect();
        if order.len() <= 5 {
            permutations(&mut order, 0, &mut |order| orders.push(order.to_vec()));
        }
        for order in orders {
            let turned = view.clone().permuted(&order);
            let Some(layout) = Layout::of(&turned, &target.shape) else { continue };
            if self.holds(target, &layout, key)? {
                return Ok(Some(Way::One { key: key.to_owned(), layout, plus: 0 }));
            }
        }
        Ok(None)
    }

    /// Whether a layout holds for the whole target.
    pub(super) fn holds(&self, target: &Target, layout: &Layout, key: &str) -> Result<bool, ConvertError> {
        holds(self.pair, target, layout, key)
    }

    fn print(
        &self,
        source: &dyn TensorSource,
        assembly: &Assembly,
        dtype: Dtype,
    ) -> Result<Option<Fingerprint>, ConvertError> {
        let stored = assembly.views[0].dtype;
        if stored != dtype && !(convertible(stored) && convertible(dtype)) {
            return Ok(None);
        }
        let (mut sum, mut scratch, size) = (0_u128, Scratch::default(), dtype.bitsize() / 8);
        for (at, count) in windows(assembly.len(), self.pair.window) {
            let mut bytes = vec![0; count as usize * size];
            match assembly.read(source, dtype, at, &mut bytes, &mut scratch) {
                Err(ConvertError::Overflow { .. }) => return Ok(None),
                other => other?,
            }
            for value in bytes.chunks_exact(size) {
                sum = sum.wrapping_add(mixed(value));
            }
        }
        Ok(Some((assembly.len(), sum)))
    }

    /// Biases beside weights that are found: they lie in the biases beside the weights' sources as the weights do in those.
    fn siblings(&mut self) -> Result<(), ConvertError> {
        let by_name: HashMap<&str, usize> =
            self.targets.iter().enumerate().map(|(at, t)| (t.name.as_str(), at)).collect();
        let mut found = Vec::new();
        for at in self.lost() {
            let target = &self.targets[at];
            let Some(module) = target.name.strip_suffix(".bias").filter(|_| target.shape.len() == 1) else { continue };
            let weight = by_name.get(format!("{module}.weight").as_str()).and_then(|&at| self.ways[at].as_ref());
            let Some(way) = weight.and_then(|way| self.beside(way)) else { continue };
            let holds = match &way {
                Way::One { key, layout, .. } => self.holds(target, layout, key)?,
                Way::Concat { keys, axis } => super::trace::joins(self.pair, target, keys, *axis)?,
                Way::Stack { .. } => false,
            };
            if holds {
                found.push((at, way));
            }
        }
        self.take(found);
        Ok(())
    }

    /// The way of a bias, by its weight's.
    fn beside(&self, weight: &Way) -> Option<Way> {
        let tensors = self.pair.release.tensors();
        let bias = |key: &String| {
            let key = format!("{}.bias", key.strip_suffix(".weight")?);
            tensors.get(&key).is_some_and(|info| info.shape.len() == 1).then_some(key)
        };
        match weight {
            Way::One { key, layout, plus: 0 } => {
                let row: u64 = *tensors[key].shape.last()?;
                let steps = layout.axes.first()?;
                let rows = layout.start % row == 0 && steps.iter().all(|step| step.stride.is_multiple_of(row));
                let by = if rows { row } else { 1 };
                let steps = steps.iter().map(|step| Axis { len: step.len, stride: step.stride / by }).collect();
                let layout = Layout { start: layout.start / by, axes: vec![steps] };
                Some(Way::One { key: bias(key)?, layout, plus: 0 })
            }
            Way::Concat { keys, axis: 0 } => {
                Some(Way::Concat { keys: keys.iter().map(bias).collect::<Option<_>>()?, axis: 0 })
            }
            _ => None,
        }
    }

    /// Targets of one number: the free tensor of that number whose name is most alike.
    fn constants(&mut self) -> Result<(), ConvertError> {
        let free = self.free();
        let mut pairs = Vec::new();
        for at in self.lost() {
            let target = &self.targets[at];
            if !is_constant(self.pair, target)? {
                continue;
            }
            for key in &free {
                let info = &self.pair.release.tensors()[key];
                if info.shape != target.shape {
                    continue;
                }
                let view = whole(self.pair.release, key).views.remove(0);
                let Some(layout) = Layout::of(&view, &target.shape) else { continue };
                if self.holds(target, &layout, key)? {
                    pairs.push((score(&target.name, key), at, key.clone(), layout));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut used = BTreeSet::new();
        for (_, at, key, layout) in pairs {
            if self.ways[at].is_none() && used.insert(key.clone()) {
                self.ways[at] = Some(Way::One { key, layout, plus: 0 });
            }
        }
        Ok(())
    }
}

/// The bits of one value, spread over 128.
fn mixed(value: &[u8]) -> u128 {
    let mut bits = [0; 8];
    bits[..value.len().min(8)].copy_from_slice(&value[..value.len().min(8)]);
    let mut x = u64::from_le_bytes(bits).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = (x ^ (x >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    u128::from(x) | u128::from(high ^ (high >> 32)) << 64
}

//! The lockfile as text: read with every violation told, written so that changes show line by line.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::{Entry, LOCK_SCHEMA, Lock, Multiple};
use crate::check::Violation;

/// A lockfile is no longer than this: a run of 877 taps takes 150 KiB.
pub const MAX_LOCK_BYTE_LEN: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    schema: u32,
    k: Multiple,
    runs: Unique<Unique<Entry>>,
}

/// An object without a key twice: serde_json alone would take the last.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Map<V> {
            type Value = BTreeMap<String, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, V>()? {
                    let name = clean(&key);
                    if map.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
                    }
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Map(PhantomData)).map(Self)
    }
}

/// A name as far as a message needs it, with nothing that a terminal would obey.
fn clean(name: &str) -> String {
    name.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl Lock {
    /// Reads a lockfile.
    ///
    /// # Errors
    /// What is no lockfile, with line and column; else every number that makes no sense.
    pub fn parse(text: &str) -> Result<Self, Vec<Violation>> {
        let at = |place: &str, message: String| Violation { place: place.to_owned(), message };
        let parsed: Text =
            serde_json::from_str(text).map_err(|error| vec![at("lockfile", clean(&error.to_string()))])?;
        let mut found = Vec::new();
        if parsed.schema != LOCK_SCHEMA {
            found.push(at("schema", format!("expected {LOCK_SCHEMA}, found {}", parsed.schema)));
        }
        if !(parsed.k.value.is_finite() && parsed.k.value > 0.0) {
            found.push(at("k", format!("{}: expected a positive number", parsed.k.value)));
        }
        let runs: BTreeMap<_, _> = parsed.runs.0.into_iter().map(|(name, taps)| (name, taps.0)).collect();
        for (name, taps) in &runs {
            for (tap, entry) in taps {
                let place = format!("{}: {}", clean(name), clean(tap));
                for (what, value) in [("tolerance", entry.tolerance), ("measured", entry.measured)] {
                    if !(value.is_finite() && value >= 0.0) {
                        found.push(at(&place, format!("{what} {value}: expected a number that is not negative")));
                    }
                }
                if entry.reason.trim().is_empty() {
                    found.push(at(&place, "expected a reason, found none".to_owned()));
                }
            }
        }
        if found.is_empty() { Ok(Self { schema: parsed.schema, k: parsed.k, runs }) } else { Err(found) }
    }

    /// The file's text: keys sorted, one tap a line, a newline at the end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = format!("{{\n  \"schema\": {},\n  \"k\": {},\n  \"runs\": {{", self.schema, json(&self.k));
        for (at, (name, taps)) in self.runs.iter().enumerate() {
            out.push_str(if at == 0 { "\n" } else { ",\n" });
            out.push_str(&format!("    {}: {{", json(name)));
            for (at, (tap, entry)) in taps.iter().enumerate() {
                out.push_str(if at == 0 { "\n" } else { ",\n" });
                out.push_str(&format!("      {}: {}", json(tap), json(entry)));
            }
            out.push_str(if taps.is_empty() { "}" } else { "\n    }" });
        }
        out.push_str(if self.runs.is_empty() { "}\n}\n" } else { "\n  }\n}\n" });
        out
    }
}

/// A value on one line.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("string keys and finite numbers only")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let number = prop_oneof![Just(0.0), 1e-300..1e300_f64];
        (number.clone(), number, "[a-z ]{0,8}[a-z]").prop_map(|(tolerance, measured, reason)| Entry {
            tolerance,
            floor: "torch".into(),
            measured,
            reason,
        })
    }

    proptest! {
        #[test]
        fn a_lockfile_reads_back(
            runs in prop::collection::btree_map(".{0,12}", prop::collection::btree_map(".{0,12}", entry(), 0..4), 0..4)
        ) {
            let lock = Lock { runs, ..Lock::default() };
            let text = lock.to_text();
            let back = Lock::parse(&text).expect("our own text");
            prop_assert_eq!(&back, &lock);
            prop_assert_eq!(&back.to_text(), &text);
            // One tap a line: two lines of braces, schema, k, and two per run that has taps, one that has none.
            let taps: usize = lock.runs.values().map(BTreeMap::len).sum();
            let braces: usize = lock.runs.values().map(|taps| if taps.is_empty() { 1 } else { 2 }).sum();
            let lines = if lock.runs.is_empty() { 5 } else { 6 + taps + braces };
            prop_assert_eq!(text.lines().count(), lines);
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = Lock::parse(&text);
        }
    }

    #[test]
    fn every_number_that_makes_no_sense_is_listed() {
        let entry = r#""floor":"ulp","reason":" ""#;
        let text = format!(
            r#"{{"schema":1,"k":{{"value":0,"reason":""}},"runs":{{"r":{{"t":{{"tolerance":-1,"measured":-2,{entry}}}}}}}}}"#
        );
        let found: Vec<String> = Lock::parse(&text).expect_err("unsound").iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "k: 0: expected a positive number",
                "r: t: tolerance -1: expected a number that is not negative",
                "r: t: measured -2: expected a number that is not negative",
                "r: t: expected a reason, found none",
            ]
        );
    }
}

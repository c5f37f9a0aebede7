//! `f64` in JSON, NaN and infinities included.
//!
//! JSON has no NaN; serde_json writes `null` for it, which would read back as "no value". Here the non-finite values are the
//! strings `"NaN"`, `"Infinity"` and `"-Infinity"`. A `null` from another writer reads as NaN, so it can never pass.

use serde::{Deserialize, Deserializer, Serializer};

/// What a JSON number field may hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(f64),
    Word(String),
    Null(()),
}

/// Writes a number, or the word for it.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        serializer.serialize_str("NaN")
    } else if value.is_infinite() {
        serializer.serialize_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        serializer.serialize_f64(*value)
    }
}

/// Reads a number, or the word for it.
///
/// # Errors
/// What is neither.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Number(number) => Ok(number),
        Value::Null(()) => Ok(f64::NAN),
        Value::Word(word) => match word.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            other => Err(serde::de::Error::custom(format!(
                "expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", found \"{other}\""
            ))),
        },
    }
}

/// The same for `Option<f64>`: `null` is `None`.
pub mod option {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super")] f64);

    /// Writes a number, the word for it, or `null`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a number, the word for it, or `null`.
    ///
    /// # Errors
    /// What is none of these.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "super")]
        plain: f64,
        #[serde(default, with = "super::option")]
        maybe: Option<f64>,
    }

    fn round_trip(plain: f64, maybe: Option<f64>) -> Sample {
        let text = serde_json::to_string(&Sample { plain, maybe }).expect("strings and numbers");
        serde_json::from_str(&text).expect("what was written")
    }

    #[test]
    fn every_float_survives_json() {
        for value in [0.0, -0.0, 1e-300, 0.1 + 0.2, f64::MAX, f64::INFINITY, f64::NEG_INFINITY] {
            let back = round_trip(value, Some(value));
            assert_eq!(back.plain.to_bits(), value.to_bits());
            assert_eq!(back.maybe.map(f64::to_bits), Some(value.to_bits()));
        }
        let back = round_trip(f64::NAN, Some(f64::NAN));
        assert!(back.plain.is_nan() && back.maybe.is_some_and(f64::is_nan));
        assert_eq!(round_trip(1.0, None).maybe, None);
    }

    #[test]
    fn a_null_is_nan_where_a_number_is_due_and_other_words_are_errors() {
        let sample: Sample = serde_json::from_str(r#"{"plain": null}"#).expect("null is read");
        assert!(sample.plain.is_nan());
        assert_eq!(sample.maybe, None);
        assert!(serde_json::from_str::<Sample>(r#"{"plain": "nan"}"#).is_err());
        assert!(serde_json::from_str::<Sample>(r#"{}"#).is_err());
    }
}

//! Values of a recipe's file as serde reads them: expressions that may be plain numbers, tables in which no name stands twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// The text of an expression; an integer may stand for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprText(String);

impl Deref for ExprText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ExprText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = ExprText;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an integer, or an expression as a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ExprText, E> {
                Ok(ExprText(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ExprText, E> {
                Ok(ExprText(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ExprText, E> {
                Ok(ExprText(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A table of named things. JSON allows a name twice and would keep the last; here that is an error, as it is in TOML.
pub(super) fn distinct<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Names<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a table of named things")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, V>()? {
                if all.contains_key(&name) {
                    return Err(M::Error::custom(format!("{name} is there twice")));
                }
                all.insert(name, value);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Names(PhantomData))
}

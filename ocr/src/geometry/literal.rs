//! Python literals read, never evaluated: dictionaries, lists, tuples, strings, numbers, and the three names. Operators, calls, comprehensions,
//! prefixed strings and what else `eval` would take are errors.

use super::GeometryError;

/// The longest text that is read, in bytes: more than a text of the most tokens has.
pub const MAX_BYTES: usize = 256 << 10;
/// The deepest nesting: a figure has two levels.
const MAX_DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `{'a': 1}`: keys are strings; of two that are equal the later one counts, as in Python.
    Dict(Vec<(String, Literal)>),
    /// A list, or a tuple.
    List(Vec<Literal>),
    /// Text.
    Text(String),
    /// Finite.
    Number(f64),
    /// `True`, `False` or `None`.
    Name(&'static str),
}

impl Literal {
    /// A dictionary's entry.
    pub fn get(&self, key: &str) -> Option<&Literal> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A list's items.
    pub fn items(&self) -> Option<&[Literal]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// A number.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Reads a text that is one literal and nothing else.
///
/// # Errors
/// With the byte where something else stands, or a limit is passed.
pub fn read(text: &str) -> Result<Literal, GeometryError> {
    if text.len() > MAX_BYTES {
        return Err(GeometryError::Syntax {
            at: MAX_BYTES,
            expected: "the end, as no figure is longer",
            found: format!("{} bytes", text.len()),
        });
    }
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(reader.expected("the end")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> GeometryError {
        let found: String = self.rest().chars().take(20).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        GeometryError::Syntax { at: self.at, expected, found }
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Skips blanks, and `mark` if it comes next.
    fn takes(&mut self, mark: char) -> bool {
        self.blanks();
        let is_there = self.rest().starts_with(mark);
        self.at += if is_there { mark.len_utf8() } else { 0 };
        is_there
    }

    fn value(&mut self, depth: usize) -> Result<Literal, GeometryError> {
        self.blanks();
        if depth > MAX_DEPTH {
            return Err(self.expected("no deeper nesting"));
        }
        match self.rest().chars().next() {
            Some('{') => self.dict(depth),
            Some('[') => self.list(depth, ']').map(|(items, _)| Literal::List(items)),
            Some('(') => self.list(depth, ')').map(|(items, is_tuple)| match <[Literal; 1]>::try_from(items) {
                // Brackets around one value are no tuple.
                Ok([only]) if !is_tuple => only,
                Ok([only]) => Literal::List(vec![only]),
                Err(items) => Literal::List(items),
            }),
            Some('\'' | '"') => self.string().map(Literal::Text),
            Some('0'..='9' | '.' | '-' | '+') => self.number(),
            _ => {
                let name = ["True", "False", "None"].into_iter().find(|name| self.rest().starts_with(name));
                let name = name.ok_or_else(|| self.expected("a value"))?;
                self.at += name.len();
                Ok(Literal::Name(name))
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, GeometryError> {
        let mut entries = Vec::new();
        self.takes('{');
        while !self.takes('}') {
            if !matches!(self.rest().chars().next(), Some('\'' | '"')) {
                return Err(self.expected("a string as key"));
            }
            let key = self.string()?;
            if !self.takes(':') {
                return Err(self.expected("`:` behind a key"));
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.takes(',') && !self.rest().starts_with('}') {
                return Err(self.expected("`,` or `}`"));
            }
        }
        Ok(Literal::Dict(entries))
    }

    /// Items up to `end`, and whether a comma stands among or behind them.
    fn list(&mut self, depth: usize, end: char) -> Result<(Vec<Literal>, bool), GeometryError> {
        let (mut items, mut has_comma) = (Vec::new(), false);
        self.at += 1;
        while !self.takes(end) {
            items.push(self.value(depth + 1)?);
            if self.takes(',') {
                has_comma = true;
            } else if !self.rest().starts_with(end) {
                return Err(self.expected("`,` or the list's end"));
            }
        }
        Ok((items, has_comma))
    }

    fn string(&mut self) -> Result<String, GeometryError> {
        let mut characters = self.rest().char_indices();
        let Some((_, quote)) = characters.next() else { return Err(self.expected("a string")) };
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.at += at + quote.len_utf8();
                    return Ok(text);
                }
                '\n' => break,
                '\\' => match characters.next() {
                    Some((_, '\n')) => {}
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                    // As Python keeps what is no escape; numbered characters stay as they are written, too.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                _ => text.push(character),
            }
        }
        Err(self.expected("a string that ends on its line"))
    }

    fn number(&mut self) -> Result<Literal, GeometryError> {
        let unsigned = self.rest().trim_start_matches(['-', '+']);
        let signs = self.rest().len() - unsigned.len();
        let mut len = signs + unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        // An exponent, with its own sign.
        if let Some(power) = self.rest()[len..].strip_prefix(['e', 'E']) {
            let digits = power.strip_prefix(['-', '+']).unwrap_or(power);
            let digits_len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            len += 1 + power.len() - digits.len() + digits_len;
        }
        let number = self.rest()[..len].parse::<f64>().ok().filter(|number| signs < 2 && number.is_finite());
        let number = number.ok_or_else(|| self.expected("a finite number"))?;
        self.at += len;
        Ok(Literal::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(items: &[&str]) -> Literal {
        Literal::List(items.iter().map(|item| Literal::Text((*item).to_owned())).collect())
    }

    #[test]
    fn literals_are_what_python_makes_of_them() {
        let read = |text: &str| read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read(" ['a', \"b'\", 'c\\'\\n', '\\d'] \n"), texts(&["a", "b'", "c'\n", "\\d"]));
        assert_eq!(
            read("(-1, +2., .5, 1e-2, 3E1)"),
            Literal::List([-1., 2., 0.5, 0.01, 30.].map(Literal::Number).into())
        );
        assert_eq!((read("(3)"), read("(3,)")), (Literal::Number(3.), Literal::List(vec![Literal::Number(3.)])));
        let dict = read("{'a': {'b': [], }, 'c': None, 'a': True}");
        assert_eq!(
            (dict.get("a"), dict.get("c"), dict.get("d")),
            (Some(&Literal::Name("True")), Some(&Literal::Name("None")), None)
        );
        assert_eq!((read("()"), read("{}")), (Literal::List(vec![]), Literal::Dict(vec![])));
    }

    #[test]
    fn what_is_no_literal_is_told_with_its_place() {
        let deep = "[".repeat(100_000);
        for (text, at, part) in [
            ("", 0, "a value, found the end"),
            ("__import__('os').system('x')", 0, "a value"),
            ("[1, 2] + [3]", 7, "the end"),
            ("{'a': open('x')}", 6, "a value"),
            ("{1: 2}", 1, "a string as key"),
            ("{'a' 1}", 5, "`:` behind a key"),
            ("{'a': 1 'b': 2}", 8, "`,` or `}`"),
            ("[1 2]", 3, "`,` or the list's end"),
            ("[,]", 1, "a value"),
            ("['a", 1, "a string that ends"),
            ("'a\nb'", 0, "a string that ends"),
            ("1e999", 0, "a finite number"),
            ("--1", 0, "a finite number"),
            ("1.2.3", 0, "a finite number"),
            ("9 ** 9", 2, "the end"),
            (deep.as_str(), 17, "no deeper nesting"),
        ] {
            match read(text).expect_err(text) {
                GeometryError::Syntax { at: found, expected, found: what } => {
                    assert_eq!(found, at, "{text}");
                    assert!(format!("{expected}, found {what}").contains(part), "{text}: {expected}, found {what}");
                }
                other => panic!("{text}: {other}"),
            }
        }
        assert!(read(&"1".repeat(MAX_BYTES + 1)).is_err());
    }
}

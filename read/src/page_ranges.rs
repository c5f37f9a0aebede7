//! Which pages of a document are read: `1-3,7,20-`.

use std::{ops::RangeInclusive, str::FromStr};

/// Pages of a document, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRanges(Vec<RangeInclusive<usize>>);

impl FromStr for PageRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected pages like 1-3,7,20-, found {text:?}");
        let number = |text: &str| text.parse::<usize>().ok().filter(|&page| page > 0).ok_or_else(wrong);
        let one = |part: &str| {
            let (first, last) = match part.split_once('-') {
                Some((first, "")) => (number(first)?, usize::MAX),
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first <= last { Ok(first..=last) } else { Err(wrong()) }
        };
        text.split(',').map(|part| one(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl PageRanges {
    /// The pages of a document of `count`, in order, each once, counted from 1.
    ///
    /// # Errors
    /// When it has no such pages.
    pub fn of(&self, count: usize) -> anyhow::Result<Vec<usize>> {
        for range in &self.0 {
            let last = if *range.end() == usize::MAX { range.start() } else { range.end() };
            anyhow::ensure!(*last <= count, "--pages: expected pages up to {count}, found {last}");
        }
        Ok((1..=count).filter(|page| self.0.iter().any(|range| range.contains(page))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_as_people_name_them() {
        let pages = |text: &str, count| text.parse::<PageRanges>().map_err(anyhow::Error::msg)?.of(count);
        assert_eq!(pages("1-3,7", 9).expect("pages"), [1, 2, 3, 7]);
        assert_eq!(pages("7, 1-3,2", 7).expect("pages"), [1, 2, 3, 7]);
        assert_eq!(pages("8-", 9).expect("pages"), [8, 9]);
        for (text, count) in [("", 9), ("0", 9), ("3-1", 9), ("x", 9), ("-3", 9), ("1-10", 9), ("10-", 9), ("1,,2", 9)]
        {
            assert!(pages(text, count).is_err(), "{text}");
        }
    }
}

//! What order a permutation is: reversed, rolled, heads exchanged, rotary halves for pairs, lexicographic.

/// A permutation in words, and whether the words name it exactly; `from[i]` is the source's row that stands at row `i`. `head` is the
/// length of an attention head where it is known.
pub fn named(from: &[u64], head: Option<u64>) -> (&'static str, String) {
    let n = from.len() as u64;
    if let Some(step) = rolled(from) {
        return ("rows-rolled", format!("rows are rolled by {step}"));
    }
    if from.iter().enumerate().all(|(at, &row)| row == n - 1 - at as u64) {
        return ("rows-reversed", "rows are in reverse order".to_owned());
    }
    let heads: Vec<u64> = head
        .into_iter()
        .chain([128, 64, 96, 80, 256, 32, 16, 8, 4])
        .filter(|&d| d > 2 && d % 2 == 0 && n.is_multiple_of(d))
        .collect();
    for &d in &heads {
        if let Some(word) = rotary(from, d) {
            return ("rope-permuted", format!("rows of each head of {d} stand in rotary order {word}"));
        }
    }
    if lexicographic(n).as_deref() == Some(from) {
        return ("order-lexicographic", format!("{n} entries are in lexicographic order (0, 1, 10, 11, … 2)"));
    }
    let block = blocks(from);
    if let Some(d) = head.filter(|&d| d > 1 && block.is_multiple_of(d)) {
        return ("heads-permuted", format!("heads of {d} rows are in another order: {}", shown(from, d)));
    }
    if block > 1 {
        return ("blocks-permuted", format!("blocks of {block} rows are in another order: {}", shown(from, block)));
    }
    let moved = from.iter().enumerate().filter(|(at, row)| **row != *at as u64).count();
    ("rows-permuted", format!("{moved} of {n} rows are in another order"))
}

/// The step, where every row is the one so many before it, round and round.
fn rolled(from: &[u64]) -> Option<u64> {
    let n = from.len() as u64;
    let first = *from.first()?;
    (first != 0 && from.iter().enumerate().all(|(at, &row)| row == (first + at as u64) % n)).then_some((n - first) % n)
}

fn rotary(from: &[u64], d: u64) -> Option<&'static str> {
    let pairs = |at: u64| if at.is_multiple_of(2) { at / 2 } else { at / 2 + d / 2 };
    let halves = |at: u64| if at < d / 2 { 2 * at } else { 2 * (at - d / 2) + 1 };
    let holds = |order: &dyn Fn(u64) -> u64| {
        from.iter().enumerate().all(|(at, &row)| row == at as u64 / d * d + order(at as u64 % d))
    };
    if holds(&pairs) {
        return Some("halves → pairs (interleaved, as Meta's checkpoints have it)");
    }
    holds(&halves).then_some("pairs → halves")
}

/// The order 0, 1, 10, 11, …, 2, 20, …; `None` where it is the usual one.
pub fn lexicographic(n: u64) -> Option<Vec<u64>> {
    let mut all: Vec<u64> = (0..n).collect();
    all.sort_by_key(u64::to_string);
    (n > 10).then_some(all)
}

/// The length of the runs that a permutation keeps together.
fn blocks(from: &[u64]) -> u64 {
    let n = from.len() as u64;
    (2..=n / 2)
        .rev()
        .filter(|d| n.is_multiple_of(*d))
        .find(|&d| {
            from.chunks(d as usize)
                .all(|run| run[0].is_multiple_of(d) && run.windows(2).all(|two| two[1] == two[0] + 1))
        })
        .unwrap_or(1)
}

/// The first entries of a permutation of blocks.
fn shown(from: &[u64], block: u64) -> String {
    let order: Vec<u64> = from.iter().step_by(block as usize).map(|row| row / block).collect();
    list(&order)
}

/// A list with at most twelve entries shown.
pub fn list(order: &[u64]) -> String {
    let shown: Vec<String> = order.iter().take(12).map(u64::to_string).collect();
    let more = if order.len() > 12 { ", …" } else { "" };
    shown.join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_names() {
        assert_eq!(named(&[3, 0, 1, 2], None).0, "rows-rolled");
        assert_eq!(named(&[3, 2, 1, 0], None).0, "rows-reversed");
        assert_eq!(named(&[4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11], Some(4)).0, "heads-permuted");
        assert_eq!(named(&[0, 2, 1, 3, 4, 6, 5, 7], Some(4)).0, "rope-permuted");
        let lexi = lexicographic(12).expect("more than ten");
        assert_eq!(lexi[..4], [0, 1, 10, 11]);
        assert_eq!(named(&lexi, None).0, "order-lexicographic");
        assert_eq!(named(&[0, 2, 1, 3, 5, 4, 7, 6, 8], None).0, "rows-permuted");
    }
}

//! `permute` and `split`: properties against a rearrangement worked out index by index, the idioms of real ports, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use crate::support::numbered::{Numbered, rows};

/// A tensor as a shape and the place in the source of each element, rearranged the slow and obvious way.
#[derive(Debug, Clone)]
struct Plain {
    shape: Vec<u64>,
    from: Vec<u64>,
}

impl Plain {
    fn new(shape: &[u64]) -> Self {
        Self { shape: shape.to_vec(), from: (0..shape.iter().product()).collect() }
    }

    /// The element at every index of `shape`, where `old` gives the index to take it from.
    fn gathered(&self, shape: Vec<u64>, old: impl Fn(&[u64]) -> Vec<u64>) -> Self {
        let count: u64 = shape.iter().product();
        let at = |mut rest: u64| {
            let mut index = vec![0; shape.len()];
            for (axis, &len) in shape.iter().enumerate().rev() {
                index[axis] = rest % len;
                rest /= len;
            }
            let flat = old(&index).iter().zip(&self.shape).fold(0, |flat, (i, len)| flat * len + i);
            self.from[flat as usize]
        };
        Self { from: (0..count).map(at).collect(), shape }
    }

    fn permuted(&self, order: &[usize]) -> Self {
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        self.gathered(shape, |index| {
            let mut old = vec![0; index.len()];
            order.iter().zip(index).for_each(|(&axis, &i)| old[axis] = i);
            old
        })
    }

    fn part(&self, axis: usize, from: u64, len: u64) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = len;
        self.gathered(shape, |index| {
            let mut old = index.to_vec();
            old[axis] += from;
            old
        })
    }
}

/// A view of a tensor, the axis to cut, the sizes of the parts and an order for each.
#[derive(Debug, Clone)]
struct Case {
    view: Vec<u64>,
    /// How many axes of the view make each axis of the source.
    joins: Vec<usize>,
    axis: usize,
    sizes: Vec<u64>,
    orders: Vec<Vec<usize>>,
}

fn cases() -> impl Strategy<Value = Case> {
    prop::collection::vec(1_u64..5, 1..5).prop_flat_map(|view| {
        let rank = view.len();
        (0..rank, prop::collection::vec(1_u64..4, 1..4), prop::collection::vec(1_usize..4, rank)).prop_flat_map(
            move |(axis, sizes, joins)| {
                let mut view = view.clone();
                view[axis] = sizes.iter().sum();
                let orders = prop::collection::vec(Just((0..rank).collect::<Vec<_>>()).prop_shuffle(), sizes.len());
                let joins = joins.clone();
                orders.prop_map(move |orders| Case {
                    view: view.clone(),
                    joins: joins.clone(),
                    axis,
                    sizes: sizes.clone(),
                    orders,
                })
            },
        )
    })
}

impl Case {
    fn source(&self) -> Vec<u64> {
        let (mut rest, mut shape) = (self.view.as_slice(), Vec::new());
        for &join in &self.joins {
            let (own, others) = rest.split_at(join.min(rest.len()));
            if !own.is_empty() {
                shape.push(own.iter().product());
            }
            rest = others;
        }
        shape
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_split_takes_each_part_from_its_place(case in cases(), piece in 1_usize..60, block in 4_usize..200) {
        let source = case.source();
        let memory = Numbered::new(&[("a", &source)]);
        let targets: Vec<String> = (0..case.sizes.len()).map(|at| format!("t{at}")).collect();
        let row = format!(
            "{{ from = \"a\", shape = {source:?}, op = \"split\", view = {:?}, axis = {}, sizes = {:?}, order = {:?}, to = {targets:?} }}",
            case.view, case.axis, case.sizes, case.orders
        );
        let outputs = memory.plan(&rows(&row), &json!({})).expect("plans");
        let mut from = 0;
        for ((output, &size), order) in outputs.iter().zip(&case.sizes).zip(&case.orders) {
            let expected = Plain::new(&case.view).part(case.axis, from, size).permuted(order);
            prop_assert_eq!(&output.shape, &expected.shape);
            prop_assert_eq!(memory.read(output, piece, block), expected.from);
            from += size;
        }
    }

    #[test]
    fn a_permutation_reads_the_view_in_its_order(case in cases(), piece in 1_usize..60, block in 4_usize..200) {
        let (source, order) = (case.source(), &case.orders[0]);
        let memory = Numbered::new(&[("a", &source)]);
        let total: u64 = source.iter().product();
        let row = format!(
            "{{ from = \"a\", shape = {source:?}, op = \"permute\", view = {:?}, order = {order:?}, result = [{total}], to = \"t\" }}",
            case.view
        );
        let outputs = memory.plan(&rows(&row), &json!({})).expect("plans");
        let expected = Plain::new(&case.view).permuted(order);
        prop_assert_eq!(&outputs[0].shape, &vec![total]);
        prop_assert_eq!(memory.read(&outputs[0], piece, block), expected.from);
    }

    #[test]
    fn equal_parts_put_together_are_the_tensor(parts in 2_u64..5, each in 1_u64..5, inner in 1_u64..5) {
        let shape = [parts * each, inner];
        let memory = Numbered::new(&[("a", &shape)]);
        let targets: Vec<String> = (0..parts).map(|at| format!("t{at}")).collect();
        let row = format!("{{ from = \"a\", shape = {shape:?}, op = \"split\", axis = 0, to = {targets:?} }}");
        let outputs = memory.plan(&rows(&row), &json!({})).expect("plans");
        let joined: Vec<u64> = outputs.iter().flat_map(|output| memory.read(output, 7, 64)).collect();
        prop_assert_eq!(joined, (0..parts * each * inner).collect::<Vec<_>>());
    }
}

/// Plans one row over tensor `a` and gives each target's shape and elements.
fn made(shape: &[u64], row: &str) -> Vec<(Vec<u64>, Vec<u64>)> {
    let memory = Numbered::new(&[("a", shape)]);
    let text = rows(&format!("{{ from = \"a\", shape = {shape:?}, {row} }}"));
    let outputs = memory.plan(&text, &json!({})).unwrap_or_else(|list| panic!("{row}: {list:#?}"));
    outputs.iter().map(|output| (output.shape.clone(), memory.read(output, 1000, 1 << 20))).collect()
}

/// Elements of the source `[a, b, c, …]` in the order in which `index` visits them.
fn visit<const N: usize>(source: [u64; N], over: &[u64], index: impl Fn(&[u64]) -> [u64; N]) -> Vec<u64> {
    let all = Plain::new(&source);
    all.gathered(over.to_vec(), |at| index(at).to_vec()).from
}

#[test]
fn convolutions_move_their_input_channels_last() {
    let conv1d = made(&[4, 3, 5], r#"op = "permute", order = [0, 2, 1], to = "t""#);
    assert_eq!(conv1d[0], (vec![4, 5, 3], visit([4, 3, 5], &[4, 5, 3], |i| [i[0], i[2], i[1]])));
    let conv3d = made(&[2, 3, 4, 5, 6], r#"op = "permute", order = [0, 2, 3, 4, 1], to = "t""#);
    let expected = visit([2, 3, 4, 5, 6], &[2, 4, 5, 6, 3], |i| [i[0], i[4], i[1], i[2], i[3]]);
    assert_eq!(conv3d[0], (vec![2, 4, 5, 6, 3], expected));
    // ConvTranspose2d keeps its kernel as [I, O, H, W].
    let transposed = made(&[2, 3, 4, 5], r#"op = "permute", order = [1, 2, 3, 0], to = "t""#);
    let expected = visit([2, 3, 4, 5], &[3, 4, 5, 2], |i| [i[3], i[0], i[1], i[2]]);
    assert_eq!(transposed[0], (vec![3, 4, 5, 2], expected));
}

#[test]
fn rotary_halves_become_pairs() {
    // Two heads of four rows, three columns: row (head, half, pair) goes to (head, pair, half).
    let row = r#"op = "permute", view = [2, 2, 2, 3], order = [0, 2, 1, 3], result = [8, 3], to = "t""#;
    let expected = visit([2, 2, 2, 3], &[2, 2, 2, 3], |i| [i[0], i[2], i[1], i[3]]);
    assert_eq!(made(&[8, 3], row), [(vec![8, 3], expected)]);
}

#[test]
fn fused_query_key_value_of_grouped_heads_come_apart() {
    // Two key-value heads, each with three query heads, a key and a value of two rows; five columns.
    let row = r#"op = "split", view = [2, 5, 2, 5], axis = 1, sizes = [3, 1, 1],
        result = [[12, 5], [4, 5], [4, 5]], to = ["q", "k", "v"]"#
        .replace('\n', " ");
    let found = made(&[20, 5], &row);
    let part = |from: u64, groups: u64| visit([2, 5, 2, 5], &[2, groups, 2, 5], |i| [i[0], i[1] + from, i[2], i[3]]);
    assert_eq!(found, [(vec![12, 5], part(0, 3)), (vec![4, 5], part(3, 1)), (vec![4, 5], part(4, 1))]);
}

#[test]
fn fused_experts_come_apart_whole_halves_or_every_other_row() {
    // Stored as [experts, columns, gate and up]: halves of the last axis, each turned.
    let halves = made(&[2, 3, 8], r#"op = "split", axis = 2, order = [0, 2, 1], to = ["gate", "up"]"#);
    let half = |from: u64| visit([2, 3, 8], &[2, 4, 3], |i| [i[0], i[2], i[1] + from]);
    assert_eq!(halves, [(vec![2, 4, 3], half(0)), (vec![2, 4, 3], half(4))]);
    // Gate and up row by row.
    let row = r#"op = "split", view = [2, 4, 2, 3], axis = 2, result = [2, 4, 3], to = ["gate", "up"]"#;
    let every_other = |from: u64| visit([2, 8, 3], &[2, 4, 3], |i| [i[0], 2 * i[1] + from, i[2]]);
    assert_eq!(made(&[2, 8, 3], row), [(vec![2, 4, 3], every_other(0)), (vec![2, 4, 3], every_other(1))]);
}

#[test]
fn parts_may_be_laid_out_differently() {
    // Latent attention: [heads · (nope + value), rank] as keys [heads, rank, nope] and values [heads, value, rank].
    let row =
        r#"op = "split", view = [2, 7, 3], axis = 1, sizes = [4, 3], order = [[0, 2, 1], [0, 1, 2]], to = ["k", "v"]"#;
    let keys = visit([2, 7, 3], &[2, 3, 4], |i| [i[0], i[2], i[1]]);
    let values = visit([2, 7, 3], &[2, 3, 3], |i| [i[0], i[1] + 4, i[2]]);
    assert_eq!(made(&[14, 3], row), [(vec![2, 3, 4], keys), (vec![2, 3, 3], values)]);
}

#[test]
fn axes_of_one_come_and_go() {
    let squeezed = made(&[1, 4, 1], r#"op = "permute", order = [0, 1, 2], result = [4], to = "t""#);
    assert_eq!(squeezed, [(vec![4], vec![0, 1, 2, 3])]);
    let empty = made(&[0, 4], r#"op = "permute", view = [4, 0, 2], order = [2, 1, 0], to = "t""#);
    assert_eq!(empty, [(vec![2, 0, 4], vec![])]);
}

/// The one violation of a row over tensor `a`, as text.
fn refused(shape: &[u64], row: &str) -> String {
    let memory = Numbered::new(&[("a", shape)]);
    let text = rows(&format!("{{ from = \"a\", shape = {shape:?}, {row} }}"));
    let list = memory.plan(&text, &json!({})).expect_err("it must be refused");
    let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn what_cannot_be_rearranged_says_why() {
    let cases: [(&str, &str); 14] = [
        (r#"op = "permute", to = "t""#, "recipe: test: row 1: expected order for permute, found nothing"),
        (
            r#"op = "permute", order = [0], to = "t""#,
            "recipe: test: row 1: expected each of the axes 0 to 1 once, found [0]",
        ),
        (
            r#"op = "permute", order = [1, 1], to = "t""#,
            "recipe: test: row 1: expected each of the axes 0 to 1 once, found [1, 1]",
        ),
        (
            r#"op = "permute", order = [0, 1], sizes = [1], to = "t""#,
            "recipe: test: row 1: expected no sizes for permute, found it",
        ),
        (r#"op = "copy", order = [0, 1], to = "t""#, "recipe: test: row 1: expected no order for copy, found it"),
        (r#"op = "split", to = ["t", "u"]"#, "recipe: test: row 1: expected axis for split, found nothing"),
        (r#"op = "split", axis = 2, to = ["t", "u"]"#, "recipe: test: row 1: expected an axis below 2, found 2"),
        (r#"op = "split", axis = 0, to = "t""#, "recipe: test: row 1: expected 2 targets for split, found 1"),
        (
            r#"op = "split", axis = 0, sizes = [3, 3], to = ["t"]"#,
            "recipe: test: row 1: expected 2 targets for split, found 1",
        ),
        (
            r#"op = "split", axis = 0, order = [[0, 1]], to = ["t", "u"]"#,
            "recipe: test: row 1: expected one order, or one for each of 2 targets, found 1",
        ),
        (
            r#"op = "split", axis = 1, to = ["t", "u"]"#,
            "wrong shape: a: expected axis 1 in multiples of 2, found 5 (row 1: a)",
        ),
        (
            r#"op = "split", axis = 0, sizes = [4, 3], to = ["t", "u"]"#,
            "wrong shape: a: expected sizes [4, 3] that make up axis 0, found 6 (row 1: a)",
        ),
        (
            r#"op = "permute", view = [4, 2], order = [1, 0], to = "t""#,
            "wrong shape: a: expected a tensor to read as [4, 2], found [6, 5] (row 1: a)",
        ),
        (
            r#"op = "permute", order = [1, 0], result = [6], to = "t""#,
            "wrong shape: a: expected elements for a result of [6], found [5, 6] (row 1: a)",
        ),
    ];
    for (row, expected) in cases {
        assert_eq!(refused(&[6, 5], row), expected, "{row}");
    }
}

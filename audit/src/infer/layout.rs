//! How a target reads one source, as strides; and the recipe's operation that says the same.

use mlxport_convert::transforms::{Axis, View};

/// Where a target's elements lie in one row-major source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The first element.
    pub start: u64,
    /// Of each axis of the target: its steps in the source, outermost first; an axis of length 1 has none.
    pub axes: Vec<Vec<Axis>>,
}

/// An operation of a recipe with numbers for expressions. Orders and results are there for each target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its name in a recipe.
    pub name: &'static str,
    /// The shape to read the source in, where it is not its own.
    pub view: Option<Vec<u64>>,
    /// The axis that is cut or joined along.
    pub axis: Option<usize>,
    /// The parts' sizes along it.
    pub sizes: Option<Vec<u64>>,
    /// The order of axes, where it is another than the view's.
    pub orders: Vec<Option<Vec<usize>>>,
    /// The shape that is written, where it is not that of the axes.
    pub results: Vec<Option<Vec<u64>>>,
    /// What is added.
    pub number: i32,
}

impl Operation {
    /// An operation without keys of its own.
    pub fn plain(name: &'static str) -> Self {
        Self { name, view: None, axis: None, sizes: None, orders: Vec::new(), results: Vec::new(), number: 0 }
    }

    /// The same without its numbers: what two examples of different sizes have in common.
    pub fn structure(&self) -> String {
        let rank = |numbers: &Option<Vec<u64>>| numbers.as_ref().map(Vec::len);
        let results: Vec<Option<usize>> = self.results.iter().map(rank).collect();
        let ranks = (rank(&self.view), rank(&self.sizes), results);
        format!("{} {:?} {:?} {ranks:?} {}", self.name, self.axis, self.orders, self.number)
    }
}

impl Layout {
    /// The layout of a view that is read as a tensor of `shape`; `None` where its axes do not fit that shape.
    pub fn of(view: &View, shape: &[u64]) -> Option<Self> {
        Some(Self { start: view.start, axes: regroup(&view.axes, shape)? })
    }

    fn steps(&self) -> impl Iterator<Item = &Axis> {
        self.axes.iter().flatten()
    }
}

/// Axes, in order, cut so that each axis of `shape` has some of its own.
fn regroup(axes: &[Axis], shape: &[u64]) -> Option<Vec<Vec<Axis>>> {
    let mut left: Vec<Axis> = axes.iter().copied().filter(|axis| axis.len != 1).collect();
    let mut all = Vec::new();
    for &len in shape.iter().rev() {
        let (mut own, mut rest) = (Vec::new(), len);
        while rest > 1 {
            let axis = left.pop()?;
            if rest.is_multiple_of(axis.len) {
                own.insert(0, axis);
                rest /= axis.len;
            } else if axis.len.is_multiple_of(rest) {
                own.insert(0, Axis { len: rest, stride: axis.stride });
                left.push(Axis { len: axis.len / rest, stride: axis.stride * rest });
                rest = 1;
            } else {
                return None;
            }
        }
        all.insert(0, joined(own));
    }
    left.is_empty().then_some(all)
}

/// Steps that follow on each other, as one.
fn joined(steps: Vec<Axis>) -> Vec<Axis> {
    let mut all: Vec<Axis> = Vec::new();
    for step in steps {
        match all.last_mut() {
            Some(outer) if outer.stride == step.len * step.stride => {
                *outer = Axis { len: outer.len * step.len, stride: step.stride };
            }
            _ => all.push(step),
        }
    }
    all
}

/// The operation that makes these targets (layout and shape) of a source, and the order it makes them in.
///
/// # Errors
/// What a recipe cannot say of it, in words.
pub fn operation(source: &[u64], parts: &[(&Layout, &[u64])]) -> Result<(Operation, Vec<usize>), String> {
    if let [(layout, shape)] = parts
        && let Some(order) = simple_order(source, layout, shape)
    {
        return Ok((simple(order), vec![0]));
    }
    let count = source.iter().product();
    let refined = Refined::new(source, count, parts)
        .or_else(|| Refined::new(&[], count, parts))
        .ok_or("its strides are no view of the source")?;
    refined.operation(source, parts)
}

/// The order of the source's own axes that the layout is, where it takes the whole source.
fn simple_order(source: &[u64], layout: &Layout, shape: &[u64]) -> Option<Vec<usize>> {
    if source.len() != shape.len() || layout.start != 0 {
        return None;
    }
    let mut strides = vec![1; source.len()];
    for at in (1..source.len()).rev() {
        strides[at - 1] = strides[at] * source[at];
    }
    let mut ones = (0..source.len()).filter(|&at| source[at] == 1);
    let mut order = Vec::new();
    for (steps, &len) in layout.axes.iter().zip(shape) {
        order.push(match steps[..] {
            [] if len == 1 => ones.next()?,
            [Axis { len, stride }] => (0..source.len()).find(|&at| source[at] == len && strides[at] == stride)?,
            _ => return None,
        });
    }
    Some(order)
}

fn simple(order: Vec<usize>) -> Operation {
    if order.is_sorted() {
        return Operation::plain("copy");
    }
    match order[..] {
        [1, 0] => Operation::plain("transpose"),
        [0, 2, 3, 1] => Operation::plain("conv_oihw_to_ohwi"),
        _ => Operation { orders: vec![Some(order)], results: vec![None], ..Operation::plain("permute") },
    }
}

/// A source read in the coarsest shape of which every part takes whole axes, but for one that is cut.
struct Refined {
    dims: Vec<u64>,
    strides: Vec<u64>,
}

/// What a part takes of the refined axes.
struct Taken {
    order: Vec<usize>,
    /// Axis, first step, steps.
    cut: Option<(usize, u64, u64)>,
}

impl Refined {
    fn new(source: &[u64], count: u64, parts: &[(&Layout, &[u64])]) -> Option<Self> {
        let mut strides: Vec<u64> =
            parts.iter().flat_map(|(layout, _)| layout.steps().map(|step| step.stride)).collect();
        let mut stride = 1;
        strides.push(1);
        for len in source.iter().rev() {
            strides.push(stride);
            stride *= len;
        }
        strides.sort_unstable_by(|a, b| b.cmp(a));
        strides.dedup();
        strides.retain(|&stride| stride < count.max(2));
        let mut outer = count;
        let mut dims = Vec::new();
        for &stride in &strides {
            if stride == 0 || !outer.is_multiple_of(stride) {
                return None;
            }
            dims.push(outer / stride);
            outer = stride;
        }
        Some(Self { dims, strides })
    }

    fn taken(&self, layout: &Layout) -> Option<Taken> {
        let mut order = Vec::new();
        let mut lens: Vec<Option<u64>> = vec![None; self.dims.len()];
        for steps in &layout.axes {
            for step in steps {
                let mut at = self.strides.iter().position(|&stride| stride == step.stride)?;
                let (mut own, mut rest) = (Vec::new(), step.len);
                loop {
                    lens[at].is_none().then_some(())?;
                    let whole = rest.is_multiple_of(self.dims[at]);
                    let len = if whole { self.dims[at] } else { rest };
                    (len <= self.dims[at]).then_some(())?;
                    lens[at] = Some(len);
                    own.insert(0, at);
                    rest /= len;
                    if rest == 1 {
                        break;
                    }
                    at = at.checked_sub(1)?;
                }
                order.extend(own);
            }
        }
        self.with_cut(layout.start, order, &lens)
    }

    fn with_cut(&self, start: u64, mut order: Vec<usize>, lens: &[Option<u64>]) -> Option<Taken> {
        let (mut cut, mut rest) = (None, start);
        for (at, (&dim, &stride)) in self.dims.iter().zip(&self.strides).enumerate() {
            let (from, len) = (rest / stride, lens[at].unwrap_or(1));
            rest %= stride;
            (from + len <= dim).then_some(())?;
            if len < dim {
                cut.is_none().then_some(())?;
                cut = Some((at, from, len));
            }
            if lens[at].is_none() {
                let place = order.iter().position(|&other| other > at).unwrap_or(order.len());
                order.insert(place, at);
            }
        }
        Some(Taken { order, cut })
    }

    fn operation(&self, source: &[u64], parts: &[(&Layout, &[u64])]) -> Result<(Operation, Vec<usize>), String> {
        let none = "more than one axis of the source is cut for one target";
        let mut taken = Vec::new();
        for (at, (layout, shape)) in parts.iter().enumerate() {
            taken.push((at, self.taken(layout).ok_or(none)?, *shape));
        }
        let view = (self.dims != source).then(|| self.dims.clone());
        let (axis, sizes) = if let [(_, Taken { cut: None, .. }, _)] = &taken[..] {
            (None, None)
        } else {
            taken.sort_by_key(|(_, taken, _)| taken.cut.map(|(_, from, _)| from));
            let (axis, sizes) = self.cuts(&taken)?;
            (Some(axis), Some(sizes))
        };
        let mut operation =
            Operation { view, axis, sizes, ..Operation::plain(if axis.is_some() { "split" } else { "permute" }) };
        for (_, taken, shape) in &taken {
            let len = |&at: &usize| taken.cut.filter(|cut| cut.0 == at).map_or(self.dims[at], |cut| cut.2);
            let own: Vec<u64> = taken.order.iter().map(len).collect();
            let ordered = taken.order.is_sorted() && axis.is_some();
            operation.orders.push((!ordered).then(|| taken.order.clone()));
            operation.results.push((own != **shape).then(|| shape.to_vec()));
        }
        Ok((operation, taken.iter().map(|(at, ..)| *at).collect()))
    }

    /// The axis that all parts cut, and their sizes along it.
    fn cuts(&self, taken: &[(usize, Taken, &[u64])]) -> Result<(usize, Vec<u64>), String> {
        let whole = "one source makes several targets that share elements";
        let (axis, ..) = taken[0].1.cut.ok_or(whole)?;
        let (mut at, mut sizes) = (0, Vec::new());
        for (_, taken, _) in taken {
            let (own, from, len) = taken.cut.ok_or(whole)?;
            if own != axis {
                return Err("its parts are cut along different axes".to_owned());
            }
            if from < at {
                return Err(whole.to_owned());
            }
            if from > at {
                return Err(format!("steps {at} to {from} of the axis that is cut go into no target"));
            }
            at = from + len;
            sizes.push(len);
        }
        if at < self.dims[axis] {
            return Err(format!("steps {at} to {} of the axis that is cut go into no target", self.dims[axis]));
        }
        Ok((axis, sizes))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;

    fn view(shape: &[u64]) -> View {
        View::whole("a", Dtype::F32, shape)
    }

    fn of_parts(source: &[u64], parts: &[(View, &[u64])]) -> Result<Operation, String> {
        let layouts: Vec<Layout> =
            parts.iter().map(|(view, shape)| Layout::of(view, shape).expect("a layout")).collect();
        let parts: Vec<(&Layout, &[u64])> = layouts.iter().zip(parts).map(|(layout, part)| (layout, part.1)).collect();
        operation(source, &parts).map(|(operation, _)| operation)
    }

    #[test]
    fn whole_sources_are_copied_or_permuted() {
        let name = |source: &[u64], order: &[usize]| {
            let shape: Vec<u64> = order.iter().map(|&at| source[at]).collect();
            of_parts(source, &[(view(source).permuted(order), &shape)]).expect("can be said")
        };
        assert_eq!(name(&[3, 5], &[0, 1]).name, "copy");
        assert_eq!(name(&[3, 5], &[1, 0]).name, "transpose");
        assert_eq!(name(&[3, 5, 2, 4], &[0, 2, 3, 1]).name, "conv_oihw_to_ohwi");
        assert_eq!(name(&[6, 1, 4], &[0, 2, 1]).orders, [Some(vec![0, 2, 1])]);
        let squeezed = of_parts(&[1, 7, 1], &[(view(&[1, 7, 1]), &[7])]).expect("can be said");
        assert_eq!((squeezed.name, squeezed.view, squeezed.results), ("permute", Some(vec![7]), vec![None]));
    }

    #[test]
    fn parts_are_split_along_the_axis_they_share() {
        let (heads, nope, value, rank) = (4, 6, 5, 8);
        let whole = view(&[heads * (nope + value), rank]).reshaped(&[heads, nope + value, rank]).expect("a view");
        let key = whole.clone().narrowed(1, 0, nope).permuted(&[0, 2, 1]);
        let out = whole.narrowed(1, nope, value);
        let made =
            of_parts(&[44, 8], &[(out, &[heads, value, rank]), (key, &[heads, rank, nope])]).expect("can be said");
        assert_eq!((made.view, made.axis, made.sizes), (Some(vec![4, 11, 8]), Some(1), Some(vec![6, 5])));
        assert_eq!(made.orders, [Some(vec![0, 2, 1]), None]);
        // Gate and up in every other row.
        let pairs = view(&[3, 10]).reshaped(&[3, 5, 2]).expect("a view");
        let half = |at| (pairs.clone().narrowed(2, at, 1), &[3_u64, 5][..]);
        let made = of_parts(&[3, 10], &[half(0), half(1)]).expect("can be said");
        assert_eq!((made.axis, made.sizes, made.results[0].clone()), (Some(2), Some(vec![1, 1]), Some(vec![3, 5])));
    }

    #[test]
    fn what_a_row_cannot_say_is_an_error() {
        let part = |from, len| (view(&[9, 2]).narrowed(0, from, len), &[3_u64, 2][..]);
        let reason = |parts: &[(View, &[u64])]| of_parts(&[9, 2], parts).expect_err("cannot be said");
        assert!(reason(&[part(0, 3), part(6, 3)]).contains("steps 3 to 6"));
        assert!(reason(&[part(0, 3), part(3, 3)]).contains("steps 6 to 9"));
        assert!(reason(&[part(0, 3), part(2, 3)]).contains("share elements"));
        let twice = [(view(&[9, 2]), &[9_u64, 2][..]), (view(&[9, 2]), &[9_u64, 2][..])];
        assert!(reason(&twice).contains("share elements"));
    }

    #[test]
    fn rotary_halves_become_pairs_by_a_view() {
        let turned = view(&[12, 5]).reshaped(&[3, 2, 2, 5]).expect("a view").permuted(&[0, 2, 1, 3]);
        let made = of_parts(&[12, 5], &[(turned, &[12, 5])]).expect("can be said");
        assert_eq!(made.view, Some(vec![3, 2, 2, 5]));
        assert_eq!((made.orders, made.results), (vec![Some(vec![0, 2, 1, 3])], vec![Some(vec![12, 5])]));
    }
}

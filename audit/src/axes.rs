//! Which tensors are kernels, and the orders that axes may be in.

/// Whether a release's tensor is a kernel, whose channels MLX has last.
pub fn is_convolution(key: &str, shape: &[u64]) -> bool {
    let named =
        ["conv", "patch_embed", "patch_embedding", "patchify", "downsample"].iter().any(|name| key.contains(name));
    (shape.len() >= 4 && !key.contains("expert")) || (shape.len() == 3 && named)
}

/// Orders of axes other than as they are, and whether each is usual.
pub fn orders(rank: usize, conv: bool) -> Vec<(Vec<usize>, bool)> {
    let mut all: Vec<(Vec<usize>, bool)> = Vec::new();
    if !(2..=5).contains(&rank) {
        return all;
    }
    if conv {
        // [O, I, …] → [O, …, I], and of transposed convolutions [I, O, …] → [O, …, I].
        all.push(([0].into_iter().chain(2..rank).chain([1]).collect(), true));
        all.push(((1..rank).chain([0]).collect(), true));
    }
    let mut order: Vec<usize> = (0..rank).collect();
    let identity = order.clone();
    permutations(&mut order, 0, &mut |order| {
        if order != identity && !all.iter().any(|(known, _)| known == order) {
            all.push((order.to_vec(), !conv));
        }
    });
    all
}

pub fn permutations(order: &mut Vec<usize>, at: usize, found: &mut impl FnMut(&[usize])) {
    if at == order.len() {
        return found(order);
    }
    for other in at..order.len() {
        order.swap(at, other);
        permutations(order, at + 1, found);
        order.swap(at, other);
    }
}

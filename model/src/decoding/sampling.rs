//! From scores to a token: the greatest, or drawn by temperature, top-k and top-p with a seed (transformers' warpers, in its order).

/// How a token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Scores are divided by it; 0 takes the greatest.
    pub temperature: f32,
    /// Only the k best; 0: all.
    pub top_k: usize,
    /// Only the fewest best whose probabilities sum to at least this; 1: all.
    pub top_p: f32,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy, as the release decodes.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    /// A sampler at the beginning of its seed's sequence.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        let state = sampling.seed;
        Self { sampling, state }
    }

    /// A token by its score; the first of equal ones where greedy. None where no score is a number above −∞, or one is NaN.
    pub fn choose(&mut self, scores: &[f32]) -> Option<i32> {
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut ranked: Vec<usize> = (0..scores.len()).filter(|&at| scores[at] > f32::NEG_INFINITY).collect();
        if self.sampling.temperature <= 0.0 {
            return first_greatest(scores, &ranked);
        }
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        if self.sampling.top_k > 0 {
            ranked.truncate(self.sampling.top_k);
        }
        let top = f64::from(*scores.get(*ranked.first()?)?);
        let temperature = f64::from(self.sampling.temperature);
        let mut weights: Vec<f64> =
            ranked.iter().map(|&at| ((f64::from(scores[at]) - top) / temperature).exp()).collect();
        let wanted = f64::from(self.sampling.top_p) * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let kept = weights.iter().position(|weight| {
            sum += weight;
            sum >= wanted
        });
        weights.truncate(kept.map_or(weights.len(), |last| last + 1));
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        i32::try_from(ranked[drawn.unwrap_or(weights.len() - 1)]).ok()
    }

    /// In \[0, 1), by SplitMix64.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn first_greatest(scores: &[f32], indices: &[usize]) -> Option<i32> {
    let best = indices.iter().copied().reduce(|best, at| if scores[at] > scores[best] { at } else { best })?;
    i32::try_from(best).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sampling: Sampling, scores: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0; scores.len()];
        for _ in 0..20_000 {
            counts[sampler.choose(scores).expect("a token") as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / 20_000.0).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_greatest_and_nothing_from_nan() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.choose(&[0.0, 2.0, 2.0, -1.0]), Some(1));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(sampler.choose(&[0.0, f32::NAN]), None);
        assert_eq!(sampler.choose(&[]), None);
    }

    #[test]
    fn drawn_tokens_have_the_shares_of_their_probabilities() {
        let scores = [3.0_f32.ln(), 2.0_f32.ln(), 1.0_f32.ln(), f32::NEG_INFINITY];
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        let near = |found: Vec<f64>, want: [f64; 4]| {
            assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.015), "{found:?} {want:?}");
        };
        near(shares(warm.clone(), &scores), [0.5, 1.0 / 3.0, 1.0 / 6.0, 0.0]);
        near(shares(Sampling { top_k: 2, ..warm.clone() }, &scores), [0.6, 0.4, 0.0, 0.0]);
        near(shares(Sampling { top_p: 0.6, ..warm.clone() }, &scores), [0.6, 0.4, 0.0, 0.0]);
        near(shares(Sampling { top_p: 0.1, ..warm.clone() }, &scores), [1.0, 0.0, 0.0, 0.0]);
        near(shares(Sampling { temperature: 0.5, ..warm }, &scores), [9.0 / 14.0, 4.0 / 14.0, 1.0 / 14.0, 0.0]);
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..Sampling::default() });
            (0..20).map(|_| sampler.choose(&[0.0; 50])).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}

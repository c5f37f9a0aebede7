//! Sliding patches as columns (`F.unfold`), with kernel, stride, padding and dilation; no loop over patches.

use mlx_rs::{Array, ops};

use crate::error::{Error, Result};

/// The numbers of `F.unfold`, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfold {
    /// Edge of a patch.
    pub kernel: i32,
    /// From one patch to the next.
    pub stride: i32,
    /// Zeros on every side.
    pub padding: i32,
    /// From one element of a patch to the next.
    pub dilation: i32,
}

/// In which order a patch's elements stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// `[C, kh, kw]`, as PyTorch's unfold and the weights behind it have them.
    ChannelsFirst,
    /// `[kh, kw, C]`, as channels-last memory has them: for weights whose columns were permuted when they were converted.
    ChannelsLast,
}

impl Unfold {
    /// Patches side by side without gap or overlap.
    #[must_use]
    pub fn tiles(edge: i32) -> Self {
        Self { kernel: edge, stride: edge, padding: 0, dilation: 1 }
    }

    /// \[N, H, W, C\] → \[N, patches, C·kernel²\], patches row by row.
    ///
    /// # Errors
    /// When no patch fits, or a number is not positive.
    pub fn patches(self, x: &Array, columns: Columns) -> Result<Array> {
        let (batch, channels) = (x.dim(0), x.dim(3));
        let Self { kernel, padding, .. } = self;
        let (across, down) = (self.padded_indices(x.dim(2))?, self.padded_indices(x.dim(1))?);
        let side = (padding, padding);
        let x = ops::pad(x, &[(0, 0), side, side, (0, 0)][..], None, None)?;
        let (rows, cols) = (across_indices(&down), across_indices(&across));
        let x = x.take_axis(rows, 1)?.take_axis(cols, 2)?;
        let (down, across) = ((down.len() as i32) / kernel, (across.len() as i32) / kernel);
        let x = x.reshape(&[batch, down, kernel, across, kernel, channels])?;
        let x = x.transpose_axes(match columns {
            Columns::ChannelsFirst => &[0, 1, 3, 5, 2, 4],
            Columns::ChannelsLast => &[0, 1, 3, 2, 4, 5],
        })?;
        Ok(x.reshape(&[batch, down * across, channels * kernel * kernel])?)
    }

    /// For each patch along an axis of `len`, the padded indices of its elements.
    fn padded_indices(self, len: i32) -> Result<Vec<i32>> {
        let Self { kernel, stride, padding, dilation } = self;
        let reach = i64::from(dilation) * (i64::from(kernel) - 1) + 1;
        let padded = i64::from(len) + 2 * i64::from(padding);
        if kernel < 1 || stride < 1 || padding < 0 || dilation < 1 || padded < reach {
            let found = format!("{self:?} on an axis of {len}");
            return Err(Error::input("unfold", "positive numbers and room for one patch", found));
        }
        let count = ((padded - reach) / i64::from(stride) + 1) as i32;
        Ok((0..count).flat_map(|patch| (0..kernel).map(move |at| patch * stride + at * dilation)).collect())
    }
}

fn across_indices(indices: &[i32]) -> Array {
    Array::from_slice(indices, &[indices.len() as i32])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, element by element.
    fn naive(unfold: Unfold, x: &[f32], [height, width, channels]: [i32; 3], columns: Columns) -> Vec<f32> {
        let Unfold { kernel, stride, padding, dilation } = unfold;
        let count = |len: i32| (len + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
        let value = |row: i32, col: i32, channel: i32| {
            let inside = (0..height).contains(&row) && (0..width).contains(&col);
            if inside { x[((row * width + col) * channels + channel) as usize] } else { 0.0 }
        };
        let mut out = Vec::new();
        for place in 0..count(height) * count(width) {
            let (down, across) = (place / count(width), place % count(width));
            for at in 0..kernel * kernel * channels {
                let (channel, ky, kx) = match columns {
                    Columns::ChannelsFirst => (at / (kernel * kernel), at / kernel % kernel, at % kernel),
                    Columns::ChannelsLast => (at % channels, at / channels / kernel, at / channels % kernel),
                };
                out.push(value(
                    down * stride + ky * dilation - padding,
                    across * stride + kx * dilation - padding,
                    channel,
                ));
            }
        }
        out
    }

    #[test]
    fn patches_are_those_of_the_definition() {
        for case in 0..160 {
            let [kernel, stride, padding, dilation] =
                [1 + case % 4, 1 + case / 4 % 3, case / 12 % 3, 1 + case / 36 % 2];
            let unfold = Unfold { kernel, stride, padding, dilation };
            let [height, width, channels] = [7 + case % 3, 8 + case % 5, 1 + case % 3];
            let x: Vec<f32> = (0..height * width * channels).map(|i| i as f32 + 1.0).collect();
            let array = Array::from_slice(&x, &[1, height, width, channels]);
            for columns in [Columns::ChannelsFirst, Columns::ChannelsLast] {
                let got = unfold.patches(&array, columns).expect("patches").contiguous().expect("contiguous");
                let want = naive(unfold, &x, [height, width, channels], columns);
                assert_eq!(got.try_as_slice::<f32>().expect("floats"), want, "{unfold:?} {columns:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let x = Array::from_slice(&[0.0_f32; 12], &[1, 3, 4, 1]);
        for (kernel, stride, padding, dilation) in
            [(4, 1, 0, 1), (0, 1, 0, 1), (2, 0, 0, 1), (2, 1, -1, 1), (2, 1, 0, 3)]
        {
            let unfold = Unfold { kernel, stride, padding, dilation };
            assert!(unfold.patches(&x, Columns::ChannelsFirst).is_err(), "{unfold:?}");
        }
    }
}

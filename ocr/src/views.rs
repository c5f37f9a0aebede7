//! A page as the model sees it: one whole view, fitted into a square, and in gundam mode a grid of tiles. Follows
//! `infer` and `dynamic_preprocess` of `modeling_deepseekocr.py`, and Pillow's `ImageOps.pad`.

use crate::OcrError;
use crate::page::Page;
use crate::resample::{Arithmetic, resize, resize_by};

/// A tile's side in pixels.
pub const TILE: usize = 640;
/// Tiles of a grid: at least, at most.
const TILES: std::ops::RangeInclusive<usize> = 2..=9;
/// `int(0.5 * 255)`: what a view is filled up with.
const GREY: u8 = 127;
/// A patch's side in pixels, times what the projector's convolutions shrink a side by.
const PIXELS_A_TOKEN: usize = 16 * 4;

/// The release's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Mode {
    /// One view of 512 pixels, stretched to a square.
    Tiny,
    /// One view of 640 pixels, stretched to a square.
    Small,
    /// One view of 1024 pixels, padded.
    Base,
    /// One view of 1280 pixels, padded.
    Large,
    /// One view of 1024 pixels, padded, and up to nine tiles of 640.
    Gundam,
}

impl Mode {
    /// The whole view's side in pixels.
    #[must_use]
    pub fn side(self) -> usize {
        match self {
            Self::Tiny => 512,
            Self::Small => TILE,
            Self::Base | Self::Gundam => 1024,
            Self::Large => 1280,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Base => "base",
            Self::Large => "large",
            Self::Gundam => "gundam",
        }
    }
}

/// How a family of models has pages cut: what differs between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// A tile's side in pixels; smaller pages have no tiles.
    pub tile: usize,
    /// The fewest tiles of a grid.
    pub least: usize,
    /// The most.
    pub most: usize,
    /// Whether a newline's token ends each row of features.
    pub has_newlines: bool,
    /// Whether sides and margins of a padded view are rounded as transformers' image processors round them, not as Pillow does.
    pub as_transformers: bool,
    /// How pages are resized.
    pub arithmetic: Arithmetic,
}

impl Default for Cut {
    /// DeepSeek-OCR's.
    fn default() -> Self {
        Self {
            tile: TILE,
            least: *TILES.start(),
            most: *TILES.end(),
            has_newlines: true,
            as_transformers: false,
            arithmetic: Arithmetic::Pillow,
        }
    }
}

/// A page's views.
#[derive(Clone, Debug)]
pub struct Views {
    /// The whole page, square, [`Mode::side`] pixels a side.
    pub whole: Page,
    /// Columns and rows of the grid; `[1, 1]` where there are no tiles.
    pub grid: [usize; 2],
    /// The tiles, `cut.tile` pixels a side, row by row.
    pub tiles: Vec<Page>,
    /// How they were cut.
    pub cut: Cut,
}

impl Views {
    /// One of them as float32, channels first, from -1 to 1: `v / 255`, less the mean 0.5, over the deviation 0.5, each step rounded, as
    /// torchvision's `ToTensor` and `Normalize` do and transformers' processors for Pillow; where PyTorch resizes, `v` less 127.5, over 127.5, as
    /// transformers' processors join both steps.
    #[must_use]
    pub fn values(&self, page: &Page) -> Vec<f32> {
        let value = match self.cut.arithmetic {
            Arithmetic::Pillow => |byte: u8| (f32::from(byte) / 255.0 - 0.5) / 0.5,
            Arithmetic::Torch => |byte: u8| (f32::from(byte) - 127.5) / 127.5,
        };
        (0..3).flat_map(|channel| page.rgb().iter().skip(channel).step_by(3).map(move |byte| value(*byte))).collect()
    }

    /// How many tokens stand for the page: a row of features ends with a newline each, and a separator follows the
    /// whole view.
    #[must_use]
    pub fn token_count(&self) -> usize {
        let side = self.whole.width().div_ceil(PIXELS_A_TOKEN);
        let tile = self.cut.tile.div_ceil(PIXELS_A_TOKEN);
        let [columns, rows] = self.grid;
        if !self.cut.has_newlines {
            return side * side + self.tiles.len() * tile * tile + 1;
        }
        let tiles = if self.tiles.is_empty() { 0 } else { (tile * columns + 1) * tile * rows };
        (side + 1) * side + 1 + tiles
    }
}

/// Makes a page's views.
///
/// # Errors
/// When the page is so thin that nothing of it is left in the view.
pub fn views(page: &Page, mode: Mode) -> Result<Views, OcrError> {
    views_of(page, mode, Cut::default())
}

/// The same for another family of models.
///
/// # Errors
/// As [`views`].
pub fn views_of(page: &Page, mode: Mode, cut: Cut) -> Result<Views, OcrError> {
    let side = mode.side();
    let whole = match mode {
        Mode::Tiny | Mode::Small => resize_by(cut.arithmetic, page, side, side),
        Mode::Base | Mode::Large | Mode::Gundam if cut.as_transformers => pad_as_transformers(page, side, cut)?,
        Mode::Base | Mode::Large | Mode::Gundam => pad(page, side)?,
    };
    let fits = page.width() <= cut.tile && page.height() <= cut.tile;
    if mode != Mode::Gundam || fits {
        return Ok(Views { whole, grid: [1, 1], tiles: Vec::new(), cut });
    }
    let grid = choose_grid(page.width(), page.height(), cut);
    let [columns, rows] = grid;
    let edge = cut.tile;
    let stretched = resize_by(cut.arithmetic, page, columns * edge, rows * edge);
    let tile = |at: usize| stretched.part(at % columns * edge, at / columns * edge, edge, edge);
    Ok(Views { whole, grid, tiles: (0..columns * rows).map(tile).collect(), cut })
}

/// The grid whose proportions are nearest to the page's. Of equally near ones, tried from few tiles to many, a later
/// one wins only if the page has more than half as many pixels as it.
fn choose_grid(width: usize, height: usize, cut: Cut) -> [usize; 2] {
    let most = cut.most;
    let mut grids: Vec<[usize; 2]> = (1..=most)
        .flat_map(|columns| (1..=most).map(move |rows| [columns, rows]))
        .filter(|[columns, rows]| (cut.least..=most).contains(&(columns * rows)))
        .collect();
    grids.sort_by_key(|[columns, rows]| columns * rows);
    let wanted = width as f64 / height as f64;
    let area = (width * height) as f64;
    let (mut best, mut least) = ([1, 1], f64::INFINITY);
    for [columns, rows] in grids {
        let difference = (wanted - columns as f64 / rows as f64).abs();
        let large = area > 0.5 * (cut.tile * cut.tile * columns * rows) as f64;
        if difference < least || (difference == least && large) {
            (best, least) = ([columns, rows], difference);
        }
    }
    best
}

/// Fits a page into a square and centres it on grey, as `ImageOps.pad` does. Halves are rounded to even, as Python does.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "non-negative and at most `side`")]
fn pad(page: &Page, side: usize) -> Result<Page, OcrError> {
    let (from_width, from_height) = (page.width() as f64, page.height() as f64);
    let fit = |ratio: f64| (ratio * side as f64).round_ties_even() as usize;
    let ratio = from_width / from_height;
    let (width, height) = if ratio > 1.0 {
        (side, fit(from_height / from_width))
    } else if ratio < 1.0 {
        (fit(from_width / from_height), side)
    } else {
        (side, side)
    };
    let middle = |length: usize| ((side.saturating_sub(length)) as f64 * 0.5).round_ties_even() as usize;
    centred(page, (width, height), (middle(width), middle(height)), (side, &|page| resize(page, width, height)))
}

/// The same as transformers' image processors do it: both sides times one factor, halves to even, the smaller margin first.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "non-negative and at most `side`")]
fn pad_as_transformers(page: &Page, side: usize, cut: Cut) -> Result<Page, OcrError> {
    let scale = side as f64 / page.width().max(page.height()) as f64;
    let fit = |length: usize| ((length as f64 * scale).round_ties_even() as usize).min(side);
    let (width, height) = (fit(page.width()), fit(page.height()));
    let fitted = |page: &Page| resize_by(cut.arithmetic, page, width, height);
    centred(page, (width, height), ((side - width) / 2, (side - height) / 2), (side, &fitted))
}

/// The page at a size, on grey, so far from the left and from the top.
fn centred(
    page: &Page,
    (width, height): (usize, usize),
    (left, top): (usize, usize),
    (side, fitted): (usize, &dyn Fn(&Page) -> Page),
) -> Result<Page, OcrError> {
    if width == 0 || height == 0 {
        return Err(OcrError::TooThin { width: page.width(), height: page.height(), size: side });
    }
    let fitted = fitted(page);
    let mut rgb = vec![GREY; side * side * 3];
    for (y, row) in fitted.rgb().chunks_exact(width * 3).enumerate() {
        let at = ((top + y) * side + left) * 3;
        rgb[at..at + row.len()].copy_from_slice(row);
    }
    Ok(Page::from_parts(side, side, rgb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(width: usize, height: usize) -> Page {
        Page::new(width, height, vec![200; width * height * 3]).expect("a page")
    }

    #[test]
    fn grids_are_the_releases() {
        for (size, grid) in [((1240, 1754), [2, 3]), ((1600, 500), [3, 1]), ((641, 640), [2, 2]), ((100, 6400), [1, 9])]
        {
            assert_eq!(choose_grid(size.0, size.1, Cut::default()), grid, "{size:?}");
        }
    }

    #[test]
    fn a_tie_goes_to_more_tiles_only_for_large_pages() {
        // 1:2 is [1, 2] and [2, 4], whose half is 1,638,400 pixels.
        assert_eq!(choose_grid(905, 1810, Cut::default()), [1, 2]);
        assert_eq!(choose_grid(906, 1812, Cut::default()), [2, 4]);
        assert_eq!(
            choose_grid(1280, 1280, Cut::default()),
            [3, 3].map(|n| if 1280 * 1280 > n * n * TILE * TILE / 2 { n } else { 2 })
        );
    }

    #[test]
    fn pages_up_to_a_tile_have_no_tiles() {
        assert_eq!(views(&blank(640, 640), Mode::Gundam).expect("views").token_count(), 273);
        assert_eq!(views(&blank(641, 640), Mode::Gundam).expect("views").tiles.len(), 4);
    }

    #[test]
    fn normalization_rounds_as_float32_does() {
        let page = Page::new(1, 1, vec![0, 127, 255]).expect("a page");
        let bits = |cut| -> Vec<u32> {
            let views = views_of(&page, Mode::Tiny, cut).expect("views");
            views.values(&page).iter().map(|v| v.to_bits()).collect()
        };
        // 127 / 255 rounds before 0.5 is taken from it: -0.003921569 in double is another float.
        assert_eq!(bits(Cut::default()), [0xbf80_0000, 0xbb80_8080, 0x3f80_0000]);
        assert_eq!(bits(Cut { arithmetic: Arithmetic::Torch, ..Cut::default() })[1], (-0.5_f32 / 127.5).to_bits());
    }

    #[test]
    fn other_families_cut_otherwise() {
        let second = Cut { tile: 768, least: 2, most: 6, has_newlines: false, as_transformers: true, ..Cut::default() };
        let cut = |width, height| views_of(&blank(width, height), Mode::Gundam, second).expect("views");
        assert_eq!((cut(768, 500).grid, cut(768, 500).token_count()), ([1, 1], 257));
        assert_eq!((cut(1240, 1754).grid, cut(1240, 1754).token_count()), ([2, 3], 257 + 6 * 144));
        let many = Cut { most: 32, as_transformers: true, ..Cut::default() };
        assert_eq!(views_of(&blank(500, 9000), Mode::Gundam, many).expect("views").grid, [1, 18]);
    }

    #[test]
    fn padding_is_centred_with_halves_to_even() {
        // 1022.5 rows become 1022, so one grey row lies above and one below.
        let whole = pad(&blank(2048, 2045), 1024).expect("a view");
        let column: Vec<u8> = whole.rgb().chunks_exact(1024 * 3).map(|row| row[0]).collect();
        assert_eq!((column[0], column[1], column[1022], column[1023]), (GREY, 200, 200, GREY));
        assert!(matches!(pad(&blank(5000, 1), 1024), Err(OcrError::TooThin { .. })));
    }
}

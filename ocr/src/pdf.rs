//! PDF documents: pages drawn as `run_dpsk_ocr_pdf.py` has them drawn (144 dots an inch, on white, no alpha), within limits on
//! bytes, pages and pixels.
//!
//! The drawing is hayro's, in Rust throughout. A panic in it is caught and reported; a page that takes it long or much memory is the
//! caller's to stop: `mlxport ocr` draws in a process of its own.

mod annotations;
mod contents;
mod fonts;
mod look;
mod marks;
mod overlay;
mod values;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hayro::hayro_interpret::{InterpreterSettings, InterpreterWarning, util::TransformExt as _};
use hayro::hayro_syntax::page::Page as PdfPage;
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro::kurbo::Affine;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit, color::palette::css::WHITE};
use hayro::{RenderCache, RenderSettings, render_into};

use fonts::{Face, Fonts};

use crate::OcrError;
use crate::file::Decoded;
use crate::page::Page;

/// The release's dots an inch.
pub const DPI: u16 = 144;
/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;
/// The most pages of a document.
pub const MAX_PAGES: usize = 20_000;
/// The most pixels of a page: an A0 sheet at 200 dots an inch has 62 million.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Points an inch: what a PDF measures in.
const POINTS: f32 = 72.0;
/// The fewest dots an inch that a page is drawn at instead of those asked for. A large scan's sides, said in pixels, need 12.
const LEAST_DPI: f32 = 4.0;
/// Where the end of a file is looked for, in bytes from its end.
const TAIL: usize = 2048;
/// MuPDF's tolerance where it rounds a page's sides up to whole pixels.
const ROUNDING: f32 = 0.001;

/// An open document.
pub struct Document {
    origin: String,
    pdf: Pdf,
    is_cut_off: bool,
}

/// Draws a document's pages; what one page needed (fonts, glyphs) is kept for the next.
pub struct Drawer<'a> {
    document: &'a Document,
    cache: RenderCache<'a>,
    fonts: Fonts,
    /// Characters that were looked for last, and the font that has most of them.
    looked_for: (BTreeSet<char>, Option<Face>),
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({}, {} pages)", self.origin, self.page_count())
    }
}

impl Document {
    /// Opens a PDF file; the password may be empty.
    ///
    /// # Errors
    /// When the file cannot be read, is over the limits, is no PDF, or does not open with this password.
    pub fn open(path: &Path, password: &str) -> Result<Self, OcrError> {
        let io = |source| OcrError::Io { path: path.to_owned(), source };
        let origin = path.display().to_string();
        // Asked before opening: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(OcrError::NotAPdf { origin, reason: "not a regular file".to_owned() });
        }
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::read(&origin, bytes, password)
    }

    /// As [`Document::open`], from a file's bytes; `origin` names them in errors.
    ///
    /// # Errors
    /// As [`Document::open`].
    pub fn read(origin: &str, bytes: Vec<u8>, password: &str) -> Result<Self, OcrError> {
        let broken = |reason: &str| OcrError::NotAPdf { origin: origin.to_owned(), reason: reason.to_owned() };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(broken(&format!("expected at most {MAX_BYTES} bytes, found more")));
        }
        if bytes.is_empty() {
            return Err(broken("the file is empty"));
        }
        let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
        let is_cut_off = !tail.windows(9).any(|word| word == b"startxref");
        let loaded = catch_unwind(AssertUnwindSafe(|| Pdf::new_with_password(bytes, password)));
        let pdf = match loaded.map_err(|_| broken("its objects cannot be read"))? {
            Ok(pdf) => pdf,
            Err(LoadPdfError::Decryption(DecryptionError::PasswordProtected)) => {
                return Err(OcrError::PdfPassword { origin: origin.to_owned(), given: !password.is_empty() });
            }
            Err(LoadPdfError::Decryption(DecryptionError::UnsupportedAlgorithm)) => {
                return Err(broken("it is encrypted in a way that is not known here"));
            }
            Err(LoadPdfError::Decryption(_)) => return Err(broken("what it says of its encryption is broken")),
            Err(LoadPdfError::Invalid) => return Err(broken("truncated, broken, or something else")),
        };
        match pdf.pages().len() {
            0 => Err(broken("it has no pages")),
            count if count > MAX_PAGES => Err(broken(&format!("expected at most {MAX_PAGES} pages, found {count}"))),
            _ => Ok(Self { origin: origin.to_owned(), pdf, is_cut_off }),
        }
    }

    /// How many pages it has; at least 1.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pdf.pages().len()
    }

    /// What draws its pages, with the system's fonts where the document holds none.
    #[must_use]
    pub fn drawer(&self) -> Drawer<'_> {
        self.drawer_with(Vec::new())
    }

    /// As [`Document::drawer`], with fonts of these directories before the system's.
    #[must_use]
    pub fn drawer_with(&self, fonts: Vec<PathBuf>) -> Drawer<'_> {
        let fonts = Fonts::new(fonts);
        Drawer { document: self, cache: RenderCache::new(), fonts, looked_for: (BTreeSet::new(), None) }
    }

    /// A page's sides in pixels, rounded up as MuPDF rounds them, and pixels a point. A page that would have too many pixels is drawn
    /// at fewer dots an inch: a scan's sides may be said in pixels, as if they were points.
    fn sides(&self, index: usize, dpi: u16) -> Result<(u16, u16, f32), OcrError> {
        let wrong = |reason: String| OcrError::PdfPage { origin: self.origin.clone(), page: index + 1, reason };
        let page = self.pdf.pages().get(index);
        let page = page.ok_or_else(|| wrong(format!("expected a page up to {}", self.page_count())))?;
        let (width, height) = page.render_dimensions();
        let unit = page.raw().get::<f32>(b"UserUnit").filter(|unit| unit.is_finite() && *unit > 0.0).unwrap_or(1.0);
        let pixels = |points: f32, scale: f32| (points * scale - ROUNDING).ceil().max(1.0);
        let fits = |scale: f32| {
            let (width, height) = (pixels(width, scale), pixels(height, scale));
            let largest = f32::from(u16::MAX);
            // Written so that NaN does not fit.
            let fits =
                width <= largest && height <= largest && f64::from(width) * f64::from(height) <= MAX_PIXELS as f64;
            fits.then_some((width as u16, height as u16, scale))
        };
        let wanted = f32::from(dpi) * unit / POINTS;
        let by_area = (MAX_PIXELS as f32 / (width * height)).sqrt();
        let by_side = f32::from(u16::MAX) / width.max(height);
        // A little less: what is rounded up must fit, too.
        let smaller = by_area.min(by_side) * 0.999;
        let least = LEAST_DPI * unit / POINTS;
        fits(wanted).or_else(|| fits(smaller).filter(|_| smaller < wanted && smaller >= least)).ok_or_else(|| {
            let (width, height) = (pixels(width, wanted), pixels(height, wanted));
            wrong(format!(
                "expected at most {MAX_PIXELS} pixels at {dpi} dpi, found {width}×{height}, and too many even at {LEAST_DPI} dpi: \
                 its sides are wrong, or a lower --dpi draws it"
            ))
        })
    }

    /// What is to be said of every page: the file is cut off.
    fn cut_off(&self) -> Option<String> {
        self.is_cut_off.then(|| {
            "the end of the file is missing: what could be found of the page is drawn, the rest is lost".to_owned()
        })
    }
}

impl<'a> Drawer<'a> {
    /// Draws the page `index`, counted from 0, at `dpi` dots an inch, or fewer where it would have too many pixels.
    ///
    /// # Errors
    /// When there is no such page, it is too large at any size, or it cannot be drawn.
    pub fn draw(&mut self, index: usize, dpi: u16) -> Result<Decoded, OcrError> {
        let document = self.document;
        let sides = document.sides(index, dpi)?;
        let wrong = |reason: &str| OcrError::PdfPage {
            origin: document.origin.clone(),
            page: index + 1,
            reason: reason.to_owned(),
        };
        let mut notes: Vec<String> = document.cut_off().into_iter().collect();
        let page = document.pdf.pages().get(index).ok_or_else(|| wrong("there is no such page"))?;
        // What breaks the look at them breaks the drawing, too, and is reported there.
        let found = catch_unwind(AssertUnwindSafe(|| contents::contents(page))).unwrap_or_default();
        if found.parts > 0 && found.parts == found.unreadable {
            return Err(wrong("its contents cannot be read: they are cut off or broken"));
        }
        notes.extend(found.notes());
        notes.extend(catch_unwind(AssertUnwindSafe(|| contents::lost_objects(page))).unwrap_or_default());
        notes.extend(catch_unwind(AssertUnwindSafe(|| contents::passed_over(page))).unwrap_or_default());
        let undrawn = catch_unwind(AssertUnwindSafe(|| annotations::undrawn(page))).unwrap_or_default();
        notes.extend(undrawn.notes);
        // What breaks the search breaks the drawing, too, and is reported there.
        let missing = catch_unwind(AssertUnwindSafe(|| self.find_fonts(page))).unwrap_or_default();
        notes.extend(told_of(&missing));
        let warned = Arc::new(Mutex::new(BTreeSet::new()));
        let drawn = catch_unwind(AssertUnwindSafe(|| self.pixels(index, sides, undrawn.overlay, &warned)));
        notes.extend(
            warned
                .lock()
                .map(|warned| warned.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
                .unwrap_or_default(),
        );
        if let Ok(Some(page)) = drawn {
            return Ok(Decoded { page, notes });
        }
        let error = wrong("its contents cannot be drawn");
        // What a panic left in it may be half done.
        self.cache = RenderCache::new();
        Err(error)
    }

    /// Finds fonts for characters that have no glyph, one font for each that the document names; returns those that no font has.
    fn find_fonts(&mut self, page: &PdfPage<'_>) -> BTreeSet<char> {
        let mut missing = look::missing(page, &self.fonts);
        for asked in self.fonts.asked() {
            if missing.is_empty() {
                break;
            }
            if self.looked_for.0 != missing {
                self.looked_for = (missing.clone(), self.fonts.best(&missing));
            }
            let Some(face) = self.looked_for.1.clone() else { break };
            let before = self.fonts.choose(asked, Some(face));
            let now = look::missing(page, &self.fonts);
            if now.len() < missing.len() {
                missing = now;
                // It holds the font that was there before.
                self.cache = RenderCache::new();
            } else {
                self.fonts.choose(asked, before);
            }
        }
        missing
    }

    fn pixels(
        &self,
        index: usize,
        (width, height, scale): (u16, u16, f32),
        overlay: Option<Vec<u8>>,
        warned: &Arc<Mutex<BTreeSet<&'static str>>>,
    ) -> Option<Page> {
        let page = self.document.pdf.pages().get(index)?;
        let mut context = RenderContext::new(width, height);
        let transform = Affine::scale(f64::from(scale)) * page.initial_transform(true).to_kurbo();
        let (mut settings, how) = (InterpreterSettings::default(), RenderSettings::default());
        settings.font_resolver = self.fonts.resolver();
        let sink = Arc::clone(warned);
        settings.warning_sink = Arc::new(move |warning| {
            if let Ok(mut warned) = sink.lock() {
                warned.insert(warning_text(warning));
            }
        });
        render_into(page, &self.cache, &settings, &how, &mut context, transform);
        if let Some(overlay) = overlay.and_then(|bytes| Pdf::new(bytes).ok()) {
            let above = overlay.pages().first()?;
            let usual = InterpreterSettings::default();
            render_into(above, &RenderCache::new(), &usual, &how, &mut context, transform);
        }
        context.flush();
        let mut pixmap = Pixmap::new(width, height);
        let on_white = RasterizerSettings { target_init: TargetInit::Clear(WHITE), ..Default::default() };
        context.render_with(&mut pixmap, &mut Resources::default(), on_white);
        let rgb = pixmap.data().iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        Page::new(usize::from(width), usize::from(height), rgb)
    }
}

/// What is to be said of characters without a glyph.
fn told_of(missing: &BTreeSet<char>) -> Option<String> {
    const SHOWN: usize = 12;
    let shown: String = missing.iter().take(SHOWN).collect();
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    (!missing.is_empty()).then(|| {
        format!(
            "{} characters have no glyph in the document or in any font here, and are missing: {shown}{more}; \
             --fonts DIR names more fonts",
            missing.len()
        )
    })
}

/// What a warning of the renderer's means to a reader.
fn warning_text(warning: InterpreterWarning) -> &'static str {
    match warning {
        InterpreterWarning::UnsupportedFont => "a font cannot be used: its text is missing",
        InterpreterWarning::ImageDecodeFailure => "an image cannot be decoded: it is missing",
        InterpreterWarning::UnresolvedAnnotationAppearance => "an annotation cannot be drawn: it is missing",
        _ => "the renderer warns of something missing",
    }
}

#[cfg(test)]
#[path = "../testdata/pdf.rs"]
mod written;

#[cfg(test)]
mod tests;

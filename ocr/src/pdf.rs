//! PDF documents: pages drawn as `run_dpsk_ocr_pdf.py` has them drawn (144 dots an inch, on white, no alpha), within limits on
//! bytes, pages and pixels.
//!
//! The drawing is hayro's, in Rust throughout. A panic in it is caught and told; a page that takes it long or much memory is the
//! caller's to stop: `mlxport ocr` draws in a process of its own.

use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hayro::hayro_interpret::{InterpreterSettings, util::TransformExt as _};
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro::kurbo::Affine;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit, color::palette::css::WHITE};
use hayro::{RenderCache, RenderSettings, render_into};

use crate::OcrError;
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
/// MuPDF's tolerance where it rounds a page's sides up to whole pixels.
const ROUNDING: f32 = 0.001;

/// An open document.
pub struct Document {
    origin: String,
    pdf: Pdf,
}

/// Draws a document's pages; what one page needed (fonts, glyphs) is kept for the next.
pub struct Drawer<'a> {
    document: &'a Document,
    cache: RenderCache<'a>,
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
            _ => Ok(Self { origin: origin.to_owned(), pdf }),
        }
    }

    /// How many pages it has; at least 1.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pdf.pages().len()
    }

    /// What draws its pages.
    #[must_use]
    pub fn drawer(&self) -> Drawer<'_> {
        Drawer { document: self, cache: RenderCache::new() }
    }

    /// A page's sides in pixels, rounded up as MuPDF rounds them.
    fn sides(&self, index: usize, dpi: u16) -> Result<(u16, u16), OcrError> {
        let wrong = |reason: String| OcrError::PdfPage { origin: self.origin.clone(), page: index + 1, reason };
        let page = self.pdf.pages().get(index);
        let page = page.ok_or_else(|| wrong(format!("expected a page up to {}", self.page_count())))?;
        let (width, height) = page.render_dimensions();
        let pixels = |points: f32| (points * f32::from(dpi) / POINTS - ROUNDING).ceil().max(1.0);
        let (width, height) = (pixels(width), pixels(height));
        let largest = f32::from(u16::MAX);
        // Written so that NaN is refused, too.
        if !(width <= largest && height <= largest && f64::from(width) * f64::from(height) <= MAX_PIXELS as f64) {
            return Err(wrong(format!("expected at most {MAX_PIXELS} pixels at {dpi} dpi, found {width}×{height}")));
        }
        Ok((width as u16, height as u16))
    }
}

impl<'a> Drawer<'a> {
    /// Draws the page `index`, counted from 0, at `dpi` dots an inch.
    ///
    /// # Errors
    /// When there is no such page, it is too large, or it cannot be drawn.
    pub fn draw(&mut self, index: usize, dpi: u16) -> Result<Page, OcrError> {
        let (width, height) = self.document.sides(index, dpi)?;
        let drawn = catch_unwind(AssertUnwindSafe(|| self.pixels(index, dpi, (width, height))));
        if let Ok(Some(page)) = drawn {
            return Ok(page);
        }
        // What a panic left in it may be half done.
        self.cache = RenderCache::new();
        let reason = "its contents cannot be drawn".to_owned();
        Err(OcrError::PdfPage { origin: self.document.origin.clone(), page: index + 1, reason })
    }

    fn pixels(&self, index: usize, dpi: u16, (width, height): (u16, u16)) -> Option<Page> {
        let page = self.document.pdf.pages().get(index)?;
        let mut context = RenderContext::new(width, height);
        let transform = Affine::scale(f64::from(dpi) / f64::from(POINTS)) * page.initial_transform(true).to_kurbo();
        let (settings, how) = (InterpreterSettings::default(), RenderSettings::default());
        render_into(page, &self.cache, &settings, &how, &mut context, transform);
        context.flush();
        let mut pixmap = Pixmap::new(width, height);
        let on_white = RasterizerSettings { target_init: TargetInit::Clear(WHITE), ..Default::default() };
        context.render_with(&mut pixmap, &mut Resources::default(), on_white);
        let rgb = pixmap.data().iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        Page::new(usize::from(width), usize::from(height), rgb)
    }
}

#[cfg(test)]
#[path = "../testdata/pdf.rs"]
#[allow(dead_code, reason = "the binary's tests use the rest")]
mod written;

#[cfg(test)]
mod tests {
    use super::*;

    fn pdf(pages: &[&str], page_entries: &str) -> Vec<u8> {
        written::pdf(pages, [200, 100], page_entries)
    }

    fn pixel(page: &Page, x: usize, y: usize) -> [u8; 3] {
        let at = (y * page.width() + x) * 3;
        [page.rgb()[at], page.rgb()[at + 1], page.rgb()[at + 2]]
    }

    #[test]
    fn pages_are_drawn_upright_on_white() {
        let contents = ["1 0 0 rg 0 50 100 50 re f", "BT /F 40 Tf 10 30 Td (Text) Tj ET"];
        let document = Document::read("two.pdf", pdf(&contents, ""), "").expect("a document");
        assert_eq!(document.page_count(), 2);
        let mut drawer = document.drawer();
        let first = drawer.draw(0, DPI).expect("drawn");
        assert_eq!((first.width(), first.height()), (400, 200), "twice as many pixels as points");
        assert_eq!((pixel(&first, 10, 10), pixel(&first, 10, 190)), ([255, 0, 0], [255; 3]), "above, and not below");
        let second = drawer.draw(1, DPI).expect("drawn");
        assert!(second.rgb().iter().filter(|value| **value < 64).count() > 1000, "letters, without a font in the file");
        let turned = Document::read("turned.pdf", pdf(&contents, "/Rotate 90"), "").expect("a document");
        let page = turned.drawer().draw(0, 72).expect("drawn");
        assert_eq!((page.width(), page.height()), (100, 200));
        assert_eq!((pixel(&page, 90, 10), pixel(&page, 10, 10)), ([255, 0, 0], [255; 3]), "turned to the right");
    }

    #[test]
    fn sides_are_rounded_up_as_mupdf_rounds_them() {
        let a4 = String::from_utf8(pdf(&[""], "")).expect("text").replace("0 0 200 100", "0 0 595.276 841.89");
        let document = Document::read("a4.pdf", a4.into_bytes(), "").expect("a document");
        assert_eq!(document.sides(0, DPI).expect("sides"), (1191, 1684));
        assert!(document.sides(1, DPI).expect_err("no such page").to_string().contains("page 2"));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let whole = pdf(&["0 0 10 10 re f"], "");
        let reason = |bytes: Vec<u8>| Document::read("x.pdf", bytes, "").expect_err("unusable").to_string();
        assert!(reason(Vec::new()).contains("empty"));
        assert!(reason(b"no PDF at all".to_vec()).contains("x.pdf: expected a PDF document"));
        assert!(reason(whole[..60].to_vec()).contains("expected a PDF document"));
        let none = pdf(&[], "");
        assert!(reason(none).contains("expected a PDF document"));
    }

    #[test]
    fn a_page_that_is_too_large_is_refused_before_it_is_drawn() {
        let large = String::from_utf8(pdf(&[""], "")).expect("text").replace("200 100", "14400 14400");
        let document = Document::read("large.pdf", large.into_bytes(), "").expect("a document");
        let error = document.drawer().draw(0, 144).expect_err("too large").to_string();
        assert!(error.starts_with("large.pdf: page 1: expected at most 67108864 pixels"), "{error}");
        assert!(document.drawer().draw(0, 36).is_ok(), "and small enough is drawn");
    }

    #[test]
    fn a_protected_document_asks_for_its_password() {
        let bytes = || PROTECTED.to_vec();
        let told = |password: &str| Document::read("p.pdf", bytes(), password).expect_err("closed").to_string();
        assert_eq!(told(""), "p.pdf: expected the document's password, found none");
        assert_eq!(told("wrong"), "p.pdf: expected the document's password, found another one");
        let document = Document::read("p.pdf", bytes(), "open sesame").expect("a document");
        let page = document.drawer().draw(0, 72).expect("drawn");
        assert_eq!(pixel(&page, 10, 10), [0, 0, 255]);
    }

    /// One page of 200 × 100 points filled with blue, encrypted by pypdf with the password "open sesame".
    const PROTECTED: &[u8] = include_bytes!("../testdata/protected.pdf");
}

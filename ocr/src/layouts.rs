//! A PDF whose pages are pictures, as the release's PDF run writes `NAME_layouts.pdf`: every page with its boxes drawn. Written
//! as it comes, so a long document takes no more memory than a short one.

use std::io::{self, Write};

/// Pixels an inch, where a picture does not say: img2pdf's assumption.
const DOTS: f64 = 96.0;
/// Objects before the pages: the catalogue and the list of pages.
const HEAD: usize = 2;
/// Objects a page: itself, its contents, its picture.
const OBJECTS: usize = 3;

/// A PDF being written; without [`Layouts::finish`] it is none.
#[derive(Debug)]
pub struct Layouts<W> {
    to: W,
    written: u64,
    /// Where each object begins, in bytes; the catalogue's and the list's come last.
    offsets: Vec<u64>,
}

impl<W: Write> Layouts<W> {
    /// Begins a document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(to: W) -> io::Result<Self> {
        let mut layouts = Self { to, written: 0, offsets: Vec::new() };
        // The second line has bytes above 127, so that nobody takes the file for text.
        layouts.put(b"%PDF-1.4\n%\xE2\xE3\xCF\xD3\n")?;
        Ok(layouts)
    }

    /// Adds a page that is one RGB JPEG of `width` × `height` pixels.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn page(&mut self, jpeg: &[u8], width: usize, height: usize) -> io::Result<()> {
        let (across, down) = (width as f64 * 72.0 / DOTS, height as f64 * 72.0 / DOTS);
        let first = HEAD + self.offsets.len() + 1;
        let (contents, picture) = (first + 1, first + 2);
        self.object(&format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {across} {down}]/Contents {contents} 0 R\
             /Resources<</XObject<</Im {picture} 0 R>>>>>>"
        ))?;
        let draw = format!("q {across} 0 0 {down} 0 0 cm /Im Do Q");
        self.object(&format!("<</Length {}>>\nstream\n{draw}\nendstream", draw.len()))?;
        self.begin(picture)?;
        self.put(
            format!(
                "<</Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/DeviceRGB/BitsPerComponent 8\
                 /Filter/DCTDecode/Length {}>>\nstream\n",
                jpeg.len()
            )
            .as_bytes(),
        )?;
        self.put(jpeg)?;
        self.put(b"\nendstream\nendobj\n")
    }

    /// Ends the document and hands back what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let pages: Vec<String> =
            (0..self.offsets.len()).step_by(OBJECTS).map(|at| format!("{} 0 R", HEAD + at + 1)).collect();
        let mut head = [self.written, 0];
        self.put(b"1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n")?;
        head[1] = self.written;
        let list = format!("2 0 obj\n<</Type/Pages/Count {}/Kids[{}]>>\nendobj\n", pages.len(), pages.join(" "));
        self.put(list.as_bytes())?;
        let (start, offsets) = (self.written, std::mem::take(&mut self.offsets));
        let count = HEAD + offsets.len() + 1;
        self.put(format!("xref\n0 {count}\n0000000000 65535 f \n").as_bytes())?;
        for offset in head.into_iter().chain(offsets) {
            self.put(format!("{offset:010} 00000 n \n").as_bytes())?;
        }
        self.put(format!("trailer\n<</Size {count}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n").as_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn object(&mut self, body: &str) -> io::Result<()> {
        self.begin(HEAD + self.offsets.len() + 1)?;
        self.put(body.as_bytes())?;
        self.put(b"\nendobj\n")
    }

    fn begin(&mut self, number: usize) -> io::Result<()> {
        self.offsets.push(self.written);
        self.put(format!("{number} 0 obj\n").as_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

#[cfg(all(test, feature = "pdf"))]
mod tests {
    use super::*;
    use crate::page::Page;
    use crate::pdf::Document;

    #[test]
    fn what_is_written_can_be_read_and_shows_its_pictures() {
        let mut layouts = Layouts::new(Vec::new()).expect("begun");
        for grey in [40_u8, 200] {
            let page = Page::new(96, 48, vec![grey; 96 * 48 * 3]).expect("a page");
            layouts.page(&page.to_jpeg().expect("a JPEG"), 96, 48).expect("added");
        }
        let bytes = layouts.finish().expect("finished");
        let document = Document::read("layouts.pdf", bytes, "").expect("a document");
        assert_eq!(document.page_count(), 2);
        let mut drawer = document.drawer();
        for (at, grey) in [40_u8, 200].into_iter().enumerate() {
            let page = drawer.draw(at, 72).expect("drawn").page;
            assert_eq!((page.width(), page.height()), (72, 36));
            assert!(page.rgb().iter().all(|value| value.abs_diff(grey) <= 2), "page {at}");
        }
    }
}

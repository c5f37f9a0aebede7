//! An image file. Input: its bytes.

use mlxport_ocr::{Mode, OcrError, page, views};

/// The most pixels that are decoded here: enough for every path, few enough to be quick.
const PIXELS: u64 = 1 << 18;
/// The longest file that is tried, in bytes.
const LONGEST: usize = 64 << 10;

/// Decodes an image, and cuts a sound one into views.
pub fn run(data: &[u8]) {
    if data.len() > LONGEST {
        return;
    }
    match page::read_within("image", data, PIXELS) {
        Ok(page) => {
            let pixels = page.width() * page.height();
            assert!(pixels as u64 <= PIXELS, "{pixels} pixels");
            assert_eq!(page.rgb().len(), pixels * 3);
            match views(&page, Mode::Tiny) {
                Ok(views) => assert_eq!((views.whole.width(), views.whole.height()), (512, 512)),
                Err(error) => assert!(matches!(error, OcrError::TooThin { .. }), "{error}"),
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("image: expected"), "{told}");
        }
    }
}

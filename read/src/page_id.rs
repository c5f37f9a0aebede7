//! Which page: a file, or a document's file and a number; and so what its results are called.

/// A page of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageId {
    /// The file it is in, by name.
    pub file: String,
    /// The page of a document, counted from 1.
    pub number: Option<usize>,
}

impl PageId {
    /// An image's.
    pub(crate) fn of_image(file: &str) -> Self {
        Self { file: file.to_owned(), number: None }
    }

    /// A document's page's.
    pub(crate) fn of_document(file: &str, number: usize) -> Self {
        Self { file: file.to_owned(), number: Some(number) }
    }

    /// What the page is called: `scan.png`, `book.pdf/page-0001`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.number {
            Some(number) => format!("{}/{}", self.file, page_folder(number)),
            None => self.file.clone(),
        }
    }
}

/// The folder of a document's page, counted from 1.
pub(crate) fn page_folder(number: usize) -> String {
    format!("page-{number:04}")
}

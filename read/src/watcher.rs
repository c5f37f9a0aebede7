//! Who watches a run: progress, notes for people, and texts that are not written to files. The library itself prints nothing.

/// Hears of a run while it goes on.
pub trait Watcher {
    /// So many more pages are to be read.
    fn more_pages(&mut self, count: usize);

    /// A page is done with; `was_read`: by the model, in this run.
    fn page_done(&mut self, was_read: bool);

    /// A step of the model made so many tokens; so many pages are being read.
    fn tokens(&mut self, made: usize, pages: usize);

    /// A line for people.
    fn note(&mut self, line: &str);

    /// A page's text, in the order of the pages, where neither [`crate::Settings::out`] nor [`crate::Settings::collect_pages`] takes it.
    ///
    /// # Errors
    /// Ends the run.
    fn text(&mut self, text: &str) -> std::io::Result<()>;
}

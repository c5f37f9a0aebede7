//! Writes small PDF documents; included by this crate's tests and by those of the binary.

/// A document of these objects, whose catalogue is the first.
pub fn pdf_of(objects: &[String]) -> Vec<u8> {
    let (mut file, mut table) = ("%PDF-1.4\n".to_owned(), String::new());
    for (at, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", at + 1));
    }
    let (start, size) = (file.len(), objects.len() + 1);
    file.push_str(&format!("xref\n0 {size}\n0000000000 65535 f \n{table}"));
    file.push_str(&format!("trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"));
    file.into_bytes()
}

/// A document of one page for each contents, with these sides in points and these further entries of each page.
pub fn pdf(pages: &[&str], [width, height]: [u32; 2], page_entries: &str) -> Vec<u8> {
    let count = pages.len();
    let kids: Vec<String> = (0..count).map(|at| format!("{} 0 R", 3 + 2 * at)).collect();
    let list = format!("<</Type/Pages/Count {count}/Kids[{}]>>", kids.join(" "));
    let mut objects = vec!["<</Type/Catalog/Pages 2 0 R>>".to_owned(), list];
    for (at, contents) in pages.iter().enumerate() {
        let (own, font) = (4 + 2 * at, "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>");
        let entries = format!("/MediaBox[0 0 {width} {height}]/Contents {own} 0 R/Resources{font}{page_entries}");
        objects.push(format!("<</Type/Page/Parent 2 0 R{entries}>>"));
        objects.push(format!("<</Length {}>>\nstream\n{contents}\nendstream", contents.len()));
    }
    pdf_of(&objects)
}

//! A page's overlay: a small PDF document of our own with the same frame, drawn over the page with the same transform.

use std::fmt::Write as _;

/// Widths of Helvetica's characters from the blank to the tilde, in thousandths of the size (Adobe's metrics).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];
/// What Windows' Latin code page has from 0x80 to 0x9F; a blank where it has nothing.
const WINDOWS: [char; 32] = [
    '€', ' ', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', ' ', 'Ž', ' ', ' ', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', ' ', 'ž', 'Ÿ',
];
/// From one line's foot to the next one's, in sizes.
const LEADING: f64 = 1.2;

/// One of the standard fonts, which the renderer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    /// Helvetica.
    Plain,
    /// The same, bold.
    Bold,
}

impl Font {
    /// A text's width in points.
    pub fn width(self, text: &str, size: f64) -> f64 {
        let thousandths = |character: char| {
            let place = (character as usize).checked_sub(0x20).and_then(|place| WIDTHS.get(place));
            place.map_or(556.0, |width| f64::from(*width))
        };
        let wider = if self == Self::Bold { 1.08 } else { 1.0 };
        text.chars().map(thousandths).sum::<f64>() / 1000.0 * size * wider
    }
}

/// Where a line stands between the sides of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// In the middle.
    Middle,
    /// At the right.
    Right,
}

/// How a text looks.
#[derive(Debug, Clone)]
pub struct Style {
    /// Points.
    pub size: f64,
    /// Operands of `g`, `rg` or `k`.
    pub colour: Vec<f64>,
    /// Between the sides.
    pub align: Align,
    /// The font.
    pub font: Font,
}

impl Style {
    /// Reads a default appearance: `0 0 1 rg /Helv 12 Tf`. A size that it does not say is 0.
    pub fn of(words: &str) -> Self {
        let mut style = Self { size: 0.0, colour: vec![0.0], align: Align::Left, font: Font::Plain };
        let mut operands: Vec<f64> = Vec::new();
        for word in words.split_ascii_whitespace() {
            match word {
                "Tf" => style.size = operands.last().copied().unwrap_or(0.0).clamp(0.0, 1000.0),
                "g" | "rg" | "k" => style.colour = operands.clone(),
                _ => {
                    operands.extend(word.parse::<f64>().ok().filter(|value| value.is_finite()));
                    continue;
                }
            }
            operands.clear();
        }
        style
    }
}

/// What is drawn over a page.
#[derive(Debug)]
pub struct Overlay {
    frame: [f64; 4],
    contents: String,
    /// Graphics states: opacity, and whether colours are multiplied.
    states: Vec<(f64, bool)>,
}

impl Overlay {
    /// An empty one over a page of this frame: left, bottom, right, top, in points.
    pub fn new(frame: [f64; 4]) -> Self {
        Self { frame, contents: String::new(), states: Vec::new() }
    }

    /// The document; `None` where nothing was drawn.
    pub fn document(self) -> Option<Vec<u8>> {
        if self.contents.is_empty() {
            return None;
        }
        let [left, bottom, right, top] = self.frame;
        let mut states = String::new();
        for (at, (alpha, multiplies)) in self.states.iter().enumerate() {
            let blend = if *multiplies { "/BM/Multiply" } else { "" };
            let _ = write!(states, "/S{at}<</ca {alpha:.3}/CA {alpha:.3}{blend}>>");
        }
        let font = |name: &str, encoding: &str| format!("<</Type/Font/Subtype/Type1/BaseFont/{name}{encoding}>>");
        let latin = "/Encoding/WinAnsiEncoding";
        let fonts = [font("Helvetica", latin), font("Helvetica-Bold", latin), font("ZapfDingbats", "")];
        let fonts = format!("/F {}/B {}/Z {}", fonts[0], fonts[1], fonts[2]);
        let resources = format!("/Resources<</Font<<{fonts}>>/ExtGState<<{states}>>>>");
        let objects = [
            "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
            "<</Type/Pages/Count 1/Kids[3 0 R]>>".to_owned(),
            format!("<</Type/Page/Parent 2 0 R/MediaBox[{left} {bottom} {right} {top}]/Contents 4 0 R{resources}>>"),
            format!("<</Length {}>>\nstream\n{}\nendstream", self.contents.len(), self.contents),
        ];
        Some(file_of(&objects))
    }

    /// What is drawn from now on has this opacity; with `multiplies`, its colours are multiplied with the page's.
    pub fn opacity(&mut self, alpha: f64, multiplies: bool) {
        let _ = writeln!(self.contents, "q");
        if alpha < 1.0 || multiplies {
            let _ = writeln!(self.contents, "/S{} gs", self.states.len());
            self.states.push((alpha.clamp(0.0, 1.0), multiplies));
        }
    }

    /// Ends what [`Overlay::opacity`] began.
    pub fn opaque(&mut self) {
        let _ = writeln!(self.contents, "Q");
    }

    /// The colour of areas.
    pub fn fill_colour(&mut self, parts: &[f64]) {
        self.colour(parts, ["g", "rg", "k"]);
    }

    /// The colour of lines.
    pub fn line_colour(&mut self, parts: &[f64]) {
        self.colour(parts, ["G", "RG", "K"]);
    }

    fn colour(&mut self, parts: &[f64], operators: [&str; 3]) {
        let operator = match parts.len() {
            1 => operators[0],
            3 => operators[1],
            4 => operators[2],
            _ => return,
        };
        for part in parts {
            let _ = write!(self.contents, "{:.4} ", part.clamp(0.0, 1.0));
        }
        let _ = writeln!(self.contents, "{operator}");
    }

    /// A rectangle, filled or as a line.
    pub fn frame(&mut self, [left, bottom, right, top]: [f64; 4], is_filled: bool, has_line: bool, width: f64) {
        let inset = if has_line { width / 2.0 } else { 0.0 };
        let (left, bottom) = (left + inset, bottom + inset);
        let sides = [(right - inset - left).max(0.0), (top - inset - bottom).max(0.0)];
        let _ = write!(self.contents, "{width:.3} w {left:.3} {bottom:.3} {:.3} {:.3} re ", sides[0], sides[1]);
        self.paint(is_filled, has_line);
    }

    /// An ellipse, filled or as a line.
    pub fn ellipse(&mut self, [left, bottom, right, top]: [f64; 4], is_filled: bool, has_line: bool, width: f64) {
        // The usual four cubic curves.
        const HANDLE: f64 = 0.552_284_75;
        let (x, y) = ((left + right) / 2.0, (bottom + top) / 2.0);
        let inset = if has_line { width / 2.0 } else { 0.0 };
        let (across, up) = (((right - left) / 2.0 - inset).max(0.0), ((top - bottom) / 2.0 - inset).max(0.0));
        let _ = write!(self.contents, "{width:.3} w {:.3} {y:.3} m ", x + across);
        let turns = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0)];
        for pair in turns.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let points = [(ax + bx * HANDLE, ay + by * HANDLE), (bx + ax * HANDLE, by + ay * HANDLE), (bx, by)];
            for (px, py) in points {
                let _ = write!(self.contents, "{:.3} {:.3} ", x + px * across, y + py * up);
            }
            let _ = write!(self.contents, "c ");
        }
        self.paint(is_filled, has_line);
    }

    fn paint(&mut self, is_filled: bool, has_line: bool) {
        let operator = match (is_filled, has_line) {
            (true, true) => "B",
            (true, false) => "f",
            (false, true) => "S",
            (false, false) => "n",
        };
        let _ = writeln!(self.contents, "{operator}");
    }

    /// A filled area.
    pub fn area(&mut self, corners: &[[f64; 2]]) {
        self.points(corners);
        let _ = writeln!(self.contents, "f");
    }

    /// A line through points.
    pub fn path(&mut self, points: &[[f64; 2]], is_closed: bool, width: f64) {
        let _ = write!(self.contents, "{width:.3} w ");
        self.points(points);
        let _ = writeln!(self.contents, "{}", if is_closed { "s" } else { "S" });
    }

    fn points(&mut self, points: &[[f64; 2]]) {
        for (at, [x, y]) in points.iter().enumerate() {
            let _ = write!(self.contents, "{x:.3} {y:.3} {} ", if at == 0 { "m" } else { "l" });
        }
    }

    /// A tick in the middle of a box.
    pub fn tick(&mut self, [left, bottom, right, top]: [f64; 4]) {
        let size = (right - left).min(top - bottom) * 0.8;
        let (x, y) = ((left + right - size * 0.85) / 2.0, (bottom + top - size * 0.7) / 2.0);
        let _ = writeln!(self.contents, "q 0 g BT /Z {size:.3} Tf {x:.3} {y:.3} Td <34> Tj ET Q");
    }

    /// A text in a frame: on one line in the middle of its height, or on several from its top. Returns how many characters no font here
    /// has.
    pub fn text(&mut self, sides: [f64; 4], text: &str, several: bool, style: &Style) -> usize {
        let [left, bottom, right, top] = sides;
        let lines = if several { wrapped(text, right - left, style) } else { vec![text.replace(['\r', '\n'], " ")] };
        let mut foot = if several { top - style.size } else { (bottom + top) / 2.0 - style.size * 0.35 };
        let mut lost = 0;
        self.begin_text(sides, style);
        for line in lines {
            let room = right - left - style.font.width(&line, style.size);
            let start = match style.align {
                Align::Left => left,
                Align::Middle => left + room / 2.0,
                Align::Right => left + room,
            };
            lost += self.line(start, foot, &line);
            foot -= style.size * LEADING;
        }
        let _ = writeln!(self.contents, "ET Q");
        lost
    }

    /// A text of which each character has a cell of its own.
    pub fn cells(&mut self, sides: [f64; 4], cells: usize, text: &str, style: &Style) -> usize {
        let (width, foot) = ((sides[2] - sides[0]) / cells as f64, (sides[1] + sides[3]) / 2.0 - style.size * 0.35);
        let mut lost = 0;
        self.begin_text(sides, style);
        for (at, character) in text.chars().take(cells).enumerate() {
            let word = character.to_string();
            let start = sides[0] + width * (at as f64 + 0.5) - style.font.width(&word, style.size) / 2.0;
            lost += self.line(start, foot, &word);
        }
        let _ = writeln!(self.contents, "ET Q");
        lost
    }

    fn begin_text(&mut self, [left, bottom, right, top]: [f64; 4], style: &Style) {
        let font = if style.font == Font::Bold { "B" } else { "F" };
        let _ = writeln!(
            self.contents,
            "q {left:.3} {bottom:.3} {:.3} {:.3} re W n BT",
            (right - left).max(0.0),
            (top - bottom).max(0.0)
        );
        self.fill_colour(&style.colour);
        let _ = writeln!(self.contents, "/{font} {:.3} Tf", style.size);
    }

    fn line(&mut self, x: f64, y: f64, line: &str) -> usize {
        let _ = write!(self.contents, "1 0 0 1 {x:.3} {y:.3} Tm <");
        let mut lost = 0;
        for character in line.chars().filter(|character| !character.is_control()) {
            let byte = windows(character);
            lost += usize::from(byte.is_none());
            let _ = write!(self.contents, "{:02x}", byte.unwrap_or(b'?'));
        }
        let _ = writeln!(self.contents, "> Tj");
        lost
    }
}

/// A character in Windows' Latin code page.
fn windows(character: char) -> Option<u8> {
    let code = u32::from(character);
    if (0x20..0x7F).contains(&code) || (0xA0..0x100).contains(&code) {
        return u8::try_from(code).ok();
    }
    let place = WINDOWS.iter().position(|known| *known == character && character != ' ')?;
    u8::try_from(0x80 + place).ok()
}

/// Lines no wider than `width`, broken at blanks; a word that is wider has a line of its own.
fn wrapped(text: &str, width: f64, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.replace("\r\n", "\n").split(['\n', '\r']) {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if !line.is_empty() && style.font.width(&longer, style.size) > width {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
    }
    lines
}

/// A document of these objects, whose catalogue is the first.
fn file_of(objects: &[String]) -> Vec<u8> {
    let (mut file, mut table) = ("%PDF-1.7\n".to_owned(), String::new());
    for (at, object) in objects.iter().enumerate() {
        let _ = writeln!(table, "{:010} 00000 n ", file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", at + 1);
    }
    let (start, size) = (file.len(), objects.len() + 1);
    let _ = write!(
        file,
        "xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"
    );
    file.into_bytes()
}

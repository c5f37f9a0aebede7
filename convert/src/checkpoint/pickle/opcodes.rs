//! One pickle instruction at a time, with its argument checked against what is left of the stream.
//!
//! Answers to CPython's `pickletools.py`, protocols 0 to 5.

/// What was wrong with a stream, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Byte of the stream at which the instruction begins.
    pub at: usize,
    /// What should have been there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Whether the stream ended before the instruction did: more of the file may mend it.
    pub is_end: bool,
}

/// An instruction's argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg<'a> {
    /// None.
    Plain,
    /// A place in the memo.
    Slot(u32),
    /// True or false, as protocols 0 and 1 write it.
    Flag(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond 64 bits.
    Large,
    /// A number.
    Float(f64),
    /// UTF-8 text.
    Text(&'a str),
    /// Module and name.
    Global(&'a str, &'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// One instruction.
#[derive(Debug, Clone, Copy)]
pub struct Instruction<'a> {
    /// Where it begins.
    pub at: usize,
    /// Its opcode.
    pub code: u8,
    /// How long it is, in bytes.
    pub byte_len: usize,
    /// Its argument.
    pub arg: Arg<'a>,
}

/// The longest line: the name of a module or class, or a number or text of protocol 0, in bytes.
const MAX_LINE_BYTE_LEN: usize = 4096;
/// The newest protocol there is.
const MAX_PROTOCOL: u8 = 5;

/// Reads the instruction at `at`.
///
/// # Errors
/// An opcode outside the list, or an argument that leaves the stream.
pub fn read(stream: &[u8], at: usize) -> Result<Instruction<'_>, Flaw> {
    let mut cursor = Cursor { stream, start: at, at };
    let code = cursor.take(1)?[0];
    let arg = match code {
        b'(' | b')' | b'}' | b']' | b'N' | b'R' | b't' | b'Q' | b's' | b'u' | b'b' | b'.' | b'a' | b'e' => Arg::Plain,
        b'0' | b'1' | b'2' | b'd' | b'l' | b'o' | 0x81 | 0x85..=0x89 | 0x8f..=0x94 => Arg::Plain,
        0x80 => protocol(cursor.take(1)?[0], at)?,
        b'K' => Arg::Int(cursor.unsigned(1)? as i64),
        b'M' => Arg::Int(cursor.unsigned(2)? as i64),
        b'J' => Arg::Int(i64::from(cursor.unsigned(4)? as u32 as i32)),
        b'G' => Arg::Float(f64::from_bits((cursor.unsigned(8)?).swap_bytes())),
        b'q' | b'h' => Arg::Slot(cursor.unsigned(1)? as u32),
        b'r' | b'j' => Arg::Slot(cursor.unsigned(4)? as u32),
        b'p' | b'g' => cursor.number()?,
        b'I' => cursor.integer_or_flag()?,
        b'L' => cursor.integer()?,
        b'F' => Arg::Float(cursor.parsed("a number")?),
        b'S' => Arg::Bytes(cursor.quoted()?),
        b'V' => Arg::Text(cursor.line()?),
        0x8a => cursor.long(1)?,
        0x8b => cursor.long(4)?,
        0x8c => cursor.text(1)?,
        b'X' => cursor.text(4)?,
        0x8d => cursor.text(8)?,
        b'C' | b'U' => Arg::Bytes(cursor.counted(1)?),
        b'B' | b'T' => Arg::Bytes(cursor.counted(4)?),
        0x8e | 0x96 => Arg::Bytes(cursor.counted(8)?),
        // How long the frame is says nothing that the instructions do not say.
        0x95 => {
            cursor.take(8)?;
            Arg::Plain
        }
        b'c' | b'i' => Arg::Global(cursor.line()?, cursor.line()?),
        other => return Err(unknown(other, at)),
    };
    Ok(Instruction { at, code, byte_len: cursor.at - at, arg })
}

/// A flaw at a place.
pub fn flaw(at: usize, expected: impl Into<String>, found: impl Into<String>) -> Flaw {
    Flaw { at, expected: expected.into(), found: found.into(), is_end: false }
}

fn protocol(version: u8, at: usize) -> Result<Arg<'static>, Flaw> {
    if version <= MAX_PROTOCOL {
        return Ok(Arg::Plain);
    }
    Err(flaw(at, format!("a pickle protocol up to {MAX_PROTOCOL}"), version.to_string()))
}

fn unknown(code: u8, at: usize) -> Flaw {
    let name = match code {
        b'P' => "PERSID",
        0x82..=0x84 => "EXT",
        0x97 | 0x98 => "a buffer outside the pickle",
        _ => "unknown",
    };
    flaw(at, "an instruction that torch.save writes", format!("opcode {code:#04x} ({name})"))
}

struct Cursor<'a> {
    stream: &'a [u8],
    start: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, byte_len: usize) -> Result<&'a [u8], Flaw> {
        let left = self.stream.len() - self.at;
        if byte_len > left {
            let flaw = flaw(self.start, format!("{byte_len} more bytes of the pickle"), format!("{left}"));
            return Err(Flaw { is_end: true, ..flaw });
        }
        let taken = &self.stream[self.at..self.at + byte_len];
        self.at += byte_len;
        Ok(taken)
    }

    /// A little-endian count of at most 8 bytes.
    fn unsigned(&mut self, byte_len: usize) -> Result<u64, Flaw> {
        Ok(self.take(byte_len)?.iter().rev().fold(0, |count, &byte| count << 8 | u64::from(byte)))
    }

    /// Bytes behind their count.
    fn counted(&mut self, count_byte_len: usize) -> Result<&'a [u8], Flaw> {
        let count = self.unsigned(count_byte_len)?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn text(&mut self, count_byte_len: usize) -> Result<Arg<'a>, Flaw> {
        let bytes = self.counted(count_byte_len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| flaw(self.start, "UTF-8 text", "bytes that are none"))?;
        Ok(Arg::Text(text))
    }

    /// Little-endian two's complement of any length.
    fn long(&mut self, count_byte_len: usize) -> Result<Arg<'a>, Flaw> {
        let bytes = self.counted(count_byte_len)?;
        if bytes.len() > 8 {
            return Ok(Arg::Large);
        }
        let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Arg::Int(i64::from_le_bytes(wide)))
    }

    fn line(&mut self) -> Result<&'a str, Flaw> {
        let rest = &self.stream[self.at..];
        let window = &rest[..rest.len().min(MAX_LINE_BYTE_LEN + 1)];
        let end = window.iter().position(|&byte| byte == b'\n');
        let text = end.and_then(|end| std::str::from_utf8(&window[..end]).ok());
        let text = text.ok_or_else(|| {
            let expected = format!("a name of at most {MAX_LINE_BYTE_LEN} bytes and its line end");
            let is_end = end.is_none() && window.len() <= MAX_LINE_BYTE_LEN;
            Flaw { is_end, ..flaw(self.start, expected, "none") }
        })?;
        self.at += text.len() + 1;
        Ok(text)
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Flaw> {
        let line = self.line()?;
        line.trim().parse().map_err(|_| flaw(self.start, what, format!("{line:?}")))
    }

    fn number(&mut self) -> Result<Arg<'a>, Flaw> {
        Ok(Arg::Slot(self.parsed("a place in the memo")?))
    }

    /// Protocol 0 writes True as 01, and Python 2 an `L` behind long integers.
    fn integer_or_flag(&mut self) -> Result<Arg<'a>, Flaw> {
        let begin = self.at;
        match self.line()? {
            "00" => return Ok(Arg::Flag(false)),
            "01" => return Ok(Arg::Flag(true)),
            _ => self.at = begin,
        }
        self.integer()
    }

    fn integer(&mut self) -> Result<Arg<'a>, Flaw> {
        let line = self.line()?;
        let digits = line.trim().trim_end_matches('L');
        let is_integer = digits.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty();
        match digits.parse() {
            Ok(value) => Ok(Arg::Int(value)),
            Err(_) if is_integer => Ok(Arg::Large),
            Err(_) => Err(flaw(self.start, "an integer", format!("{line:?}"))),
        }
    }

    /// A quoted byte string. Escapes stay as they are: no name of a tensor has one.
    fn quoted(&mut self) -> Result<&'a [u8], Flaw> {
        let line = self.line()?.trim();
        let inner = ['\'', '"'].into_iter().find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote));
        inner.map(str::as_bytes).ok_or_else(|| flaw(self.start, "a quoted string", format!("{line:?}")))
    }
}

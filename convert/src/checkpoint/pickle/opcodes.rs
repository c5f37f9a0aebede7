//! One pickle instruction at a time, with its argument checked against what is left of the stream.
//!
//! Answers to CPython's `pickletools.py` for the instructions that `torch.save` writes (protocol 2) and a few of protocol 3.

/// What was wrong with a stream, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Byte of the stream at which the instruction begins.
    pub at: usize,
    /// What should have been there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// An instruction's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// None, or a number whose value the check does not need.
    Plain,
    /// A place in the memo.
    Slot(u32),
    /// Little-endian two's complement.
    Long(&'a [u8]),
    /// UTF-8 text.
    Text(&'a str),
    /// Module and name.
    Global(&'a str, &'a str),
    /// Bytes that are no text.
    Bytes,
}

/// One instruction.
#[derive(Debug, Clone, Copy)]
pub struct Instruction<'a> {
    /// Where it begins.
    pub at: usize,
    /// Its opcode and argument as they stand.
    pub raw: &'a [u8],
    /// Its argument.
    pub arg: Arg<'a>,
}

/// The longest name of a module or class, in bytes.
const MAX_NAME_BYTE_LEN: usize = 256;

/// Reads the instruction at `at`.
///
/// # Errors
/// An opcode outside the list, or an argument that leaves the stream.
pub fn read(stream: &[u8], at: usize) -> Result<Instruction<'_>, Flaw> {
    let mut cursor = Cursor { stream, start: at, at };
    let code = cursor.take(1)?[0];
    let arg = match code {
        b'(' | b')' | b'}' | b']' | b'N' | b'R' | b't' | b'Q' | b's' | b'u' | b'b' | b'.' | b'a' | b'e' => Arg::Plain,
        0x81 | 0x85..=0x89 => Arg::Plain,
        0x80 => protocol(cursor.take(1)?[0], at)?,
        b'K' => plain(cursor.take(1)?),
        b'M' => plain(cursor.take(2)?),
        b'J' => plain(cursor.take(4)?),
        b'G' => plain(cursor.take(8)?),
        b'q' | b'h' => Arg::Slot(u32::from(cursor.take(1)?[0])),
        b'r' | b'j' => Arg::Slot(cursor.count()?),
        0x8a => {
            let byte_len = usize::from(cursor.take(1)?[0]);
            Arg::Long(cursor.take(byte_len)?)
        }
        b'X' => {
            let byte_len = cursor.count()? as usize;
            let bytes = cursor.take(byte_len)?;
            Arg::Text(std::str::from_utf8(bytes).map_err(|_| flaw(at, "UTF-8 text", "bytes that are none"))?)
        }
        b'B' | b'T' => {
            let byte_len = cursor.count()? as usize;
            cursor.take(byte_len)?;
            Arg::Bytes
        }
        b'C' | b'U' => {
            let byte_len = usize::from(cursor.take(1)?[0]);
            cursor.take(byte_len)?;
            Arg::Bytes
        }
        b'c' => Arg::Global(cursor.line()?, cursor.line()?),
        other => return Err(unknown(other, at)),
    };
    Ok(Instruction { at, raw: &stream[at..cursor.at], arg })
}

/// A flaw at a place.
pub fn flaw(at: usize, expected: impl Into<String>, found: impl Into<String>) -> Flaw {
    Flaw { at, expected: expected.into(), found: found.into() }
}

fn plain(_: &[u8]) -> Arg<'_> {
    Arg::Plain
}

fn protocol(version: u8, at: usize) -> Result<Arg<'static>, Flaw> {
    match version {
        2 | 3 => Ok(Arg::Plain),
        _ => Err(flaw(at, "pickle protocol 2, which torch.save writes unless told otherwise", format!("{version}"))),
    }
}

fn unknown(code: u8, at: usize) -> Flaw {
    let name = match code {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'l' => "LIST",
        b'p' => "PUT",
        0x82..=0x84 => "EXT",
        0x8b => "LONG4",
        0x8c..=0x98 => "one of pickle protocol 4 or 5",
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
            return Err(flaw(self.start, format!("{byte_len} more bytes of the pickle"), format!("{left}")));
        }
        let taken = &self.stream[self.at..self.at + byte_len];
        self.at += byte_len;
        Ok(taken)
    }

    fn count(&mut self) -> Result<u32, Flaw> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |count, &byte| count << 8 | u32::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, Flaw> {
        let rest = &self.stream[self.at..];
        let window = &rest[..rest.len().min(MAX_NAME_BYTE_LEN + 1)];
        let end = window.iter().position(|&byte| byte == b'\n');
        let text = end.and_then(|end| std::str::from_utf8(&window[..end]).ok());
        let text = text.ok_or_else(|| {
            flaw(self.start, format!("a name of at most {MAX_NAME_BYTE_LEN} bytes and its line end"), "none")
        })?;
        self.at += text.len() + 1;
        Ok(text)
    }
}

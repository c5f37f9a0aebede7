//! A document's pages, drawn by a process of its own (`mlxport draw-pdf`, [`crate::drawer`]): whatever a page does to it, the run goes on.

use std::{
    ffi::OsStr,
    io::{BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use mlxport_ocr::{Decoded, Page, pdf};

use crate::{
    drawer::{COUNT, ERROR, LONGEST_TEXT, LOSS, MEMORY_GIB, MOST_NOTES, PAGE, TOO_LONG},
    settings::DrawSettings,
};

/// An open document.
#[derive(Debug)]
pub(crate) struct DrawnDocument<'a> {
    path: &'a Path,
    settings: &'a DrawSettings,
    process: Option<Process>,
    /// How many pages it has.
    pub page_count: usize,
}

#[derive(Debug)]
struct Process {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl<'a> DrawnDocument<'a> {
    /// Opens a document.
    ///
    /// # Errors
    /// When it is no PDF, is protected, or opening it takes too long.
    pub fn open(path: &'a Path, settings: &'a DrawSettings) -> anyhow::Result<Self> {
        let mut document = Self { path, settings, process: None, page_count: 0 };
        document.start()?;
        Ok(document)
    }

    /// Draws the page `index`, counted from 0.
    ///
    /// # Errors
    /// When it cannot be drawn; the other pages still can.
    pub fn draw(&mut self, index: usize) -> anyhow::Result<Decoded> {
        if self.process.is_none() {
            self.start()?;
        }
        let drawn = match &mut self.process {
            Some(process) => process.ask(index),
            None => Err(anyhow!("not started")),
        };
        // An error that was answered leaves the process as it was.
        match drawn {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(text)) => bail!(text),
            Err(_) => Err(self.why(&format!("page {}", index + 1))),
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.settings.program);
        command
            .arg("draw-pdf")
            .arg(self.path)
            .args(["--dpi", &self.settings.dpi.to_string(), "--page-seconds", &self.settings.page_seconds.to_string()])
            .args(self.settings.fonts.iter().flat_map(|folder| [OsStr::new("--fonts"), folder.as_os_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Ctrl-C is for this process, which then lets that one go.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}, which draws pages", self.settings.program.display()))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the process that draws pages has no pipes");
        };
        let process = self.process.insert(Process { child, asks, answers: BufReader::new(answers) });
        match process.begin(&self.settings.password) {
            Ok(Ok(count)) => {
                self.page_count = count;
                Ok(())
            }
            Ok(Err(text)) => {
                self.process = None;
                bail!(text)
            }
            Err(_) => Err(self.why("opening it")),
        }
    }

    /// What ended the process.
    fn why(&mut self, what: &str) -> anyhow::Error {
        let origin = self.path.display();
        let Some(mut process) = self.process.take() else { return anyhow!("{origin}: {what}: no process draws it") };
        // It has closed its pipe, or sent what no drawer sends.
        let _ = process.child.kill();
        match process.child.wait() {
            Ok(status) if status.code() == Some(i32::from(TOO_LONG)) => {
                anyhow!("{origin}: {what}: expected at most {} seconds, took longer", self.settings.page_seconds)
            }
            Ok(status) => {
                anyhow!(
                    "{origin}: {what}: the process that draws it crashed, or asked for more than {MEMORY_GIB} GiB ({status})"
                )
            }
            Err(error) => anyhow!("{origin}: {what}: {error}"),
        }
    }
}

impl Process {
    /// The number of pages, or why there is none.
    fn begin(&mut self, password: &str) -> anyhow::Result<Result<usize, String>> {
        // A password of several lines is none; the first one is tried.
        writeln!(self.asks, "{}", password.lines().next().unwrap_or_default())?;
        self.asks.flush()?;
        match self.byte()? {
            COUNT => Ok(Ok(self.number()?)),
            tag => self.text(tag).map(Err),
        }
    }

    fn ask(&mut self, index: usize) -> anyhow::Result<Result<Decoded, String>> {
        writeln!(self.asks, "{index}")?;
        self.asks.flush()?;
        let mut notes = Vec::new();
        let mut tag = self.byte()?;
        while tag == LOSS && notes.len() < MOST_NOTES {
            notes.push(self.letters()?);
            tag = self.byte()?;
        }
        if tag != PAGE {
            return self.text(tag).map(Err);
        }
        let (width, height) = (self.number()?, self.number()?);
        if width as u64 * height as u64 > pdf::MAX_PIXELS {
            bail!("a page of {width}×{height} pixels");
        }
        let mut rgb = vec![0; width * height * 3];
        self.answers.read_exact(&mut rgb)?;
        let page = Page::new(width, height, rgb).context("a page without pixels")?;
        Ok(Ok(Decoded { page, notes }))
    }

    fn text(&mut self, tag: u8) -> anyhow::Result<String> {
        if tag != ERROR {
            bail!("neither page nor error");
        }
        self.letters()
    }

    fn letters(&mut self) -> anyhow::Result<String> {
        let length = self.number()?;
        if length > LONGEST_TEXT {
            bail!("a text of {length} bytes");
        }
        let mut bytes = vec![0; length];
        self.answers.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn byte(&mut self) -> std::io::Result<u8> {
        let mut byte = [0];
        self.answers.read_exact(&mut byte).map(|()| byte[0])
    }

    fn number(&mut self) -> std::io::Result<usize> {
        let mut bytes = [0; 4];
        self.answers.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes) as usize)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Lines of bounded length out of a descriptor.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

/// Bytes of one read.
const CHUNK: usize = 64 << 10;

/// Reads lines; one that is too long is passed by, and told.
#[derive(Debug)]
pub(super) struct Lines<F> {
    source: F,
    longest: usize,
    chunk: Vec<u8>,
    /// Bytes of `chunk` that were given out, and that were read.
    at: usize,
    end: usize,
    line: Vec<u8>,
    /// The line at hand is longer than it may be: the rest of it is passed by.
    skipping: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Text(Vec<u8>),
    /// A line that was longer than it may be: its beginning.
    TooLong(Vec<u8>),
    /// Nothing within the time.
    Nothing,
    /// There will be no more.
    End,
}

impl<F: AsFd> Lines<F> {
    pub(super) fn new(source: F, longest: usize) -> Self {
        Self { source, longest, chunk: vec![0; CHUNK], at: 0, end: 0, line: Vec::new(), skipping: false }
    }

    /// The next line; waits up to `timeout`, or for ever. What stands behind the last line end counts as a line.
    pub(super) fn next(&mut self, timeout: Option<PollTimeout>) -> io::Result<Line> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(line);
            }
            if let Some(timeout) = timeout {
                let mut fds = [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
                match poll(&mut fds, timeout) {
                    Ok(0) | Err(Errno::EINTR) => return Ok(Line::Nothing),
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match read(&self.source, &mut self.chunk) {
                Ok(0) if self.line.is_empty() && !self.skipping => return Ok(Line::End),
                Ok(0) => return Ok(self.finish()),
                Ok(count) => (self.at, self.end) = (0, count),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A line that is complete with what was read; what is left of it is kept.
    fn buffered(&mut self) -> Option<Line> {
        let rest = &self.chunk[self.at..self.end];
        let newline = rest.iter().position(|&byte| byte == b'\n');
        let part = &rest[..newline.unwrap_or(rest.len())];
        let room = self.longest - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.skipping |= part.len() > room;
        self.at += part.len() + usize::from(newline.is_some());
        newline.map(|_| self.finish())
    }

    fn finish(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.skipping) { Line::TooLong(line) } else { Line::Text(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn lines_of(bytes: &[u8], longest: usize) -> Vec<Line> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut lines = Lines::new(File::open(file.path()).unwrap(), longest);
        let mut all = Vec::new();
        loop {
            match lines.next(None).unwrap() {
                Line::End => return all,
                line => all.push(line),
            }
        }
    }

    #[test]
    fn lines_and_what_is_too_long() {
        let text = |text: &str| Line::Text(text.into());
        assert_eq!(lines_of(b"", 4), []);
        assert_eq!(lines_of(b"a\n\nbcde\nf", 4), [text("a"), text(""), text("bcde"), text("f")]);
        assert_eq!(lines_of(b"abcde\nf\n", 4), [Line::TooLong(b"abcd".into()), text("f")]);
        assert_eq!(lines_of(b"abcde", 4), [Line::TooLong(b"abcd".into())]);
    }

    #[test]
    fn lines_longer_than_a_read() {
        let long = vec![b'x'; 3 * CHUNK];
        let bytes = [&long[..], b"\n", &long, b"y\nz\n"].concat();
        let lines = lines_of(&bytes, long.len());
        assert_eq!(lines, [Line::Text(long.clone()), Line::TooLong(long), Line::Text(b"z".into())]);
    }

    #[test]
    fn waiting_ends() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut lines = Lines::new(reader, 100);
        assert_eq!(lines.next(Some(PollTimeout::ZERO)).unwrap(), Line::Nothing);
        writer.write_all(b"half").unwrap();
        assert_eq!(lines.next(Some(PollTimeout::from(1u8))).unwrap(), Line::Nothing);
        writer.write_all(b" and half\n").unwrap();
        assert_eq!(lines.next(Some(PollTimeout::from(1u8))).unwrap(), Line::Text(b"half and half".into()));
        drop(writer);
        assert_eq!(lines.next(Some(PollTimeout::from(1u8))).unwrap(), Line::End);
    }
}

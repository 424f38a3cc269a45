//! The places as a screen: a table as wide and as high as the terminal, drawn again in each interval.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::rows::Row;
use crate::text::{count, pps};

/// Another screen without a cursor, and back. What was on the terminal before comes back with it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the first place; to the end of the line; to the end of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// What a terminal that does not tell its size is taken for.
const USUAL: (usize, usize) = (80, 24);

/// The terminal, until this is dropped.
pub struct Screen {
    colour: bool,
}

impl Screen {
    /// Takes over standard output if that is a terminal which understands control sequences.
    pub fn take() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !io::stdout().is_terminal() {
            return None;
        }
        // https://no-color.org
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        write(ENTER);
        Some(Self { colour })
    }

    /// Shows the rows.
    pub fn draw(&self, rows: &[Row], elapsed: Duration) {
        let (width, height) = terminal_size::terminal_size()
            .map_or(USUAL, |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let mut text = HOME.to_owned();
        let lines = lines(rows, elapsed, width, height);
        for (n, line) in lines.iter().enumerate() {
            let lit = match n {
                0 | 1 if self.colour => Some(anstyle::Style::new().bold()),
                _ if self.colour && line.rising => Some(anstyle::AnsiColor::Yellow.on_default()),
                _ => None,
            };
            let end = if n + 1 == lines.len() { "" } else { "\r\n" };
            let _ = match lit {
                Some(style) => write!(text, "{style}{}{style:#}{REST_OF_LINE}{end}", line.text),
                None => write!(text, "{}{REST_OF_LINE}{end}", line.text),
            };
        }
        text += REST_OF_SCREEN;
        write(&text);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

/// Who closed the terminal does not want to know.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A line of the screen.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    /// Packets are being lost there.
    rising: bool,
}

/// Title, head, and as many rows as there is room for; no line is wider than `width`, and there are no more than `height`.
fn lines(rows: &[Row], elapsed: Duration, width: usize, height: usize) -> Vec<Line> {
    let plain = |text: String| Line { text: cut(&text, width), rising: false };
    let of_kernel = || rows.iter().filter(|row| row.source == "kernel");
    let mut lines = vec![plain(format!(
        "wirerate drops  {:.1} s  {} packets dropped, {} now  (Ctrl-C ends)",
        elapsed.as_secs_f64(),
        count(of_kernel().map(|row| row.packets).sum()),
        pps(of_kernel().map(|row| row.pps).sum())
    ))];
    let columns = Columns::of(rows, width);
    lines.push(plain(columns.line([
        "source",
        "namespace",
        "interface",
        "place",
        "reason",
        "now",
        "packets",
    ])));
    let room = height.saturating_sub(2);
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    for row in &rows[..shown] {
        let text = columns.line([
            row.source,
            &row.namespace,
            &row.interface,
            &row.place,
            &row.reason,
            &pps(row.pps),
            &count(row.packets),
        ]);
        lines.push(Line { text: cut(&text, width), rising: row.pps > 0 });
    }
    if shown < rows.len() {
        lines.push(plain(format!("… and {} more", rows.len() - shown)));
    }
    lines.truncate(height.max(1));
    lines
}

/// Widths of the columns; 0 for one that is left out.
struct Columns([usize; 7]);

impl Columns {
    /// What is least missed goes first where the terminal is narrow: who counts, then the namespace, then the place, then the rate.
    fn of(rows: &[Row], width: usize) -> Self {
        let widest = |head: &str, of: &dyn Fn(&Row) -> usize, most: usize| {
            rows.iter().map(of).max().unwrap_or(0).max(head.len()).min(most)
        };
        let letters = |text: &str| text.chars().count();
        let mut widths = [
            widest("source", &|r| letters(r.source), 8),
            widest("namespace", &|r| letters(&r.namespace), 24),
            widest("interface", &|r| letters(&r.interface), 15),
            widest("place", &|r| letters(&r.place), 11),
            widest("reason", &|r| letters(&r.reason), 60),
            widest("now", &|r| letters(&pps(r.pps)), 12),
            widest("packets", &|r| letters(&count(r.packets)), 19),
        ];
        let needed =
            |widths: &[usize; 7]| widths.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>() - 2;
        // The reason may be cut down to this.
        let short = widths[4].min(20);
        for left_out in [0, 1, 3, 5] {
            let with_short_reason = needed(&widths) - widths[4] + short;
            if with_short_reason > width {
                widths[left_out] = 0;
            }
        }
        let over = needed(&widths).saturating_sub(width);
        widths[4] = widths[4].saturating_sub(over).max(1);
        Self(widths)
    }

    fn line(&self, cells: [&str; 7]) -> String {
        let mut line = String::new();
        for (n, (cell, &width)) in cells.iter().zip(&self.0).enumerate().filter(|(_, (_, width))| **width > 0)
        {
            if !line.is_empty() {
                line += "  ";
            }
            let cell = cut(cell, width);
            let _ = if n < 5 { write!(line, "{cell:<width$}") } else { write!(line, "{cell:>width$}") };
        }
        line
    }
}

/// At most `width` letters, and a sign where some are missing.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(number: usize) -> Vec<Row> {
        let row = |n: usize| Row {
            source: "kernel",
            namespace: "4026532317".to_owned(),
            interface: format!("veth{n}"),
            place: "netfilter".to_owned(),
            reason: "NETFILTER_DROP".to_owned(),
            pps: 1_500 - n as u64,
            packets: 1_234_567,
        };
        (0..number).map(row).collect()
    }

    #[test]
    fn it_fits_every_terminal() {
        for width in [1, 10, 20, 40, 60, 80, 200] {
            for height in [1, 2, 3, 10, 50] {
                for number in [0, 1, 30] {
                    let lines = lines(&rows(number), Duration::from_secs(3), width, height);
                    assert!(lines.len() <= height, "{width} × {height}");
                    for line in lines {
                        assert!(line.text.chars().count() <= width, "{width} × {height}: {:?}", line.text);
                    }
                }
            }
        }
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let lines = lines(&rows(2), Duration::from_millis(1500), 120, 24);
        assert_eq!(
            lines[0].text,
            "wirerate drops  1.5 s  2,469,134 packets dropped, 3.00 kpps now  (Ctrl-C ends)"
        );
        let words: Vec<_> = lines[2].text.split_whitespace().collect();
        let wanted =
            ["kernel", "4026532317", "veth0", "netfilter", "NETFILTER_DROP", "1.50", "kpps", "1,234,567"];
        assert_eq!(words, wanted);
        assert!(lines[2].rising && !lines[1].rising);
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters_most() {
        let lines = lines(&rows(1), Duration::from_secs(1), 50, 24);
        let words: Vec<_> = lines[2].text.split_whitespace().collect();
        assert_eq!(words, ["veth0", "NETFILTER_DROP", "1.50", "kpps", "1,234,567"]);
        let many = super::lines(&rows(30), Duration::from_secs(1), 80, 10);
        assert_eq!(many.last().unwrap().text, "… and 23 more");
    }
}

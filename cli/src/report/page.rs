//! The page: what is on it as plain data, and the templates that make HTML of it. Templates escape every text; only plots, which come from
//! [`plots`](super::plots), go in as they are.

use askama::Template;

use super::document::State;
use super::view::View;
use super::words;

/// Looks of the page, light, dark and printed.
const STYLE: &str = include_str!("../../templates/report.css");

/// What a page says.
#[derive(Debug, Default)]
pub struct Page {
    /// What was run.
    pub title: String,
    /// When, where and how, a line each.
    pub subtitle: Vec<String>,
    /// What a reader should know of the page itself.
    pub notes: Vec<String>,
    /// How it came out.
    pub verdict: Verdict,
    /// The figures that matter most.
    pub headline: Vec<Headline>,
    /// The rest.
    pub sections: Vec<Section>,
    /// Name of the schema.
    pub schema: String,
}

/// How it came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// `pass`, `fail`, `inconclusive`, `running`, `none`.
    pub class: &'static str,
    /// In a word or two.
    pub word: String,
    /// Why.
    pub why: String,
}

/// A figure that matters.
#[derive(Debug)]
pub struct Headline {
    /// Of what.
    pub name: &'static str,
    /// The figure.
    pub cell: Cell,
    /// What else there is to say.
    pub note: String,
}

/// A part of the page.
#[derive(Debug, Default)]
pub struct Section {
    /// Title.
    pub title: String,
    /// In words, a paragraph each.
    pub text: Vec<String>,
    /// Plots.
    pub figures: Vec<Figure>,
    /// Tables.
    pub tables: Vec<Table>,
}

impl Section {
    /// With nothing in it.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.figures.is_empty() && self.tables.is_empty()
    }
}

/// A plot.
#[derive(Debug)]
pub struct Figure {
    /// Stable name of what is plotted: `rate`, `loss`, `waterfall`.
    pub kind: &'static str,
    /// Title.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// Names of the series, with how they are drawn.
    pub legend: Vec<Legend>,
    /// Points, bars or marks that were drawn.
    pub marks: usize,
    /// The plot itself: markup of the plotting library.
    pub svg: String,
}

/// A series by name.
#[derive(Debug)]
pub struct Legend {
    /// Name.
    pub name: String,
    /// Class of its colour and dashes.
    pub class: &'static str,
}

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Titles of the columns.
    pub columns: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<Cell>>,
    /// Rows that were left out.
    pub left_out: usize,
}

/// Rows of a table at most; CSV has them all.
pub const ROWS: usize = 240;

impl Table {
    /// With titles, and no row yet.
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            columns: columns.iter().map(|&c| c.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Whether a column holds numbers; templates give references.
    fn numeric(&self, column: &usize) -> bool {
        self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| cell.number))
    }

    /// Adds a row, unless there are too many.
    pub fn row(&mut self, cells: Vec<Cell>) {
        if self.rows.len() < ROWS { self.rows.push(cells) } else { self.left_out += 1 }
    }
}

/// What stands in one place of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// For people.
    pub text: String,
    /// The value as the result has it, and where it stands there.
    pub source: Option<(String, String)>,
    /// It is a number.
    pub number: bool,
    /// Class of its looks: `pass`, `fail`, `inconclusive` or none.
    pub class: &'static str,
}

impl Cell {
    /// A text of ours.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A part of the result, in the unit that its name says.
    pub fn of(view: &View<'_>) -> Self {
        Self {
            text: words::value(view),
            source: Some((view.path().to_owned(), view.value().to_string())),
            number: view.value().is_number(),
            class: words::class(view.value().as_str().unwrap_or_default()),
        }
    }

    /// The part of that name, or an empty cell.
    pub fn at(view: &View<'_>, names: &str) -> Self {
        view.get(names).map_or_else(Self::default, |part| Self::of(&part))
    }

    /// The same, written as the number itself.
    pub fn exact(view: &View<'_>, names: &str) -> Self {
        let mut cell = Self::at(view, names);
        if let Some(part) = view.get(names) {
            cell.text = words::exact(part.value());
        }
        cell
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Whole<'a> {
    page: &'a Page,
    state: &'static str,
    style: &'static str,
    version: &'static str,
    live: bool,
    written: bool,
}

#[derive(Template)]
#[template(path = "content.html")]
struct Content<'a> {
    page: &'a Page,
    state: &'static str,
    version: &'static str,
}

/// One file with all that the page needs.
pub fn whole(page: &Page, state: State) -> String {
    render(&Whole { page, state: name(state), style: STYLE, version: VERSION, live: false, written: true })
}

/// The page that follows a run: with a script, which the server has beside it.
pub fn live(page: &Page, state: State) -> String {
    render(&Whole { page, state: name(state), style: STYLE, version: VERSION, live: true, written: false })
}

/// What is inside the page.
pub fn content(page: &Page, state: State) -> String {
    render(&Content { page, state: name(state), version: VERSION })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn name(state: State) -> &'static str {
    match state {
        State::Complete => "complete",
        State::Running => "running",
        State::Cut => "cut",
    }
}

fn render(template: &impl Template) -> String {
    template.render().expect("templates only write to memory")
}

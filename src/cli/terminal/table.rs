//! Tables for people: as wide as the terminal, and aligned whatever the script.
//!
//! | column of | where a line is too short |
//! |---|---|
//! | numbers | They stay whole. |
//! | times | They lose their fractions first; then, once all text is as narrow as it gets, seconds and the time of day. |
//! | text | It is cut in its middle, as names often differ at their ends; the last column is cut at its end. |

use std::borrow::Cow;
use std::io::stdout;

use sekali::clock::Timestamp;
use terminal_size::{Width, terminal_size_of};

use super::text::{harmless, shortened, shortened_within, width};

/// Blanks between two columns.
const GAP: usize = 2;
/// Digits of the largest number there is.
const NUMBER_WIDTH_MAX: usize = 20;
/// Narrowest that a column of text is made, so that something of it can be read.
const TEXT_WIDTH_MIN: usize = 8;

/// A heading and rows, which may come little by little. Nothing in a cell can move the cursor.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heading: [&'static str; N],
    /// Width of a line; `None` where there is no bound.
    line_width: Option<usize>,
    /// Of each column, once the first rows were seen.
    columns: Option<[Column; N]>,
}

/// Widths of a time as the service gives it, and of the forms that it is cut to: without fractions,
/// without seconds, the date alone.
const TIME_WIDTHS: [usize; 4] = [27, 20, 16, 10];

#[derive(Clone, Copy, Debug)]
struct Column {
    width: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It stands to the right.
    Number,
    Time,
    Text,
}

impl Kind {
    fn of(cell: &str) -> Self {
        let is_number = cell.len() <= NUMBER_WIDTH_MAX && cell.bytes().all(|byte| byte.is_ascii_digit());
        let is_time =
            || cell.len() == TIME_WIDTHS[0] && cell.ends_with('Z') && Timestamp::parse(cell).is_some();
        match is_number {
            true => Self::Number,
            false if is_time() => Self::Time,
            false => Self::Text,
        }
    }
}

impl<const N: usize> Table<N> {
    /// A table that is as wide as the terminal of stdout.
    pub(crate) fn new(heading: [&'static str; N]) -> Self {
        let line_width = terminal_size_of(stdout()).map(|(Width(columns), _)| usize::from(columns));
        Self { heading, line_width: line_width.filter(|columns| *columns > 0), columns: None }
    }

    /// Rows, the first ones below the heading: each column is as wide as its widest cell was then,
    /// and narrower where that is more than a line takes.
    pub(crate) fn render(&mut self, rows: &[[String; N]]) -> String {
        if rows.is_empty() {
            return String::new();
        }
        let rows: Vec<[Cow<'_, str>; N]> =
            rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
        let mut lines = String::new();
        let columns = match self.columns {
            Some(columns) => columns,
            None => {
                let columns = self.measured(&rows);
                line(&mut lines, &self.heading.map(Cow::from), &columns, self.room());
                *self.columns.insert(columns)
            }
        };
        for row in &rows {
            line(&mut lines, row, &columns, self.room());
        }
        lines
    }

    /// Columns that cells may take, all together.
    fn room(&self) -> usize {
        self.line_width.map_or(usize::MAX, |columns| columns.saturating_sub(GAP * (N - 1)))
    }

    fn measured(&self, rows: &[[Cow<'_, str>; N]]) -> [Column; N] {
        let mut columns: [Column; N] = std::array::from_fn(|at| {
            let widest = rows.iter().map(|row| width(&row[at])).max().unwrap_or(0);
            let is = |kind| rows.iter().all(|row| Kind::of(&row[at]) == kind);
            let kind = [Kind::Number, Kind::Time].into_iter().find(|kind| is(*kind)).unwrap_or(Kind::Text);
            Column { width: widest.max(self.heading[at].len()), kind }
        });
        fit(&mut columns, &[TEXT_WIDTH_MIN; N], self.room());
        columns
    }
}

/// Makes columns narrower until all fit, those of text not than `least`: the widest gives way first.
fn fit<const N: usize>(columns: &mut [Column; N], least: &[usize; N], room: usize) {
    let of = |columns: &[Column; N]| columns.iter().map(|column| column.width).sum::<usize>();
    let shorten_times = |columns: &mut [Column; N], widths: &[usize]| {
        for width in widths {
            let times = columns.iter_mut().filter(|column| column.kind == Kind::Time);
            for column in times {
                column.width = column.width.min(*width);
            }
            if of(columns) <= room {
                return;
            }
        }
    };
    if of(columns) <= room {
        return;
    }
    shorten_times(columns, &TIME_WIDTHS[1..2]);
    let texts = columns.iter_mut().filter(|column| column.kind == Kind::Text);
    texts.for_each(|column| column.width = column.width.min(room));
    while of(columns) > room {
        let texts = columns.iter_mut().zip(least);
        let texts = texts.filter(|(column, least)| column.kind == Kind::Text && column.width > **least);
        let Some((widest, _)) = texts.max_by_key(|(column, _)| column.width) else { break };
        widest.width -= 1;
    }
    if of(columns) > room {
        shorten_times(columns, &TIME_WIDTHS[2..]);
    }
}

/// Writes a line. A cell that is wider than its column takes more, as long as the line fits.
fn line<const N: usize>(out: &mut String, cells: &[Cow<'_, str>; N], columns: &[Column; N], room: usize) {
    let mut own = std::array::from_fn(|at| {
        let width = columns[at].width.max(width(&cells[at]));
        Column { width, kind: Kind::of(&cells[at]) }
    });
    // A time is as wide as its column, which the heading may have made.
    for (own, column) in own.iter_mut().zip(columns) {
        if own.kind == Kind::Time && column.kind == Kind::Time {
            own.width = column.width;
        }
    }
    fit(&mut own, &columns.map(|column| column.width), room);
    let mut text = String::new();
    for (at, ((cell, own), column)) in cells.iter().zip(own).zip(columns).enumerate() {
        let cell = match own.kind {
            Kind::Number => Cow::Borrowed(&**cell),
            Kind::Time => short_time(cell, own.width),
            Kind::Text if at + 1 == N => shortened(cell, own.width),
            Kind::Text => shortened_within(cell, own.width),
        };
        let blanks = " ".repeat(own.width.saturating_sub(width(&cell)));
        match column.kind {
            Kind::Number => text.extend([&blanks, &*cell]),
            Kind::Time | Kind::Text => text.extend([&*cell, &blanks]),
        }
        text.push_str(&" ".repeat(GAP));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

/// A time in the longest form that fits.
fn short_time(cell: &str, columns: usize) -> Cow<'_, str> {
    match TIME_WIDTHS.iter().find(|width| **width <= columns) {
        Some(27) => cell.into(),
        Some(20) => format!("{}Z", &cell[..19]).into(),
        Some(16) => cell[..16].into(),
        _ => cell[..10].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered<const N: usize>(
        heading: [&'static str; N],
        line_width: Option<usize>,
        rows: &[[&str; N]],
    ) -> String {
        let rows: Vec<_> = rows.iter().map(|row| row.map(str::to_owned)).collect();
        Table { heading, line_width, columns: None }.render(&rows)
    }

    #[test]
    fn columns_are_aligned_and_harmless() {
        let table = rendered(["name", "n"], None, &[["a\u{1b}[2J", "7"], ["日本", "12"]]);
        assert_eq!(table, "name         n\na\\u001b[2J   7\n日本        12\n");
    }

    #[test]
    fn a_later_cell_that_is_wider_takes_more_while_the_line_fits() {
        let mut table = Table { heading: ["id", "n"], line_width: Some(20), columns: None };
        let row = |id: &str| [[id.to_owned(), "7".to_owned()]];
        assert_eq!(table.render(&row("a")), "id  n\na   7\n");
        assert_eq!(table.render(&row("abcdefgh")), "abcdefgh  7\n");
        assert_eq!(table.render(&row(&"1".repeat(30))), format!("{0}…{0}  7\n", "1".repeat(8)));
        assert_eq!(table.render(&row(&"x".repeat(30))), format!("{0}…{0}  7\n", "x".repeat(8)));
    }

    #[test]
    fn where_a_line_is_short_names_are_cut_in_their_middle_and_times_lose_what_matters_least() {
        let time = "2026-11-22T10:20:30.123456Z";
        let heading = ["topic", "stored", "dropped", "conflicts", "first", "last"];
        let names = ["orders.paid.europe.west-1", "orders.paid.europe.west-2"];
        let rows = names.map(|name| [name, "1234567", "12", "3", time, time]);
        for (columns, first, name) in [
            (120, time, names[0]),
            (100, "2026-11-22T10:20:30Z", names[0]),
            (82, "2026-11-22T10:20:30Z", "orde…st-1"),
            (80, "2026-11-22T10:20", "orders.….west-1"),
            (72, "2026-11-22", "orders.pa…pe.west-1"),
            (61, "2026-11-22", "orde…t-1"),
        ] {
            let table = rendered(heading, Some(columns), &rows);
            let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!((rows[1][0], rows[1][4], rows[1][5]), (name, first, first), "{columns}\n{table}");
            assert_ne!(rows[1][0], rows[2][0], "{table}");
            assert!(table.lines().all(|line| width(line) <= columns), "{columns}\n{table}");
        }
    }

    #[test]
    fn a_table_fits_the_terminal_and_numbers_stay_whole() {
        let long = "x".repeat(300);
        for (columns, wide) in [(80, true), (40, true), (27, true), (1, false)] {
            let rows = [[long.as_str(), "1234567", "short"], ["日本語".repeat(40).leak(), "7", &long]];
            let table = rendered(["name", "n", "other"], Some(columns), &rows);
            assert!(table.contains("1234567"), "{table}");
            assert!(!wide || table.lines().all(|line| width(line) <= columns), "{columns}\n{table}");
            let narrowest = table.lines().map(width).max();
            assert!(wide || narrowest <= Some(2 * TEXT_WIDTH_MIN + 7 + 2 * GAP), "{table}");
        }
        let rows = [[long.as_str(), "1"]];
        assert!(
            rendered(["name", "n"], None, &rows).contains(&long),
            "nothing is cut where there is no terminal"
        );
    }
}

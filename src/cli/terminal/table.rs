//! Tables for people: as wide as the terminal, and aligned whatever the script.

use std::borrow::Cow;
use std::io::stdout;

use terminal_size::{Width, terminal_size_of};

use super::text::{harmless, shortened, width};

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

#[derive(Clone, Copy, Debug)]
struct Column {
    width: usize,
    /// Numbers stand to the right, and are never cut.
    is_number: bool,
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
            let is_number = rows.iter().all(|row| is_number(&row[at]));
            Column { width: widest.max(self.heading[at].len()), is_number }
        });
        fit(&mut columns, &[TEXT_WIDTH_MIN; N], self.room());
        columns
    }
}

/// Whether a cell is a number: an id may be one by chance, but not a long one.
fn is_number(cell: &str) -> bool {
    cell.len() <= NUMBER_WIDTH_MAX && cell.bytes().all(|byte| byte.is_ascii_digit())
}

/// Makes columns of text narrower, but not than `least`, until all fit: the widest gives way first.
fn fit<const N: usize>(columns: &mut [Column; N], least: &[usize; N], room: usize) {
    columns
        .iter_mut()
        .filter(|column| !column.is_number)
        .for_each(|column| column.width = column.width.min(room));
    while columns.iter().map(|column| column.width).sum::<usize>() > room {
        let cut = columns
            .iter_mut()
            .zip(least)
            .filter(|(column, least)| !column.is_number && column.width > **least);
        let Some((widest, _)) = cut.max_by_key(|(column, _)| column.width) else { return };
        widest.width -= 1;
    }
}

/// Writes a line. A cell that is wider than its column takes more, as long as the line fits.
fn line<const N: usize>(out: &mut String, cells: &[Cow<'_, str>; N], columns: &[Column; N], room: usize) {
    let mut own = std::array::from_fn(|at| {
        let width = columns[at].width.max(width(&cells[at]));
        Column { width, is_number: is_number(&cells[at]) }
    });
    fit(&mut own, &columns.map(|column| column.width), room);
    let mut text = String::new();
    for ((cell, own), column) in cells.iter().zip(own).zip(columns) {
        let cell = if own.is_number { Cow::Borrowed(&**cell) } else { shortened(cell, own.width) };
        let blanks = " ".repeat(own.width.saturating_sub(width(&cell)));
        match column.is_number {
            true => text.extend([&blanks, &*cell]),
            false => text.extend([&*cell, &blanks]),
        }
        text.push_str(&" ".repeat(GAP));
    }
    out.push_str(text.trim_end());
    out.push('\n');
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
        assert_eq!(table.render(&row(&"1".repeat(30))), format!("{}…  7\n", "1".repeat(16)));
        assert_eq!(table.render(&row(&"x".repeat(30))), format!("{}…  7\n", "x".repeat(16)));
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

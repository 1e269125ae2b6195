//! Tables for people, and numbers as they read them.

use std::io::{self, Write};

use sekali::limits::EVENT_ID_BYTES_MAX;

/// Widest column that is aligned: the longest text that a service shows. What is longer sticks out.
pub(super) const WIDTH_MAX: usize = EVENT_ID_BYTES_MAX;

/// A heading and rows, which may come little by little. Nothing in a cell can move the cursor.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    heading: [&'static str; N],
    /// Width of each column, and whether it holds numbers; once the first rows were seen.
    columns: Option<[(usize, bool); N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heading: [&'static str; N]) -> Self {
        Self { heading, columns: None }
    }

    /// Writes rows, the first ones below the heading: each column is as wide as its widest cell was then; numbers to the
    /// right.
    pub(super) fn write(&mut self, out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<[String; N]> =
            rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
        let columns = match self.columns {
            Some(columns) => columns,
            None => {
                let columns = self.measured(&rows);
                write_line(out, self.heading, &columns)?;
                *self.columns.insert(columns)
            }
        };
        rows.iter().try_for_each(|row| write_line(out, row.each_ref().map(String::as_str), &columns))
    }

    fn measured(&self, rows: &[[String; N]]) -> [(usize, bool); N] {
        std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            let width = cells.max().unwrap_or(0).max(self.heading[column].len()).min(WIDTH_MAX);
            let is_number = |row: &[String; N]| row[column].chars().all(|c| c.is_ascii_digit());
            (width, rows.iter().all(is_number))
        })
    }
}

fn write_line<const N: usize>(
    out: &mut impl Write,
    cells: [&str; N],
    columns: &[(usize, bool); N],
) -> io::Result<()> {
    let mut text = String::new();
    for (cell, (width, is_number)) in cells.iter().zip(columns) {
        match is_number {
            true => text.push_str(&format!("{cell:>width$}  ")),
            false => text.push_str(&format!("{cell:<width$}  ")),
        }
    }
    writeln!(out, "{}", text.trim_end())
}

/// Text that a terminal takes for nothing but text.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `max` characters of a text.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let mut out = Vec::new();
        let rows = [["a\u{1b}[2J".to_owned(), "7".to_owned()], ["löng".to_owned(), "12".to_owned()]];
        Table::new(["name", "n"]).write(&mut out, &rows).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "name   n\na\u{fffd}[2J   7\nlöng  12\n"
                .replace("name   n", "name    n")
                .replace("löng  12", "löng   12")
        );
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äö", 2), "äö");
    }

    #[test]
    fn a_cell_of_any_length_sticks_out_and_leaves_the_other_rows_narrow() {
        let mut out = Vec::new();
        let (long, digits) = ("x".repeat(70_000), "1".repeat(70_000));
        let rows = [[long.clone(), digits.clone()], ["a".to_owned(), "7".to_owned()]];
        Table::new(["name", "n"]).write(&mut out, &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows[1], format!("{long}  {digits}"));
        assert_eq!(rows[2].len(), 2 * WIDTH_MAX + 2);
    }
}

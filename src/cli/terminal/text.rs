//! Text that comes from others, on a terminal: what it is made of can be seen, and moves nothing.

use std::borrow::Cow;
use std::io::IsTerminal;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Text with everything that a terminal obeys, or that shows nothing or turns the order round,
/// written as JSON escapes it: in a JSON text it stands within strings only, so what comes is the
/// same JSON.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_hidden(c) {
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Text as stdout gets it: harmless on a terminal; a file or a program gets what there is.
pub(crate) fn for_stdout(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() { harmless(text) } else { text.into() }
}

/// Whether a character is no sign that can be seen: controls, marks of direction, ends of lines and
/// paragraphs, what has no width. Combining marks stay, as most scripts need them.
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let hidden = matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::Unassigned
    );
    // The rest of what Unicode lets programs ignore: fillers and selectors.
    let ignorable = matches!(c,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    hidden || ignorable
}

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// As much of a text as fits, with a sign that there is more.
pub(crate) fn shortened(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return text.into();
    }
    let mut taken = 0;
    let kept = text.char_indices().take_while(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken < columns
    });
    let end = kept.last().map_or(0, |(at, c)| at + c.len_utf8());
    format!("{}…", &text[..end]).into()
}

/// As much of the begin and of the end of a text as fits, with a sign between them.
pub(crate) fn shortened_within(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return text.into();
    }
    let room = columns.saturating_sub(1);
    let fit = |room: usize, c: char, taken: &mut usize| {
        *taken += c.width().unwrap_or(0);
        *taken <= room
    };
    let (mut taken, mut end) = (0, text.len());
    for (at, c) in text.char_indices().rev().take_while(|(_, c)| fit(room / 2, *c, &mut taken)) {
        // A mark goes with what it stands on.
        if c.width().unwrap_or(0) > 0 {
            end = at;
        }
    }
    let (room, mut taken) = (room - width(&text[end..]), 0);
    let begin = text.char_indices().take_while(|(_, c)| fit(room, *c, &mut taken)).last();
    let begin = begin.map_or(0, |(at, c)| at + c.len_utf8());
    format!("{}…{}", &text[..begin], &text[end..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_written_as_json_escapes_it() {
        for (text, shown) in [
            ("a\u{1b}[2J\u{7f}", "a\\u001b[2J\\u007f"),
            ("\u{9b}31m\u{9d}0;t\u{9c}", "\\u009b31m\\u009d0;t\\u009c"),
            ("\u{202e}\u{2066}\u{200e}\u{61c}", "\\u202e\\u2066\\u200e\\u061c"),
            ("\u{200b}\u{200d}\u{feff}\u{ad}\u{2060}", "\\u200b\\u200d\\ufeff\\u00ad\\u2060"),
            ("\u{2028}\u{2029}\u{85}", "\\u2028\\u2029\\u0085"),
            ("\u{e0041}\u{fe0f}\u{3164}", "\\udb40\\udc41\\ufe0f\\u3164"),
            ("\r\n\t\u{0}", "\\u000d\\u000a\\u0009\\u0000"),
        ] {
            assert_eq!(harmless(text), shown);
        }
        for text in ["plain", "löng", "日本語\u{3000}です", "नमस्ते", "e\u{301}", "😀", "\"\\'"]
        {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn a_text_is_cut_by_the_columns_that_it_takes() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü", 2), "ä…");
        assert_eq!(shortened("日本語", 6), "日本語");
        assert_eq!(shortened("日本語", 5), "日本…");
        assert_eq!(shortened("日本語", 4), "日…");
        assert_eq!(width("日本語"), 6);
        assert_eq!(shortened_within("abcdef", 6), "abcdef");
        assert_eq!(shortened_within("abcdef", 5), "ab…ef");
        assert_eq!(shortened_within("abcdef", 4), "ab…f");
        assert_eq!(shortened_within("abcdef", 1), "…");
        assert_eq!(shortened_within("日本語です", 6), "日…す");
        assert_eq!(shortened_within("abcde\u{301}", 4), "ab…e\u{301}");
    }
}

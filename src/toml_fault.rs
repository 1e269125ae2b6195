//! What is wrong with a TOML file, for logs and people, without the values of lines that may hold a
//! secret: somebody may have pasted one where none belongs.

/// Longest key that is shown of a line with a secret; a token is longer.
const KEY_BYTES_MAX: usize = 40;

/// The place of a fault and what is wrong, as "line 3, `key`: …". `may_be_secret` says of a line
/// that its value, and those after it, are not to be shown.
pub fn sentence(text: &str, fault: &toml::de::Error, may_be_secret: impl Fn(&str) -> bool) -> String {
    let message = fault.message().lines().next().unwrap_or_default();
    let at = fault.span().map_or(0, |span| span.start.min(text.len()));
    let number = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    let number = number + 1;
    if !text.lines().take(number).any(may_be_secret) {
        return format!("line {number}, `{line}`: {message}");
    }
    let message = without_values(message);
    match key(line) {
        Some(key) => format!("line {number}, `{key}`: {message}"),
        None => format!("line {number}: {message}"),
    }
}

/// The key or the name of the table in a line, if it has one.
fn key(line: &str) -> Option<&str> {
    let key = if line.starts_with('[') { line } else { line.split_once('=')?.0.trim_end() };
    (key.len() <= KEY_BYTES_MAX).then_some(key)
}

/// A parser's sentence without the values of the file that it quotes. A name that is no longer than
/// those of settings stays, and so does what the parser expects.
fn without_values(message: &str) -> String {
    let (told, expected) = message.split_at(message.find(", expected").unwrap_or(message.len()));
    let mut told = without_quoted(told, '"');
    let name = told.split('`').nth(1).unwrap_or_default();
    if told.starts_with("invalid") || name.len() > KEY_BYTES_MAX {
        told = without_quoted(&told, '`');
    }
    told + expected
}

/// A sentence without what stands from the first of these marks to the last.
fn without_quoted(sentence: &str, mark: char) -> String {
    match (sentence.find(mark), sentence.rfind(mark)) {
        (Some(start), Some(end)) if start < end => format!("{}…{}", &sentence[..start], &sentence[end + 1..]),
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read in vain")]
    struct Sample {
        #[serde(default)]
        name: String,
        #[serde(default)]
        number: u32,
    }

    fn told(text: &str, is_secret: bool) -> String {
        let fault = toml::from_str::<Sample>(text).unwrap_err();
        sentence(text, &fault, |_| is_secret)
    }

    #[test]
    fn a_secret_in_any_place_of_a_file_is_not_told() {
        const SECRET: &str = "sekali_8hQ2mVx0Lr_plantedplantedplantedplantedplantedplantedpla";
        for text in [
            format!("name = \"a\"\nnumber = \"{SECRET}\""),
            format!("name = {SECRET}"),
            format!("{SECRET} = \"admin\""),
            format!("\n{SECRET}\n"),
            format!("name = \"{SECRET}"),
            format!("name = \"\"\"\n{SECRET}"),
            format!("[{SECRET}"),
            format!("name = [\"{SECRET}\"]"),
            format!("name = {{ \"{SECRET}\" = 1 }}"),
            format!("\"{SECRET}\" = 1"),
            format!("name = \"a\" {SECRET}"),
        ] {
            let told = told(&text, true);
            assert!(told.starts_with("line ") && !told.contains("planted"), "{text}: {told}");
        }
    }

    #[test]
    fn a_fault_has_its_line_its_key_and_its_reason() {
        assert_eq!(
            told("name = \"a\"\nnumber = \"5\"", true),
            "line 2, `number`: invalid type: string …, expected u32"
        );
        assert!(told("title = 1", true).contains("unknown field `title`, expected `name` or `number`"));
        assert!(
            told("number = \"5\"", false).starts_with("line 1, `number = \"5\"`: invalid type: string \"5\"")
        );
    }
}
